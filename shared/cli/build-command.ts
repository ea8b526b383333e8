/** A project's own build step, before its function is bundled. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { CodedError } from '../errors.ts'
import type { CliContext } from './context.ts'
import type { ProjectConfig } from './project-config.ts'

/** Says what it runs, since that comes from a file that may not be the caller's own. Throws ERR_CONFIG if it fails or makes no entry. */
export async function runBuildCommand({ file, build, entry }: ProjectConfig, context: Pick<CliContext, 'err' | 'env'>): Promise<void> {
  if (build === null) return
  context.err(`${file}: running build.command: ${build.command}\n`)
  const child = spawn(build.command, { cwd: build.cwd, shell: true, stdio: ['ignore', 'pipe', 'pipe'], env: { ...context.env } })
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => context.err(chunk.toString()))
  const failure = await new Promise<string | null>((resolve) => {
    child.once('error', (error) => resolve(error.message))
    child.once('close', (code, signal) => resolve(code === 0 ? null : `it ended with ${code === null ? String(signal) : `exit code ${code}`}`))
  })
  if (failure !== null) throw new CodedError('ERR_CONFIG', [`${file}: build.command failed: ${failure}`])
  if (!existsSync(entry)) throw new CodedError('ERR_CONFIG', [`${file}: build.command has made no ${entry}, which main names`])
}
