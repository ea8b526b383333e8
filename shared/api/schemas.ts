/**
 * Bodies of the control plane. Lambda's own members are read loosely, as its clients send many that mean nothing here;
 * those that would change what a function does and cannot be honoured are refused by name. `Outpost` is ours and strict.
 */
import { z } from 'zod'
import { CodedError } from '../errors.ts'
import { LATENCY_SENSITIVITIES } from '../worker/types.ts'
import { originSchema } from './origin.ts'
import { ACCOUNT_CONCURRENCY_MAX, FUNCTION_LIMIT_MAX, FUNCTION_SECRETS_MAX_BYTES, FUNCTION_VARS_MAX_BYTES, ROUTES_PER_FUNCTION_MAX, SELECTION_MAX_CHARS, SERVICES_PER_FUNCTION_MAX, SESSION_MAX_AGE_MAX_MS, TAGS_PER_FUNCTION_MAX, ZIP_MAX_BYTES } from '../limits.ts'

/** Length of ZIP_MAX_BYTES in base64. */
const ZIP_BASE64_MAX = Math.ceil(ZIP_MAX_BYTES / 3) * 4
const PRIME_PATHS_MAX = 16
/** A selection takes them with the entrypoint's name. */
const SERVICE_PROPS_MAX_CHARS = SELECTION_MAX_CHARS - 512
/** What front doors read themselves, or drop; `x-outpost-session` comes through. */
const RESERVED_HEADER = /^(?:host|cookie|authorization|content-length|content-type|transfer-encoding|connection|expect|te|trailer|upgrade|keep-alive|proxy-.*|x-forwarded-.*|forwarded|x-outpost-(?!session$).*)$/i

const description = z.string().max(256)
const revisionId = z.string().max(64)
const variableName = z.string().regex(/^[a-zA-Z_][a-zA-Z0-9_]*$/, 'names of variables are letters, digits and _').max(256).refine((name) => name !== '__proto__', 'this name is reserved')
const variables = (maxBytes: number) => z.record(variableName, z.string()).refine(
  (values) => Object.entries(values).reduce((sum, [name, value]) => sum + Buffer.byteLength(name) + Buffer.byteLength(value), 0) <= maxBytes,
  `names and values together may have ${maxBytes} bytes`,
)
const zipFile = z.string().max(ZIP_BASE64_MAX, `the zip may have ${ZIP_MAX_BYTES} bytes`).refine((text) => text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text), 'it is not base64')
const requestPath = z.string().regex(/^\/[\x21-\x7e]*$/, 'a path begins with / and holds no spaces').max(2048)

const cookieName = z.string().regex(/^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$/, 'a cookie has a name like session_id')
const sessionHeader = z.string().regex(/^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$/, 'a header has a name like x-session-id')
  .refine((name) => !RESERVED_HEADER.test(name), 'this header means something else, or does not reach functions')

const sessions = z.strictObject({
  /** Name of the request header that brings the id. */
  Header: sessionHeader.optional(),
  /** Name of the cookie that brings the id; requests without it begin a session. */
  Cookie: cookieName.optional(),
  IdleSeconds: z.int().min(1).max(SESSION_MAX_AGE_MAX_MS / 1000).optional(),
  MaxAgeSeconds: z.int().min(1).max(SESSION_MAX_AGE_MAX_MS / 1000).optional(),
}).refine(({ Header, Cookie }) => Header !== undefined || Cookie !== undefined, 'Header or Cookie says how requests name their session')

const outpost = z.strictObject({
  /** Values by name; they replace all that were there. Never given back. */
  Secrets: variables(FUNCTION_SECRETS_MAX_BYTES).optional(),
  /** Paths of synthetic requests before the image is taken; false: none; null: the default. */
  Prime: z.union([z.array(requestPath).max(PRIME_PATHS_MAX), z.literal(false), z.null()]).optional(),
  Limits: z.strictObject({
    CpuMs: z.int().min(1).max(FUNCTION_LIMIT_MAX.cpuMs).optional(),
    ResponseMaxBytes: z.int().min(1).max(FUNCTION_LIMIT_MAX.responseMaxBytes).optional(),
    LogMaxBytes: z.int().min(0).max(FUNCTION_LIMIT_MAX.logMaxBytes).optional(),
    SubrequestMax: z.int().min(0).max(FUNCTION_LIMIT_MAX.subrequestMax).optional(),
  }).optional(),
  /** Requests that bear one id share one machine; false: every request has its own. */
  Sessions: z.union([sessions, z.literal(false)]).optional(),
  /** Variables of `env` that are no texts: numbers, lists, objects. They replace all that were there. */
  JsonVariables: z.record(variableName, z.json()).refine((values) => Buffer.byteLength(JSON.stringify(values)) <= FUNCTION_VARS_MAX_BYTES, `as JSON they may have ${FUNCTION_VARS_MAX_BYTES} bytes together`).optional(),
  /** Functions of the same account that this one calls by `env[Binding].fetch()`; they replace all that were there, and need not be there yet. */
  Services: z.array(z.strictObject({
    Binding: variableName,
    Service: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'a function has letters, digits, hyphens and underscores, at most 64'),
    /** Version or alias. */
    Qualifier: z.string().regex(/^(\$LATEST|[A-Za-z0-9_-]{1,128})$/, 'a qualifier is $LATEST, a version or an alias').optional(),
    /** A named export of the other function. */
    Entrypoint: z.string().regex(/^[A-Za-z_$][\w$]*$/, 'an entrypoint is the name of an export').max(128).optional(),
    /** What the other function finds as `ctx.props`. */
    Props: z.record(z.string(), z.json()).refine((props) => JSON.stringify(props).length <= SERVICE_PROPS_MAX_CHARS, `as JSON they may have ${SERVICE_PROPS_MAX_CHARS} characters`).optional(),
  })).max(SERVICES_PER_FUNCTION_MAX).optional(),
  /** What answers in place of a handler that fails after `ctx.passThroughOnException()`; null: nothing does. */
  Origin: originSchema.nullable().optional(),
  Routes: z.array(z.string().min(1).max(256)).max(ROUTES_PER_FUNCTION_MAX).optional(),
  /** One request may run the function more than once: a region that fails in the middle is replaced by another. */
  Idempotent: z.boolean().optional(),
  /** What a place near its users is worth to it. */
  LatencySensitivity: z.enum(LATENCY_SENSITIVITIES).optional(),
})

const absent = (what: string) => z.unknown().refine((value) => !names(value), `${what} is not supported here`).optional()

const settings = {
  Description: description.optional(),
  Handler: z.string().min(1).max(128).regex(/^[^\s\\]+$/, 'a handler is like index.handler').optional(),
  Runtime: z.string().regex(/^(nodejs|provided)[a-z0-9.]*$/, 'only nodejs and provided runtimes run here').optional(),
  Role: z.string().max(512).optional(),
  Timeout: z.int().min(1).max(FUNCTION_LIMIT_MAX.wallMs / 1000).optional(),
  MemorySize: z.int().min(1).max(FUNCTION_LIMIT_MAX.memoryMib, `a function may have ${FUNCTION_LIMIT_MAX.memoryMib} MB of memory here at most`).optional(),
  Environment: z.looseObject({ Variables: variables(FUNCTION_VARS_MAX_BYTES).nullish() }).nullish(),
  Layers: absent('Layers'),
  VpcConfig: absent('VpcConfig'),
  FileSystemConfigs: absent('FileSystemConfigs'),
  DeadLetterConfig: absent('DeadLetterConfig'),
  ImageConfig: absent('ImageConfig'),
  Outpost: outpost.optional(),
}

export const putConcurrencyBody = z.looseObject({ ReservedConcurrentExecutions: z.int().min(0).max(ACCOUNT_CONCURRENCY_MAX) })

const codeSource = {
  ZipFile: zipFile.optional(),
  S3Bucket: absent('Code in S3'),
  S3Key: absent('Code in S3'),
  ImageUri: absent('A container image'),
  Architectures: z.array(z.enum(['x86_64', 'arm64'])).min(1).max(2).optional(),
}

export const createFunctionBody = z.looseObject({
  ...settings,
  FunctionName: z.string().min(1).max(256),
  Code: z.looseObject(codeSource),
  PackageType: z.literal('Zip', 'only Zip packages run here').optional(),
  Architectures: codeSource.Architectures,
  Publish: z.boolean().optional(),
  Tags: z.record(z.string().min(1).max(128), z.string().max(256)).refine((tags) => Object.keys(tags).length <= TAGS_PER_FUNCTION_MAX, `at most ${TAGS_PER_FUNCTION_MAX} tags`).optional(),
})

export const updateCodeBody = z.looseObject({
  ...codeSource,
  Publish: z.boolean().optional(),
  DryRun: z.boolean().optional(),
  RevisionId: revisionId.optional(),
})

export const updateConfigurationBody = z.looseObject({ ...settings, RevisionId: revisionId.optional() })

export const publishVersionBody = z.looseObject({
  CodeSha256: z.string().max(64).optional(),
  Description: description.optional(),
  RevisionId: revisionId.optional(),
})

const routing = z.unknown().refine((value) => !names(value), 'weighted aliases are not supported yet: leave RoutingConfig out').optional()
const functionVersion = z.string().regex(/^(\$LATEST|[0-9]+)$/, 'a version is $LATEST or a number').max(1024)

export const createAliasBody = z.looseObject({
  Name: z.string().min(1).max(128),
  FunctionVersion: functionVersion,
  Description: description.optional(),
  RoutingConfig: routing,
})

export const updateAliasBody = z.looseObject({
  FunctionVersion: functionVersion.optional(),
  Description: description.optional(),
  RoutingConfig: routing,
  RevisionId: revisionId.optional(),
})

export type SettingsBody = z.infer<typeof updateConfigurationBody>
export type OutpostBody = z.infer<typeof outpost>

/** Throws ERR_PAYLOAD_NOT_JSON, or ERR_PARAMETER that names the member and never its value, which may be a secret. */
export function parseBody<T>(schema: z.ZodType<T>, body: Uint8Array): T {
  let json: unknown
  try {
    json = body.byteLength === 0 ? {} : JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch (error) {
    throw new CodedError('ERR_PAYLOAD_NOT_JSON', [error instanceof SyntaxError ? 'it is not JSON' : 'it is not UTF-8'])
  }
  const parsed = schema.safeParse(json)
  if (parsed.success) return parsed.data
  const { issues } = parsed.error
  const list = issues.slice(0, 5).map((issue) => `${issue.path.length === 0 ? 'the body' : issue.path.map(String).join('.')}: ${issue.code === 'invalid_key' ? (issue.issues[0]?.message ?? issue.message) : issue.message}`)
  throw new CodedError('ERR_PARAMETER', [`${issues.length} validation error${issues.length === 1 ? '' : 's'} detected: ${list.join('; ')}`])
}

/** True if a member asks for something: SDKs send empty lists and objects too. */
function names(value: unknown): boolean {
  if (value === undefined || value === null || value === '') return false
  if (Array.isArray(value)) return value.length > 0
  return typeof value === 'object' ? Object.values(value).some(names) : true
}
