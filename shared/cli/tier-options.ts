/** Options of `region` and `pop` as the configuration wants them, and the configuration file they may name. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { CodedError } from '../errors.ts'
import type { ConfigInput } from '../config.ts'
import type { CliContext } from './context.ts'

export function configInput(options: Readonly<Record<string, unknown>>, configFile: string | undefined, context: CliContext): ConfigInput {
  return { options, env: context.env, file: configFile === undefined ? null : { name: configFile, values: readConfigFile(configFile, context.cwd) } }
}

function readConfigFile(file: string, cwd: string): unknown {
  try {
    return JSON.parse(readFileSync(resolve(cwd, file), 'utf8')) as unknown
  } catch (error) {
    throw new CodedError('ERR_CONFIG', [`${file}: ${error instanceof Error ? error.message : String(error)}`])
  }
}

/** For commander: `--dev`, `--dev true`, `--dev false`. */
export function trueOrFalse(text: string): boolean {
  if (text !== 'true' && text !== 'false') throw new CodedError('ERR_USAGE', [`${JSON.stringify(text)} is neither true nor false`])
  return text === 'true'
}
