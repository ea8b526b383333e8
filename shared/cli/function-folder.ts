/** Which functions a directory holds: the one its configuration names, or one for each file at its top level. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import type { ConfigurationMembers } from './api-client.ts'
import type { BundleSettings } from './bundle-settings.ts'
import { readProject, type ProjectConfig } from './project-config.ts'

export interface FolderFunction {
  readonly name: string
  /** Absolute path. */
  readonly entry: string
  readonly members: ConfigurationMembers
  readonly source: BundleSettings
  /** A file of a folder is a function only if it exports a handler; what a configuration names has to be one. */
  readonly declared: boolean
}

export interface Folder {
  readonly functions: readonly FolderFunction[]
  /** What the reader should know: unsupported members, files whose name is no function's. */
  readonly notes: readonly string[]
  /** What the configuration says, if there is one. */
  readonly project: ProjectConfig | null
}

export interface FolderOptions {
  /** Null: the top level of the configuration. */
  readonly environment?: string | null
  /** Configuration in place of the folder's own. */
  readonly file?: string | null
  /** Variables in place of those of the same name. */
  readonly vars?: Readonly<Record<string, string>>
}

const SOURCE_FILE = /^(.+)\.(js|mjs|ts)$/
/** `eslint.config.js`, `hello.test.ts` and `types.d.ts` are no functions; a dot cannot be in a function's name anyway. */
const FUNCTION_FILE = /^[A-Za-z0-9_-]{1,64}$/

/** Throws ERR_CONFIG. */
export function readFolder(dir: string, options: FolderOptions = {}): Folder {
  const { environment = null, file = null, vars = {} } = options
  const secrets = readDevVars(dir, environment)
  const local = (members: ConfigurationMembers): ConfigurationMembers => withLocalValues(members, vars, secrets)
  const project = readProject(dir, { environment, file })
  if (project !== null) {
    const { name, entry, source, notes } = project
    return { functions: [{ name, entry, source, members: local(project.members), declared: true }], notes, project }
  }
  const functions = new Map<string, FolderFunction>()
  const notes: string[] = []
  for (const file of readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => entry.name).sort()) {
    const name = SOURCE_FILE.exec(file)?.[1]
    if (name === undefined || !FUNCTION_FILE.test(name)) continue
    const other = functions.get(name)
    if (other !== undefined) notes.push(`${file} is left out: ${other.entry} already is the function ${name}`)
    else functions.set(name, { name, entry: join(dir, file), members: local({}), source: {}, declared: false })
  }
  return { functions: [...functions.values()], notes, project: null }
}

/** What stands beside a configuration counts more than what is in it: first the command line, then `.dev.vars`. */
function withLocalValues(members: ConfigurationMembers, vars: Readonly<Record<string, string>>, secrets: Readonly<Record<string, string>> | null): ConfigurationMembers {
  const { Environment: environment, Outpost: outpost = {} } = members
  const own = Object.fromEntries(Object.entries(secrets ?? {}).filter(([name]) => !Object.hasOwn(vars, name)))
  const without = <T>(values: Readonly<Record<string, T>>): Readonly<Record<string, T>> => Object.fromEntries(Object.entries(values).filter(([name]) => !Object.hasOwn(own, name) && !Object.hasOwn(vars, name)))
  return {
    ...members,
    ...(environment === undefined && Object.keys(vars).length === 0 ? {} : { Environment: { Variables: { ...without(environment?.Variables ?? {}), ...vars } } }),
    Outpost: {
      ...outpost,
      ...(outpost.JsonVariables === undefined ? {} : { JsonVariables: without(outpost.JsonVariables) }),
      ...(secrets === null ? {} : { Secrets: own }),
    },
  }
}

/** `.dev.vars` as wrangler has it: secrets of a development server. An environment may have its own. Null without one. */
function readDevVars(dir: string, environment: string | null): Record<string, string> | null {
  const names = environment === null ? ['.dev.vars'] : [`.dev.vars.${environment}`, '.dev.vars']
  const file = names.map((name) => join(dir, name)).find((path) => existsSync(path))
  if (file === undefined) return null
  const parsed = parseEnv(readFileSync(file, 'utf8'))
  return Object.fromEntries(Object.entries(parsed).filter((entry): entry is [string, string] => entry[1] !== undefined))
}
