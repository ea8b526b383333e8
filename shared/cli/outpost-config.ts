/** Our own configuration, outpost.jsonc: the schema is its manual, and editors read it as config-schema.json (config-schema.ts). */
import { z } from 'zod'
import { originSchema } from '../api/origin.ts'
import { FUNCTION_LIMIT_MAX, SERVICES_PER_FUNCTION_MAX } from '../limits.ts'
import { LATENCY_SENSITIVITIES } from '../worker/types.ts'
import type { ConfigurationMembers, ServiceMember } from './api-client.ts'
import { sourceSettings } from './bundle-settings.ts'

/** `host` or `host/path`, a star at the host's beginning and at the path's end, as Workers routes are written. */
const ROUTE = /^(?:\*|(?:\*\.?)?[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?)(?:\/[!$%&'()+,./0-9:;=@A-Z_a-z~-]*\*?)?$/
export const routePattern = z.string().regex(ROUTE, 'a route is host or host/path, with * at the beginning of the host or at the end of the path')
export const variables = z.record(z.string(), z.json())
const functionName = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'a function has letters, digits, hyphens and underscores, at most 64')

const limits = z.strictObject({
  cpu_ms: z.int().min(1).max(FUNCTION_LIMIT_MAX.cpuMs).optional().describe('CPU time of one invocation, ms. Default 50.'),
  subrequests: z.int().min(0).max(FUNCTION_LIMIT_MAX.subrequestMax).optional().describe('Outbound requests and calls of services of one invocation. Default 50.'),
  response_bytes: z.int().min(1).max(FUNCTION_LIMIT_MAX.responseMaxBytes).optional().describe('Bytes of a response body. Default 6291556.'),
})

const service = z.strictObject({
  binding: z.string().describe('Name in `env`: env.NAME.fetch(request).'),
  service: functionName.describe('The function that is called, of the same account.'),
  qualifier: z.string().optional().describe('Version or alias of it. Default: its latest.'),
  entrypoint: z.string().optional().describe('A named export of it. Default: its default export.'),
  props: z.record(z.string(), z.json()).optional().describe('What it finds as ctx.props.'),
})

const sessions = z.union([
  z.literal(false),
  z.strictObject({
    header: z.string().optional().describe('Request header that names the session.'),
    cookie: z.string().optional().describe('Cookie that names the session; requests without it begin one.'),
    idle_s: z.int().positive().optional().describe('Seconds without a request after which it ends. Default 60.'),
    max_age_s: z.int().positive().optional().describe('Seconds after which it ends. Default 900.'),
  }).refine(({ header, cookie }) => header !== undefined || cookie !== undefined, 'header or cookie says how requests name their session'),
])

/** What may stand at the top and in an environment. */
const settings = {
  vars: variables.optional().describe('Variables in `env`: texts, or anything that JSON can hold.'),
  services: z.array(service).max(SERVICES_PER_FUNCTION_MAX).optional().describe('Other functions that this one calls as env.NAME.fetch(request).'),
  origin: originSchema.optional().describe('The server behind the function, http(s)://host[:port]. After ctx.passThroughOnException() it answers what the handler fails to answer.'),
  limits: limits.optional(),
  timeout_s: z.int().min(1).max(FUNCTION_LIMIT_MAX.wallMs / 1000).optional().describe('Wall time of one invocation, seconds. Default 3.'),
  memory_mib: z.int().min(1).max(FUNCTION_LIMIT_MAX.memoryMib).optional().describe('Memory of one invocation, MiB. Default 128.'),
  prime: z.union([z.literal(false), z.array(z.string())]).optional().describe('Paths of synthetic requests that run before the image is taken; false: none.'),
  routes: z.array(routePattern).optional().describe('Kept with the function; no POP serves by them yet.'),
  idempotent: z.boolean().optional().describe('One request may run it more than once.'),
  latency_sensitivity: z.enum(LATENCY_SENSITIVITIES).optional().describe('What a place near its users is worth to it. Default normal.'),
  sessions: sessions.optional().describe('Requests that bear one id share one machine; false: every request has its own.'),
  ...sourceSettings,
  build: z.strictObject({
    command: z.string().min(1).describe('Shell command that runs before bundling: in `deploy`, and when `dev` starts.'),
    cwd: z.string().optional().describe('Where it runs. Default: the folder of this file.'),
  }).optional(),
}

export const outpostSchema = z.strictObject({
  $schema: z.string().optional(),
  name: functionName.optional().describe("The function's name. Default: the folder's."),
  main: z.string().describe('The file that exports `default { fetch }` or `handler`.'),
  ...settings,
  dev: z.strictObject({ ip: z.string().optional(), port: z.int().min(0).max(65_535).optional() }).optional().describe('Where `outpost dev` listens.'),
  env: z.record(z.string(), z.strictObject({ name: functionName.optional(), main: z.string().optional(), ...settings })).optional()
    .describe('Environments, chosen by -e NAME and deployed as <name>-<NAME>. vars, services, origin and define are not inherited from the top level, all else is.'),
})
export type OutpostConfig = z.infer<typeof outpostSchema>

/** By N1 of environments.ts. */
export const OUTPOST_NOT_INHERITED = ['vars', 'services', 'origin', 'define'] as const

export function outpostMembers(config: Omit<OutpostConfig, 'env'>): ConfigurationMembers {
  const { limits: limit = {} } = config
  const given = {
    ...(limit.cpu_ms === undefined ? {} : { CpuMs: limit.cpu_ms }),
    ...(limit.subrequests === undefined ? {} : { SubrequestMax: limit.subrequests }),
    ...(limit.response_bytes === undefined ? {} : { ResponseMaxBytes: limit.response_bytes }),
  }
  const variableMembers = variablesMembers(config.vars ?? {})
  return {
    ...(config.timeout_s === undefined ? {} : { Timeout: config.timeout_s }),
    ...(config.memory_mib === undefined ? {} : { MemorySize: config.memory_mib }),
    ...variableMembers,
    Outpost: {
      ...variableMembers.Outpost,
      Services: (config.services ?? []).map(serviceMember),
      Origin: config.origin ?? null,
      ...(Object.keys(given).length === 0 ? {} : { Limits: given }),
      ...(config.prime === undefined ? {} : { Prime: config.prime }),
      ...(config.routes === undefined ? {} : { Routes: config.routes }),
      ...(config.idempotent === undefined ? {} : { Idempotent: config.idempotent }),
      ...(config.latency_sensitivity === undefined ? {} : { LatencySensitivity: config.latency_sensitivity }),
      ...(config.sessions === undefined ? {} : { Sessions: sessionMembers(config.sessions) }),
    },
  }
}

/** All variables of a function: what a file does not name any more is gone with the next deployment. */
export function variablesMembers(vars: Readonly<Record<string, unknown>>): ConfigurationMembers {
  const entries = Object.entries(vars)
  const texts = entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string')
  return {
    Environment: { Variables: Object.fromEntries(texts) },
    Outpost: { JsonVariables: Object.fromEntries(entries.filter(([, value]) => typeof value !== 'string')) },
  }
}

function serviceMember({ binding, service: name, qualifier, entrypoint, props }: z.infer<typeof service>): ServiceMember {
  return { Binding: binding, Service: name, ...(qualifier === undefined ? {} : { Qualifier: qualifier }), ...(entrypoint === undefined ? {} : { Entrypoint: entrypoint }), ...(props === undefined ? {} : { Props: props }) }
}

function sessionMembers(given: z.infer<typeof sessions>): NonNullable<NonNullable<ConfigurationMembers['Outpost']>['Sessions']> {
  if (given === false) return false
  const { header, cookie, idle_s: idleSeconds, max_age_s: maxAgeSeconds } = given
  return {
    ...(header === undefined ? {} : { Header: header }),
    ...(cookie === undefined ? {} : { Cookie: cookie }),
    ...(idleSeconds === undefined ? {} : { IdleSeconds: idleSeconds }),
    ...(maxAgeSeconds === undefined ? {} : { MaxAgeSeconds: maxAgeSeconds }),
  }
}
