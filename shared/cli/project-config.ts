/**
 * What a project says about its function: outpost.json, wrangler.jsonc (the parts we honour), or package.json `main`.
 * Ours is strict; wrangler's has many members that mean nothing here, and those that would change what a function does
 * are named in `ignored` instead of being dropped in silence.
 */
import { existsSync, readFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { z } from 'zod'
import { CodedError } from '../errors.ts'
import { LATENCY_SENSITIVITIES } from '../worker/types.ts'
import type { ConfigurationMembers } from './api-client.ts'

/** What has to be said where routes are given. */
export const ROUTES_NOTE = 'routes are kept with the function, but no POP serves by them yet: use /fn/NAME/ or http://NAME.DOMAIN'

export interface ProjectConfig {
  readonly file: string
  readonly name: string
  /** Absolute path. */
  readonly entry: string
  readonly members: ConfigurationMembers
  /** Members that are understood but not supported. */
  readonly ignored: readonly string[]
}

/** `host` or `host/path`, a star at the host's beginning and at the path's end, as Workers routes are written. */
const ROUTE = /^(?:\*|(?:\*\.?)?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?:\/[!$%&'()+,./0-9:;=@A-Z_a-z~-]*\*?)?$/i
const routePattern = z.string().regex(ROUTE, 'a route is host or host/path, with * at the beginning of the host or at the end of the path')
/** A scheme says nothing here: POPs serve a host by whatever reaches them. */
const wranglerPattern = z.string().transform((text) => text.replace(/^https?:\/\//i, '')).pipe(routePattern)
/** A custom domain is a host with all its paths. Its zone is a matter of Cloudflare's. */
const wranglerRoute = z.union([
  wranglerPattern,
  z.looseObject({ pattern: wranglerPattern, custom_domain: z.boolean().optional() }).transform(({ pattern, custom_domain }) => (custom_domain === true ? `${pattern}/*` : pattern)),
])

const outpostSchema = z.strictObject({
  $schema: z.string().optional(),
  name: z.string().optional(),
  main: z.string(),
  vars: z.record(z.string(), z.string()).optional(),
  limits: z.strictObject({ cpu_ms: z.int().positive().optional(), subrequests: z.int().nonnegative().optional() }).optional(),
  timeout_s: z.int().positive().optional(),
  memory_mib: z.int().positive().optional(),
  prime: z.union([z.literal(false), z.array(z.string())]).optional(),
  routes: z.array(routePattern).optional(),
  /** One request may run it more than once. */
  idempotent: z.boolean().optional(),
  latency_sensitivity: z.enum(LATENCY_SENSITIVITIES).optional(),
  sessions: z.union([
    z.literal(false),
    z.strictObject({ header: z.string().optional(), cookie: z.string().optional(), idle_s: z.int().positive().optional(), max_age_s: z.int().positive().optional() })
      .refine(({ header, cookie }) => header !== undefined || cookie !== undefined, 'header or cookie says how requests name their session'),
  ]).optional(),
})

const wranglerSchema = z.looseObject({
  name: z.string().optional(),
  main: z.string().optional(),
  vars: z.record(z.string(), z.unknown()).optional(),
  limits: z.looseObject({ cpu_ms: z.int().positive().optional(), subrequests: z.int().nonnegative().optional() }).optional(),
  route: wranglerRoute.optional(),
  routes: z.array(wranglerRoute).optional(),
})

/** Members of wrangler's that a function would miss. */
const WRANGLER_UNSUPPORTED = ['kv_namespaces', 'services', 'queues', 'durable_objects', 'r2_buckets', 'd1_databases', 'ratelimits', 'triggers', 'version_metadata', 'tail_consumers', 'assets', 'build', 'rules', 'alias', 'define', 'ai', 'browser', 'hyperdrive', 'vectorize', 'workflows']

/** The project's one function, or null if the directory does not say `main`. Throws ERR_CONFIG naming file and member. */
export function readProject(dir: string): ProjectConfig | null {
  return readOutpost(dir) ?? readWrangler(dir) ?? readPackage(dir)
}

function readOutpost(dir: string): ProjectConfig | null {
  const file = join(dir, 'outpost.json')
  if (!existsSync(file)) return null
  const config = check(outpostSchema, readJson(file), file)
  return project(dir, file, config.main, config.name, {
    ...(config.timeout_s === undefined ? {} : { Timeout: config.timeout_s }),
    ...(config.memory_mib === undefined ? {} : { MemorySize: config.memory_mib }),
    ...variables(config.vars),
    Outpost: {
      ...limits(config.limits),
      ...(config.prime === undefined ? {} : { Prime: config.prime }),
      ...(config.routes === undefined ? {} : { Routes: config.routes }),
      ...(config.idempotent === undefined ? {} : { Idempotent: config.idempotent }),
      ...(config.latency_sensitivity === undefined ? {} : { LatencySensitivity: config.latency_sensitivity }),
      ...(config.sessions === undefined ? {} : { Sessions: sessionMembers(config.sessions) }),
    },
  })
}

function readWrangler(dir: string): ProjectConfig | null {
  const file = ['wrangler.jsonc', 'wrangler.json'].map((name) => join(dir, name)).find((path) => existsSync(path))
  if (file === undefined) return null
  const raw = readJson(file)
  const config = check(wranglerSchema, raw, file)
  if (config.main === undefined) return null
  const texts = Object.entries(config.vars ?? {}).map(([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value)] as const)
  const routes = config.routes ?? (config.route === undefined ? undefined : [config.route])
  return project(dir, file, config.main, config.name, {
    ...variables(config.vars === undefined ? undefined : Object.fromEntries(texts)),
    Outpost: { ...limits(config.limits), ...(routes === undefined ? {} : { Routes: routes }) },
  }, WRANGLER_UNSUPPORTED.filter((member) => member in config))
}

function readPackage(dir: string): ProjectConfig | null {
  const file = join(dir, 'package.json')
  if (!existsSync(file)) return null
  const config = check(z.looseObject({ main: z.string().optional(), name: z.string().optional() }), readJson(file), file)
  if (config.main === undefined) return null
  // A scope is no part of a function's name.
  return project(dir, file, config.main, config.name?.split('/').at(-1), {})
}

function project(dir: string, file: string, main: string, name: string | undefined, members: ConfigurationMembers, ignored: readonly string[] = []): ProjectConfig {
  const entry = resolve(dir, main)
  if (!existsSync(entry)) throw new CodedError('ERR_CONFIG', [`${file}: main names ${main}, and there is no such file`])
  const safeName = (name ?? basename(resolve(dir))).replace(/[^A-Za-z0-9_-]+/g, '-').slice(0, 64)
  return { file, name: safeName, entry, members, ignored }
}

function variables(vars: Readonly<Record<string, string>> | undefined): ConfigurationMembers {
  return vars === undefined ? {} : { Environment: { Variables: vars } }
}

function limits(given: { readonly cpu_ms?: number | undefined; readonly subrequests?: number | undefined } | undefined): NonNullable<ConfigurationMembers['Outpost']> {
  if (given === undefined) return {}
  return { Limits: { ...(given.cpu_ms === undefined ? {} : { CpuMs: given.cpu_ms }), ...(given.subrequests === undefined ? {} : { SubrequestMax: given.subrequests }) } }
}

function sessionMembers(given: NonNullable<z.infer<typeof outpostSchema>['sessions']>): NonNullable<NonNullable<ConfigurationMembers['Outpost']>['Sessions']> {
  if (given === false) return false
  const { header, cookie, idle_s: idleSeconds, max_age_s: maxAgeSeconds } = given
  return {
    ...(header === undefined ? {} : { Header: header }),
    ...(cookie === undefined ? {} : { Cookie: cookie }),
    ...(idleSeconds === undefined ? {} : { IdleSeconds: idleSeconds }),
    ...(maxAgeSeconds === undefined ? {} : { MaxAgeSeconds: maxAgeSeconds }),
  }
}

function check<T>(schema: z.ZodType<T>, value: unknown, file: string): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const where = issue === undefined || issue.path.length === 0 ? '' : `${issue.path.join('.')}: `
  throw new CodedError('ERR_CONFIG', [`${file}: ${where}${issue?.message ?? 'invalid'}`])
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(stripJsonComments(readFileSync(file, 'utf8'))) as unknown
  } catch (error) {
    throw new CodedError('ERR_CONFIG', [`${file}: ${error instanceof Error ? error.message : String(error)}`])
  }
}

/**
 * JSON with comments and trailing commas as plain JSON. One expression walks the text: strings are matched first and
 * kept, so that what looks like a comment inside one stays. Newlines stay, for the parser's line numbers.
 */
export function stripJsonComments(text: string): string {
  const withoutComments = text.replace(/"(?:\\.|[^"\\])*"|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, (match) => (match.startsWith('"') ? match : match.replace(/[^\n]/g, ' ')))
  return withoutComments.replace(/"(?:\\.|[^"\\])*"|,(?=\s*[}\]])/g, (match) => (match === ',' ? '' : match))
}
