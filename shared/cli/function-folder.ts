/** Which functions a directory holds: the one its configuration names, or one for each file at its top level. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import type { ConfigurationMembers } from './api-client.ts'
import { ROUTES_NOTE, readProject } from './project-config.ts'

export interface FolderFunction {
  readonly name: string
  /** Absolute path. */
  readonly entry: string
  readonly members: ConfigurationMembers
  /** A file of a folder is a function only if it exports a handler; what a configuration names has to be one. */
  readonly declared: boolean
}

export interface Folder {
  readonly functions: readonly FolderFunction[]
  /** What the reader should know: unsupported members, files whose name is no function's. */
  readonly notes: readonly string[]
}

const SOURCE_FILE = /^(.+)\.(js|mjs|ts)$/
/** `eslint.config.js`, `hello.test.ts` and `types.d.ts` are no functions; a dot cannot be in a function's name anyway. */
const FUNCTION_FILE = /^[A-Za-z0-9_-]{1,64}$/

/** Throws ERR_CONFIG. */
export function readFolder(dir: string): Folder {
  const secrets = readDevVars(dir)
  const withSecrets = (members: ConfigurationMembers): ConfigurationMembers => (secrets === null ? members : { ...members, Outpost: { ...members.Outpost, Secrets: secrets } })
  const project = readProject(dir)
  if (project !== null) {
    const notes = project.ignored.map((member) => `${project.file}: ${member} is not supported and was left out`)
    if ((project.members.Outpost?.Routes ?? []).length > 0) notes.push(`${project.file}: ${ROUTES_NOTE}`)
    return { functions: [{ name: project.name, entry: project.entry, members: withSecrets(project.members), declared: true }], notes }
  }
  const functions = new Map<string, FolderFunction>()
  const notes: string[] = []
  for (const file of readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => entry.name).sort()) {
    const name = SOURCE_FILE.exec(file)?.[1]
    if (name === undefined || !FUNCTION_FILE.test(name)) continue
    const other = functions.get(name)
    if (other !== undefined) notes.push(`${file} is left out: ${other.entry} already is the function ${name}`)
    else functions.set(name, { name, entry: join(dir, file), members: withSecrets({}), declared: false })
  }
  return { functions: [...functions.values()], notes }
}

/** `.dev.vars` as wrangler has it: secrets of a development server. Null without one. */
function readDevVars(dir: string): Record<string, string> | null {
  const file = join(dir, '.dev.vars')
  if (!existsSync(file)) return null
  const parsed = parseEnv(readFileSync(file, 'utf8'))
  return Object.fromEntries(Object.entries(parsed).filter((entry): entry is [string, string] => entry[1] !== undefined))
}
