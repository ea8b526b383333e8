/**
 * wrangler.jsonc, wrangler.json and wrangler.toml as they are. What would change what a function does and is not to be had
 * here is named; what concerns Cloudflare's dashboard, its observability or its network is accepted without a word.
 */
import { z } from 'zod'
import type { ConfigurationMembers, ServiceMember } from './api-client.ts'
import { sourceSettings } from './bundle-settings.ts'
import { routePattern, variables, variablesMembers } from './outpost-config.ts'

/** A scheme says nothing here: POPs serve a host by whatever reaches them. */
const pattern = z.string().transform((text) => text.replace(/^https?:\/\//i, '')).pipe(routePattern)
/** A custom domain is a host with all its paths. Its zone is a matter of Cloudflare's. */
const route = z.union([
  pattern,
  z.looseObject({ pattern, custom_domain: z.boolean().optional() }).transform(({ pattern: host, custom_domain }) => (custom_domain === true ? `${host}/*` : host)),
])
const service = z.looseObject({
  binding: z.string(), service: z.string(), entrypoint: z.string().optional(), environment: z.string().optional(), props: z.record(z.string(), z.json()).optional(),
})

const members = {
  name: z.string().optional(),
  main: z.string().optional(),
  vars: variables.optional(),
  limits: z.looseObject({ cpu_ms: z.int().positive().optional(), subrequests: z.int().nonnegative().optional() }).optional(),
  route: route.optional(),
  routes: z.array(route).optional(),
  services: z.array(service).optional(),
  keep_vars: z.boolean().optional(),
  build: z.looseObject({ command: z.string().optional(), cwd: z.string().optional() }).optional(),
  dev: z.looseObject({ ip: z.string().optional(), port: z.int().min(0).max(65_535).optional() }).optional(),
  ...sourceSettings,

}
export const wranglerSchema = z.looseObject(members)
export type WranglerConfig = z.infer<typeof wranglerSchema>

/** Bindings and what else is given to each environment by itself; by N1 of environments.ts. */
const UNSUPPORTED_BINDINGS = [
  'kv_namespaces', 'queues', 'durable_objects', 'r2_buckets', 'd1_databases', 'ratelimits', 'version_metadata', 'ai', 'browser', 'hyperdrive', 'vectorize',
  'workflows', 'analytics_engine_datasets', 'dispatch_namespaces', 'mtls_certificates', 'send_email', 'pipelines', 'secrets_store_secrets', 'images', 'media', 'containers',
  'cloudchamber', 'unsafe', 'vpc_services', 'worker_loaders', 'wasm_modules', 'text_blobs', 'data_blobs', 'tail_consumers', 'streaming_tail_consumers', 'logfwdr',
] as const
export const WRANGLER_NOT_INHERITED: readonly string[] = ['vars', 'services', 'define', ...UNSUPPORTED_BINDINGS]
const UNSUPPORTED = [...UNSUPPORTED_BINDINGS, 'triggers', 'assets', 'site', 'migrations', 'exports', 'find_additional_modules', 'python_modules'] as const
/** Nothing of these would be noticed by a function. */
const HARMLESS: ReadonlySet<string> = new Set([
  '$schema', 'account_id', 'workers_dev', 'preview_urls', 'compatibility_date', 'compatibility_flags', 'observability', 'placement', 'logpush', 'upload_source_maps',
  'send_metrics', 'no_bundle', 'base_dir', 'preserve_file_names', 'first_party_worker', 'cache', 'legacy_env', 'dependencies_instrumentation', 'secrets', 'previews',
  'compliance_region', 'pages_build_output_dir', 'usage_model', 'zone_id', 'type', 'node_compat', 'env',
])
const UNDERSTOOD: ReadonlySet<string> = new Set(Object.keys(members))

/** What the reader of this file would miss. */
export function wranglerNotes(config: WranglerConfig): readonly string[] {
  const notes = UNSUPPORTED.filter((member) => isAsked(config[member])).map((member) => (member === 'triggers' ? 'triggers is not supported: nothing calls `scheduled` by the clock' : `${member} is not supported and was left out`))
  const unknown = Object.keys(config).filter((member) => !UNDERSTOOD.has(member) && !HARMLESS.has(member) && !(UNSUPPORTED as readonly string[]).includes(member))
  return [...notes, ...unknown.map((member) => `${member} is no member that is known here, and was left out`)]
}

export function wranglerMembers(config: WranglerConfig): ConfigurationMembers {
  const { limits: { cpu_ms: cpuMs, subrequests } = {} } = config
  const routes = config.routes ?? (config.route === undefined ? undefined : [config.route])
  const limits = { ...(cpuMs === undefined ? {} : { CpuMs: cpuMs }), ...(subrequests === undefined ? {} : { SubrequestMax: subrequests }) }
  const given = config.keep_vars === true && config.vars === undefined ? {} : variablesMembers(config.vars ?? {})
  return {
    ...given,
    Outpost: {
      ...given.Outpost,
      Services: (config.services ?? []).map(serviceMember),
      ...(Object.keys(limits).length === 0 ? {} : { Limits: limits }),
      ...(routes === undefined ? {} : { Routes: routes }),
    },
  }
}

/** A service of an environment is deployed under its name and the environment's. */
function serviceMember({ binding, service: name, entrypoint, environment, props }: z.infer<typeof service>): ServiceMember {
  return { Binding: binding, Service: environment === undefined ? name : `${name}-${environment}`, ...(entrypoint === undefined ? {} : { Entrypoint: entrypoint }), ...(props === undefined ? {} : { Props: props }) }
}

/** Generators of projects write empty lists. */
function isAsked(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return false
  if (Array.isArray(value)) return value.length > 0
  return typeof value !== 'object' || Object.values(value).some(isAsked)
}
