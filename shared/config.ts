/**
 * What an operator can set, one schema per tier: the schema is the manual. For every value: option, then environment,
 * then configuration file, then the default here. Unknown keys are refused, the result is frozen, and a message about a
 * value names the option and the environment variable that set it.
 */
import { z } from 'zod'
import { CodedError } from './errors.ts'
import { isNetwork } from './http/forwarded.ts'
import { parseFingerprint, type Fingerprint } from './identity/fingerprint.ts'
import { ACCOUNT_CONCURRENCY_DEFAULT, ACCOUNT_CONCURRENCY_MAX, MIB, REGIONS_MAX, SESSION_STATE_MAX_BYTES, SESSIONS_MEMORY_MAX_BYTES } from './limits.ts'

/** Where one value may come from. */
interface Source {
  readonly option: string
  readonly env: string
}

const sources = z.registry<Source>()

const port = z.int().min(0).max(65_535)
const names = z
  .preprocess((value) => (typeof value === 'string' ? value.split(',').filter((part) => part !== '') : value), z.array(z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, 'a name has letters, digits, dots, hyphens and underscores')).max(1000))
  .default([])
const addresses = z
  .preprocess((value) => (typeof value === 'string' ? value.split(',').filter((part) => part !== '') : value), z.array(z.string().regex(/^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$/, 'an address is like 10.0.0.5:8080')).max(1000))
  .default([])

const regionUrls = z
  .preprocess((value) => (typeof value === 'string' ? value.split(',').filter((part) => part !== '') : value), z.array(z.url({ protocol: /^https?$/ })).min(1).max(REGIONS_MAX).refine((urls) => new Set(urls).size === urls.length, 'a region is named twice'))

/** Looked at more closely by shared/coordination/nats-address.ts; its message never shows a password. */
const natsUrl = () => z.string().regex(/^(nats|tls):\/\/[^/]+\/?$/, 'an address is like nats://host:4222').nullable().default(null)
const natsFile = () => z.string().min(1).nullable().default(null)
const natsReplicas = () => z.int().min(1).max(5).default(1)

const fingerprints = z
  .preprocess(
    (value) => (typeof value === 'string' ? value.split(',').filter((part) => part.trim() !== '') : value),
    z.array(z.string().transform((text, context): Fingerprint => {
      const parsed = parseFingerprint(text)
      if (parsed === null) context.addIssue('a fingerprint is 64 hex digits, as `outpost pop key` and `outpost region key` print it')
      return parsed ?? ('' as Fingerprint)
    })).max(100),
  )
  .default([])

const networks = z
  .preprocess((value) => (typeof value === 'string' ? value.split(',').map((part) => part.trim()).filter((part) => part !== '') : value), z.array(z.string().refine(isNetwork, 'a network is like 10.0.0.0/8 or fd00::/8')).max(1000))
  .default([])

export const regionSchema = z.strictObject({
  /** Port of API, web endpoints and POP links; 0 takes a free one. */
  port: port.default(8788).register(sources, { option: '--port', env: 'OUTPOST_REGION_PORT' }),
  /** Address to listen on. Anything but loopback needs `keysFile`; POPs then link up by `linkPort` only. */
  host: z.string().min(1).default('127.0.0.1').register(sources, { option: '--host', env: 'OUTPOST_REGION_HOST' }),
  /** PEM files: with both, the main port speaks TLS. They are read again when they change and at SIGHUP; open connections go on. */
  tlsCertFile: z.string().min(1).nullable().default(null).register(sources, { option: '--tls-cert', env: 'OUTPOST_REGION_TLS_CERT' }),
  tlsKeyFile: z.string().min(1).nullable().default(null).register(sources, { option: '--tls-key', env: 'OUTPOST_REGION_TLS_KEY' }),
  /** Networks whose proxies are believed when they say where a request comes from, `10.0.0.0/8` each, by commas. Everybody else's such headers are dropped. */
  trustedProxies: networks.register(sources, { option: '--trusted-proxy', env: 'OUTPOST_REGION_TRUSTED_PROXY' }),
  /** The headers in which those proxies say it: X-Forwarded-For and -Proto, or Forwarded (RFC 7239). The other kind is dropped. */
  proxyHeaders: z.enum(['x-forwarded', 'forwarded']).default('x-forwarded').register(sources, { option: '--proxy-headers', env: 'OUTPOST_REGION_PROXY_HEADERS' }),
  /** Functions, images and secrets; made if it is not there. */
  dataDir: z.string().min(1).default('.outpost/region').register(sources, { option: '--data', env: 'OUTPOST_REGION_DATA' }),
  /** Port of health, metrics and profiles; null for none, 0 takes a free one. Loopback only. */
  adminPort: port.nullable().default(null).register(sources, { option: '--admin-port', env: 'OUTPOST_REGION_ADMIN_PORT' }),
  /** JSON file `{ "keys": [{ "accessKeyId", "secret", "account" }] }` (shared/api/keys.ts). Only a development region goes without. */
  keysFile: z.string().min(1).nullable().default(null).register(sources, { option: '--keys', env: 'OUTPOST_REGION_KEYS' }),
  /** Keys that all stored code and secrets are sealed with; made if it is not there. Null: `keyring.json` in `dataDir`. Without this file the data cannot be read: keep a copy elsewhere. */
  keyringFile: z.string().min(1).nullable().default(null).register(sources, { option: '--keyring', env: 'OUTPOST_REGION_KEYRING' }),
  /** Sealed copies of one content at most, so that a damaged block harms one of that many users. Stored data is not changed by it. */
  copies: z.int().min(1).max(1000).default(1).register(sources, { option: '--copies', env: 'OUTPOST_REGION_COPIES' }),
  /**
   * `user`: each account always has the same copy; `state`: one that is not there yet, until all are; `epoch`: the next
   * one each `copiesEpochHours`; `location`: that of `copiesZone`, the number of zones being the number of copies.
   */
  copiesBy: z.enum(['user', 'state', 'epoch', 'location']).default('user').register(sources, { option: '--copies-by', env: 'OUTPOST_REGION_COPIES_BY' }),
  /** With `copiesBy: epoch`: how long one copy is taken, hours. */
  copiesEpochHours: z.int().min(1).max(100_000).default(168).register(sources, { option: '--copies-epoch-hours', env: 'OUTPOST_REGION_COPIES_EPOCH_HOURS' }),
  /** With `copiesBy: location`: all zones, always in the same order. */
  copiesZones: names.register(sources, { option: '--copies-zones', env: 'OUTPOST_REGION_COPIES_ZONES' }),
  /** With `copiesBy: location`: where this region is, one of `copiesZones`. */
  copiesZone: z.string().min(1).nullable().default(null).register(sources, { option: '--copies-zone', env: 'OUTPOST_REGION_COPIES_ZONE' }),
  /** Accounts share no stored block, and so cannot tell what others have. Costs a copy per account. */
  isolateAccounts: z.boolean().default(false).register(sources, { option: '--isolate-accounts', env: 'OUTPOST_REGION_ISOLATE_ACCOUNTS' }),
  /** Port where registered POPs link up by mutual TLS (`outpost region pop add`), on `host`; null for none, 0 takes a free one. */
  linkPort: port.nullable().default(null).register(sources, { option: '--link-port', env: 'OUTPOST_REGION_LINK_PORT' }),
  /** PEM: shown at `linkPort` instead of the region's own key, for POPs that trust an authority and not a fingerprint. Both or none. */
  linkCertFile: z.string().min(1).nullable().default(null).register(sources, { option: '--link-cert', env: 'OUTPOST_REGION_LINK_CERT' }),
  linkKeyFile: z.string().min(1).nullable().default(null).register(sources, { option: '--link-key', env: 'OUTPOST_REGION_LINK_KEY' }),
  /** What POPs show that are not registered; accepted only while `host` is a loopback address. */
  token: z.string().min(1).default('dev').register(sources, { option: '--token', env: 'OUTPOST_LINK_TOKEN' }),
  /** Another region's `http:` or `https:` URL: it is asked for blocks that are damaged here and have no other copy. */
  peerUrl: z.url({ protocol: /^https?$/ }).nullable().default(null).register(sources, { option: '--peer', env: 'OUTPOST_REGION_PEER' }),
  /** What regions, and nodes of one region, show each other; null: none is let in. */
  peerToken: z.string().min(1).nullable().default(null).register(sources, { option: '--peer-token', env: 'OUTPOST_PEER_TOKEN' }),
  /** A NATS server with JetStream, `nats://host:port`: what the nodes of all regions agree on is kept there. Null: this process is the whole region. */
  natsUrl: natsUrl().register(sources, { option: '--nats', env: 'OUTPOST_NATS_URL' }),
  /** NATS credentials file (`.creds`); null: none, or what the URL says. */
  natsCredentialsFile: natsFile().register(sources, { option: '--nats-credentials', env: 'OUTPOST_NATS_CREDENTIALS' }),
  /** PEM file of the authorities that NATS servers' certificates are signed by, and that TLS is wanted; null: the system's, for a URL with `tls:`. */
  natsCaFile: natsFile().register(sources, { option: '--nats-ca', env: 'OUTPOST_NATS_CA' }),
  /** NATS servers that keep what is written there, of what is made from now on: 3 of a cluster of 3 or more lose nothing with one of them. */
  natsReplicas: natsReplicas().register(sources, { option: '--nats-replicas', env: 'OUTPOST_NATS_REPLICAS' }),
  /** Which region this is a node of; also the region in the names (ARNs) of functions that are published here. */
  regionName: z.string().regex(/^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$/, 'a name has 1 to 24 lower case letters, digits and hyphens').default('us-east-1').register(sources, { option: '--region-name', env: 'OUTPOST_REGION_NAME' }),
  /** Where other nodes reach this one's links, `host:port`. Null: `host` and `port`. */
  advertise: z.string().regex(/^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$/, 'an address is like 10.0.0.5:8788').nullable().default(null).register(sources, { option: '--advertise', env: 'OUTPOST_REGION_ADVERTISE' }),
  /** With an `https:` peer: fingerprints of its keys, by commas. This region is to be registered there: `outpost region pop add --role region`. */
  peerFingerprints: fingerprints.register(sources, { option: '--peer-fingerprint', env: 'OUTPOST_REGION_PEER_FINGERPRINT' }),
  /** Running invocations of an account of which neither its keys nor `outpost region account` say anything. */
  accountConcurrency: z.int().min(0).max(ACCOUNT_CONCURRENCY_MAX).default(ACCOUNT_CONCURRENCY_DEFAULT).register(sources, { option: '--account-concurrency', env: 'OUTPOST_REGION_ACCOUNT_CONCURRENCY' }),
  /** MiB that sandboxes, images and caches may hold together. */
  memoryMib: z.int().min(64).max(1_048_576).default(1024).register(sources, { option: '--memory', env: 'OUTPOST_REGION_MEMORY_MIB' }),
  /** MiB that session machines at rest may take in memory, beside `memoryMib`; what is used least goes to `dataDir`, or ends. */
  sessionMemoryMib: z.int().min(1).max(1_048_576).default(SESSIONS_MEMORY_MAX_BYTES / MIB).register(sources, { option: '--session-memory', env: 'OUTPOST_REGION_SESSION_MEMORY_MIB' }),
  /** MiB that one session machine may take at rest; a session that grows beyond it ends. */
  sessionStateMaxMib: z.int().min(1).max(1024).default(SESSION_STATE_MAX_BYTES / MIB).register(sources, { option: '--session-state-max', env: 'OUTPOST_REGION_SESSION_STATE_MAX_MIB' }),
  /** Threads that run functions; null: one per core beside the front door's, one to four. */
  workers: z.int().min(1).max(256).nullable().default(null).register(sources, { option: '--workers', env: 'OUTPOST_REGION_WORKERS' }),
  /** Private addresses that functions may fetch, `host:port` each; by option and environment separated by commas. All others are refused. */
  egressAllow: addresses.register(sources, { option: '--egress-allow', env: 'OUTPOST_EGRESS_ALLOW' }),
  /** How long invocations in flight may go on after SIGTERM, ms. */
  drainTimeoutMs: z.int().min(0).max(3_600_000).default(30_000).register(sources, { option: '--drain-timeout', env: 'OUTPOST_REGION_DRAIN_TIMEOUT_MS' }),
  /** Development server: any key pair may sign, answers tell more, control paths take loopback host names only. */
  dev: z.boolean().default(false).register(sources, { option: '--dev', env: 'OUTPOST_REGION_DEV' }),
})
export type RegionConfig = Readonly<z.infer<typeof regionSchema>>

export const popSchema = z.strictObject({
  /** Port clients talk to; 0 takes a free one. */
  port: port.default(8787).register(sources, { option: '--port', env: 'OUTPOST_POP_PORT' }),
  host: z.string().min(1).default('127.0.0.1').register(sources, { option: '--host', env: 'OUTPOST_POP_HOST' }),
  /** PEM files: with both, the main port speaks TLS. They are read again when they change and at SIGHUP; open connections go on. */
  tlsCertFile: z.string().min(1).nullable().default(null).register(sources, { option: '--tls-cert', env: 'OUTPOST_POP_TLS_CERT' }),
  tlsKeyFile: z.string().min(1).nullable().default(null).register(sources, { option: '--tls-key', env: 'OUTPOST_POP_TLS_KEY' }),
  /** Networks whose proxies are believed when they say where a request comes from, `10.0.0.0/8` each, by commas. Everybody else's such headers are dropped. */
  trustedProxies: networks.register(sources, { option: '--trusted-proxy', env: 'OUTPOST_POP_TRUSTED_PROXY' }),
  /** The headers in which those proxies say it: X-Forwarded-For and -Proto, or Forwarded (RFC 7239). The other kind is dropped. */
  proxyHeaders: z.enum(['x-forwarded', 'forwarded']).default('x-forwarded').register(sources, { option: '--proxy-headers', env: 'OUTPOST_POP_PROXY_HEADERS' }),
  /** Where images are kept over a restart; null: in memory only. */
  dataDir: z.string().min(1).nullable().default(null).register(sources, { option: '--data', env: 'OUTPOST_POP_DATA' }),
  adminPort: port.nullable().default(null).register(sources, { option: '--admin-port', env: 'OUTPOST_POP_ADMIN_PORT' }),
  /** Addresses of the regions, http or https; they share one registry. What nothing else decides goes to the first. By environment separated by commas. */
  regionUrls: regionUrls.register(sources, { option: '--region', env: 'OUTPOST_POP_REGION' }),
  /** For a region on this host that does not know this POP's key; never shown to an `https:` region. */
  token: z.string().min(1).default('dev').register(sources, { option: '--token', env: 'OUTPOST_LINK_TOKEN' }),
  /** With an `https:` region: the fingerprints of its keys, one for each node, by commas. Empty: its certificate must come from an authority. */
  regionFingerprints: fingerprints.register(sources, { option: '--region-fingerprint', env: 'OUTPOST_POP_REGION_FINGERPRINT' }),
  /** PEM file of the authorities that may have made the region's certificate; null: those that Node knows. */
  regionCaFile: z.string().min(1).nullable().default(null).register(sources, { option: '--region-ca', env: 'OUTPOST_POP_REGION_CA' }),
  /** A NATS server with JetStream: what the hosts of one site agree on is kept there. Null: this host is the whole site. */
  natsUrl: natsUrl().register(sources, { option: '--nats', env: 'OUTPOST_NATS_URL' }),
  natsCredentialsFile: natsFile().register(sources, { option: '--nats-credentials', env: 'OUTPOST_NATS_CREDENTIALS' }),
  natsCaFile: natsFile().register(sources, { option: '--nats-ca', env: 'OUTPOST_NATS_CA' }),
  natsReplicas: natsReplicas().register(sources, { option: '--nats-replicas', env: 'OUTPOST_NATS_REPLICAS' }),
  /** With NATS: where the other hosts of the site reach this one, `host:port`; it listens on that port. Null: `host` and any free port. */
  advertise: z.string().regex(/^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$/, 'an address is like 10.0.0.5:8789').nullable().default(null).register(sources, { option: '--advertise', env: 'OUTPOST_POP_ADVERTISE' }),
  /** With NATS: the site that this host belongs to. */
  site: z.string().regex(/^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$/, 'a name has 1 to 24 lower case letters, digits and hyphens').default('site-1').register(sources, { option: '--site', env: 'OUTPOST_POP_SITE' }),
  memoryMib: z.int().min(64).max(1_048_576).default(512).register(sources, { option: '--memory', env: 'OUTPOST_POP_MEMORY_MIB' }),
  /** MiB that session machines at rest may take in memory, beside `memoryMib`; what is used least goes to `dataDir`, if there is one, or ends. */
  sessionMemoryMib: z.int().min(1).max(1_048_576).default(SESSIONS_MEMORY_MAX_BYTES / MIB).register(sources, { option: '--session-memory', env: 'OUTPOST_POP_SESSION_MEMORY_MIB' }),
  /** MiB that one session machine may take at rest; a session that grows beyond it ends. */
  sessionStateMaxMib: z.int().min(1).max(1024).default(SESSION_STATE_MAX_BYTES / MIB).register(sources, { option: '--session-state-max', env: 'OUTPOST_POP_SESSION_STATE_MAX_MIB' }),
  workers: z.int().min(1).max(256).nullable().default(null).register(sources, { option: '--workers', env: 'OUTPOST_POP_WORKERS' }),
  egressAllow: addresses.register(sources, { option: '--egress-allow', env: 'OUTPOST_EGRESS_ALLOW' }),
  /** Where it stands. A POP is advised to hold what others of its area are asked for. */
  area: z.string().max(64).default('').register(sources, { option: '--area', env: 'OUTPOST_POP_AREA' }),
  /** Requests within five minutes that make a function hot here. 0: as soon as it is asked for. */
  hotMinRequests: z.int().min(0).max(1_000_000).default(3).register(sources, { option: '--hot-min-requests', env: 'OUTPOST_POP_HOT_MIN_REQUESTS' }),
  /** How long a call waits for a sandbox here before a region is asked, ms; less if the trip there takes less. */
  queueWaitMaxMs: z.int().min(0).max(10_000).default(20).register(sources, { option: '--queue-wait-max', env: 'OUTPOST_POP_QUEUE_WAIT_MAX_MS' }),
  /** How long a POP that is cut off serves what it has, ms. */
  staleMaxMs: z.int().min(0).max(604_800_000).default(3_600_000).register(sources, { option: '--stale-max', env: 'OUTPOST_POP_STALE_MAX_MS' }),
  drainTimeoutMs: z.int().min(0).max(3_600_000).default(30_000).register(sources, { option: '--drain-timeout', env: 'OUTPOST_POP_DRAIN_TIMEOUT_MS' }),
  /** Anybody may start the scheduled handler of a function at `/__scheduled`. A development POP always lets them. */
  testScheduled: z.boolean().default(false).register(sources, { option: '--test-scheduled', env: 'OUTPOST_POP_TEST_SCHEDULED' }),
  dev: z.boolean().default(false).register(sources, { option: '--dev', env: 'OUTPOST_POP_DEV' }),
})
export type PopConfig = Readonly<z.infer<typeof popSchema>>

export interface ConfigInput {
  /** By member; undefined when the option was not given. */
  readonly options: Readonly<Record<string, unknown>>
  readonly env: Readonly<Record<string, string | undefined>>
  /** Parsed JSON of the configuration file and its name for messages; null without one. */
  readonly file: { readonly name: string; readonly values: unknown } | null
}

/** Throws ERR_CONFIG for the first value that cannot be used. */
export function resolveConfig<Shape extends z.ZodRawShape>(schema: z.ZodObject<Shape, z.core.$strict>, input: ConfigInput): Readonly<z.infer<typeof schema>> {
  const fromFile = fileValues(schema, input)
  const merged: Record<string, unknown> = {}
  const origins = new Map<string, string>()
  for (const [member, valueSchema] of Object.entries<z.core.$ZodType>(schema.shape)) {
    const source = sourceOf(valueSchema)
    const env = input.env[source.env]
    const [value, origin] =
      input.options[member] !== undefined ? [input.options[member], source.option]
      : env !== undefined && env !== '' ? [fromText(env, valueSchema), source.env]
      : member in fromFile ? [fromFile[member], `"${member}" in ${input.file?.name ?? 'the file'}`]
      : [undefined, 'the default']
    if (value !== undefined) merged[member] = value
    origins.set(member, origin)
  }
  const result = schema.safeParse(merged)
  if (result.success) return deepFreeze(result.data)
  const issue = result.error.issues[0]
  const member = String(issue?.path[0] ?? '')
  const valueSchema = (schema.shape as Record<string, z.core.$ZodType>)[member]
  const setBy = valueSchema === undefined ? '' : ` (${sourceOf(valueSchema).option} or ${sourceOf(valueSchema).env})`
  const reason = member in merged ? `${issue?.message ?? 'invalid'}; it was set by ${origins.get(member) ?? '?'}` : 'must be given'
  throw new CodedError('ERR_CONFIG', [`${member}${setBy}: ${reason}`])
}

function fileValues<Shape extends z.ZodRawShape>(schema: z.ZodObject<Shape>, input: ConfigInput): Record<string, unknown> {
  if (input.file === null) return {}
  const { name, values } = input.file
  if (typeof values !== 'object' || values === null || Array.isArray(values)) throw new CodedError('ERR_CONFIG', [`${name} does not hold a JSON object`])
  const unknown = Object.keys(values).find((member) => !(member in schema.shape))
  if (unknown !== undefined) throw new CodedError('ERR_CONFIG', [`${name}: there is no setting "${unknown}". Settings: ${Object.keys(schema.shape).join(', ')}`])
  return values as Record<string, unknown>
}

/** The environment holds text; numbers and truth values are read as what the schema wants, anything else stays text and is refused by it. */
function fromText(text: string, schema: z.core.$ZodType): unknown {
  if (/^\d{1,15}$/.test(text) && !accepts(schema, text)) return Number(text)
  if (/^(true|false)$/.test(text) && !accepts(schema, text)) return text === 'true'
  return text
}

function accepts(schema: z.core.$ZodType, value: unknown): boolean {
  return z.core.safeParse(schema, value).success
}

function sourceOf(schema: z.core.$ZodType): Source {
  const source = sources.get(schema as z.ZodType)
  if (source === undefined) throw new Error('a setting has no source')
  return source
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const member of Object.values(value)) deepFreeze(member)
    Object.freeze(value)
  }
  return value
}
