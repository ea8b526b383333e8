/**
 * What a project says about its function: outpost.jsonc, a wrangler configuration, or package.json `main`. Ours is strict;
 * of wrangler's what would change what a function does and is not to be had is told in `notes`.
 */
import { existsSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { z } from 'zod'
import { CodedError } from '../errors.ts'
import type { ConfigurationMembers } from './api-client.ts'
import type { BundleSettings } from './bundle-settings.ts'
import { checkConfig, findConfigFile, readConfigFile } from './config-file.ts'
import { selectEnvironment } from './environments.ts'
import { OUTPOST_NOT_INHERITED, outpostMembers, outpostSchema } from './outpost-config.ts'
import { WRANGLER_NOT_INHERITED, wranglerMembers, wranglerNotes, wranglerSchema } from './wrangler-config.ts'

const OUTPOST_FILES = ['outpost.jsonc', 'outpost.json'] as const
/** In wrangler's order; it also takes the first. */
const WRANGLER_FILES = ['wrangler.json', 'wrangler.jsonc', 'wrangler.toml'] as const

/** What has to be said where routes are given. */
export const ROUTES_NOTE = 'routes are kept with the function, but no POP serves by them yet: use /fn/NAME/ or http://NAME.DOMAIN'

export interface ProjectConfig {
  readonly file: string
  readonly name: string
  /** Absolute path. With a build command it may not be there before that has run. */
  readonly entry: string
  readonly members: ConfigurationMembers
  readonly source: BundleSettings
  /** A shell command that makes the entry, and the folder where it runs. */
  readonly build: { readonly command: string; readonly cwd: string } | null
  /** Where a development server listens, if the file says so. */
  readonly dev: { readonly host: string | null; readonly port: number | null }
  /** What its author should know, a line each. */
  readonly notes: readonly string[]
}

export interface ProjectOptions {
  /** Null: the top level. */
  readonly environment?: string | null
  /** Null: the one that the folder has. */
  readonly file?: string | null
  /** In place of the file's `main`, absolute. */
  readonly entry?: string | null
}

/** The project's one function, or null if the folder does not say `main`. Throws ERR_CONFIG naming file and member. */
export function readProject(dir: string, options: ProjectOptions = {}): ProjectConfig | null {
  const { environment = null } = options
  const project = options.file == null ? readFolderProject(dir, options) : readFile(resolve(dir, options.file), options)
  if (project === null && environment !== null) throw new CodedError('ERR_CONFIG', [`${dir}: no configuration says what env.${environment} is`])
  return project
}

function readFolderProject(dir: string, options: ProjectOptions): ProjectConfig | null {
  const ours = findConfigFile(dir, OUTPOST_FILES)
  if (ours !== null) return readOutpost(ours, options)
  const wranglers = WRANGLER_FILES.map((name) => resolve(dir, name)).find((path) => existsSync(path))
  return wranglers === undefined ? readPackage(dir, options) : readWrangler(wranglers, options)
}

function readFile(file: string, options: ProjectOptions): ProjectConfig | null {
  if (!existsSync(file)) throw new CodedError('ERR_CONFIG', [`there is no file ${file}`])
  return /^wrangler\b/.test(basename(file)) || file.endsWith('.toml') ? readWrangler(file, options) : readOutpost(file, options)
}

function readOutpost(file: string, options: ProjectOptions): ProjectConfig {
  const whole = checkConfig(outpostSchema, readConfigFile(file), file)
  const { members, notes } = selectEnvironment(file, whole, options.environment ?? null, OUTPOST_NOT_INHERITED)
  // Parts were checked as such; what they make together is checked as well.
  const config = checkConfig(outpostSchema, members, file)
  return project(file, config, outpostMembers(config), notes, options)
}

function readWrangler(file: string, options: ProjectOptions): ProjectConfig | null {
  const raw = checkConfig(z.looseObject({ env: z.record(z.string(), z.looseObject({})).optional() }), readConfigFile(file), file)
  checkConfig(wranglerSchema, raw, file)
  const { members, notes } = selectEnvironment(file, raw, options.environment ?? null, WRANGLER_NOT_INHERITED)
  const config = checkConfig(wranglerSchema, members, file)
  if (config.main === undefined && options.entry == null) return null
  return project(file, config, wranglerMembers(config), [...notes, ...wranglerNotes(config).map((note) => `${file}: ${note}`)], options)
}

function readPackage(dir: string, options: ProjectOptions): ProjectConfig | null {
  const file = resolve(dir, 'package.json')
  // It says nothing of functions, so it does not count where a file was named.
  if (!existsSync(file) || options.entry != null || options.environment != null) return null
  const config = checkConfig(z.looseObject({ main: z.string().optional(), name: z.string().optional() }), readConfigFile(file), file)
  if (config.main === undefined) return null
  // A scope is no part of a function's name.
  return project(file, { main: config.main, name: config.name?.split('/').at(-1) }, {}, [], options)
}

interface Common extends BundleSettings {
  readonly main?: string | undefined
  readonly name?: string | undefined
  readonly build?: { readonly command?: string | undefined; readonly cwd?: string | undefined } | undefined
  readonly dev?: { readonly ip?: string | undefined; readonly port?: number | undefined } | undefined
}

function project(file: string, config: Common, members: ConfigurationMembers, notes: readonly string[], options: ProjectOptions): ProjectConfig {
  const dir = dirname(file)
  const entry = options.entry ?? resolve(dir, config.main ?? '')
  const build = config.build?.command === undefined ? null : { command: config.build.command, cwd: resolve(dir, config.build.cwd ?? '.') }
  if (build === null && !existsSync(entry)) throw new CodedError('ERR_CONFIG', [`${file}: main names ${config.main ?? ''}, and there is no such file`])
  const { alias, define, minify, rules, tsconfig, jsx_factory, jsx_fragment } = config
  return {
    file, entry, members, build,
    name: (config.name ?? basename(dir)).replace(/[^A-Za-z0-9_-]+/g, '-').slice(0, 64),
    source: { alias, define, minify, rules, tsconfig, jsx_factory, jsx_fragment },
    dev: { host: config.dev?.ip ?? null, port: config.dev?.port ?? null },
    notes: (members.Outpost?.Routes ?? []).length > 0 ? [...notes, `${file}: ${ROUTES_NOTE}`] : notes,
  }
}
