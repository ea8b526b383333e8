/** Configuration files: which one a folder has, and what stands in it as plain values. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse as parseToml } from 'smol-toml'
import type { z } from 'zod'
import { CodedError } from '../errors.ts'

/** The first of `names` in `dir`, or null. Throws ERR_CONFIG if there are several: which one counts would be a guess. */
export function findConfigFile(dir: string, names: readonly string[]): string | null {
  const [file, other] = names.map((name) => join(dir, name)).filter((path) => existsSync(path))
  if (other !== undefined) throw new CodedError('ERR_CONFIG', [`${file} and ${other} say the same thing twice: keep one of them`])
  return file ?? null
}

/** JSON, with comments and trailing commas, or by its name TOML. Throws ERR_CONFIG. */
export function readConfigFile(file: string): unknown {
  try {
    const text = readFileSync(file, 'utf8')
    return file.endsWith('.toml') ? parseToml(text) : (JSON.parse(stripJsonComments(text)) as unknown)
  } catch (error) {
    throw new CodedError('ERR_CONFIG', [`${file}: ${error instanceof Error ? error.message : String(error)}`])
  }
}

/** Throws ERR_CONFIG naming file and member. */
export function checkConfig<T>(schema: z.ZodType<T>, value: unknown, file: string): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const where = issue === undefined || issue.path.length === 0 ? '' : `${issue.path.join('.')}: `
  throw new CodedError('ERR_CONFIG', [`${file}: ${where}${issue?.message ?? 'invalid'}`])
}

/**
 * JSON with comments and trailing commas as plain JSON. One expression walks the text: strings are matched first and
 * kept, so that what looks like a comment inside one stays. Newlines stay, for the parser's line numbers.
 */
export function stripJsonComments(text: string): string {
  const withoutComments = text.replace(/"(?:\\.|[^"\\])*"|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, (match) => (match.startsWith('"') ? match : match.replace(/[^\n]/g, ' ')))
  return withoutComments.replace(/"(?:\\.|[^"\\])*"|,(?=\s*[}\]])/g, (match) => (match === ',' ? '' : match))
}
