/**
 * The management API as the command line uses it: the same signed Lambda-compatible calls that an AWS SDK makes, so
 * whatever works here works there. Answers are checked before use; an endpoint may be anything.
 */
import { Sha256 } from '@aws-crypto/sha256-js'
import { SignatureV4 } from '@smithy/signature-v4'
import { fetch } from 'undici'
import { z } from 'zod'
import { CodedError } from '../errors.ts'
import type { LatencySensitivity } from '../worker/types.ts'
import type { CliContext } from './context.ts'
import { RemoteError } from './output.ts'

/** What an answer to a client is read up to; a listing page is a few hundred kilobytes. */
const ANSWER_MAX_BYTES = 128 * 1024 * 1024
/** Longer than any invocation may take (limits.ts), so that the server's own timeout is the one that is seen. */
const REQUEST_TIMEOUT_MS = 930_000

/** Members of a FunctionConfiguration that we read; Lambda sends more, and so may a newer Outpost. */
const functionSchema = z.looseObject({
  FunctionName: z.string(),
  FunctionArn: z.string(),
  Version: z.string(),
  CodeSha256: z.string().optional(),
  CodeSize: z.number().optional(),
  Handler: z.string().optional(),
  Timeout: z.number().optional(),
  MemorySize: z.number().optional(),
  LastModified: z.string().optional(),
  RevisionId: z.string().optional(),
  Outpost: z.looseObject({}).optional(),
})
export type FunctionRecord = z.infer<typeof functionSchema>

const listSchema = z.looseObject({ Functions: z.array(functionSchema), NextMarker: z.string().nullish() })
const aliasSchema = z.looseObject({ Name: z.string(), FunctionVersion: z.string(), AliasArn: z.string() })
const logsSchema = z.looseObject({
  Events: z.array(z.looseObject({ Timestamp: z.number(), Level: z.string(), Message: z.string(), RequestId: z.string(), Version: z.string().nullable(), Place: z.string() })),
  NextToken: z.string(),
})
export type LogPage = z.infer<typeof logsSchema>

/** Errors of the management API as AWS has them with our code beside, and those of a front door that never got that far. */
const errorSchema = z.looseObject({
  OutpostCode: z.string().optional(),
  message: z.string().optional(),
  Message: z.string().optional(),
  error: z.looseObject({ code: z.string(), message: z.string() }).optional(),
})

/** Another function of the account, called as `env[Binding].fetch()`. */
export interface ServiceMember {
  readonly Binding: string
  readonly Service: string
  readonly Qualifier?: string
  readonly Entrypoint?: string
  readonly Props?: Readonly<Record<string, unknown>>
}

/** Outpost's addition to Lambda's members of a function; unset members stay as they are. */
export interface OutpostMembers {
  readonly Secrets?: Readonly<Record<string, string>>
  readonly Prime?: readonly string[] | false
  readonly Limits?: Readonly<{ CpuMs?: number; SubrequestMax?: number; ResponseMaxBytes?: number }>
  readonly Routes?: readonly string[]
  readonly JsonVariables?: Readonly<Record<string, unknown>>
  readonly Services?: readonly ServiceMember[]
  readonly Origin?: string | null
  readonly Idempotent?: boolean
  readonly LatencySensitivity?: LatencySensitivity
  readonly Sessions?: Readonly<{ Header?: string; Cookie?: string; IdleSeconds?: number; MaxAgeSeconds?: number }> | false
}

export interface ConfigurationMembers {
  readonly Handler?: string
  readonly Timeout?: number
  readonly MemorySize?: number
  readonly Environment?: { readonly Variables: Readonly<Record<string, string>> }
  readonly Outpost?: OutpostMembers
}

export interface InvokeReply {
  readonly status: number
  readonly payload: Uint8Array
  readonly executedVersion: string | null
  /** `Unhandled` when the function failed; the payload then tells how. */
  readonly functionError: string | null
  readonly logTail: string | null
  readonly requestId: string | null
  readonly place: string | null
  readonly startKind: string | null
}

interface Reply {
  readonly status: number
  readonly headers: Headers
  readonly body: Uint8Array
}

export interface Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
}

/** OUTPOST_*, then AWS_*, then the pair that a development server takes. Both halves come from one source. */
export function resolveCredentials(env: CliContext['env']): Credentials {
  for (const prefix of ['OUTPOST', 'AWS']) {
    const accessKeyId = env[`${prefix}_ACCESS_KEY_ID`]
    const secretAccessKey = env[`${prefix}_SECRET_ACCESS_KEY`]
    if (accessKeyId === undefined && secretAccessKey === undefined) continue
    if (!accessKeyId || !secretAccessKey) {
      throw new CodedError('ERR_CONFIG', [`${prefix}_ACCESS_KEY_ID and ${prefix}_SECRET_ACCESS_KEY must be set together`])
    }
    const sessionToken = env[`${prefix}_SESSION_TOKEN`]
    return { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) }
  }
  return { accessKeyId: 'dev', secretAccessKey: 'dev' }
}

export class ApiClient {
  readonly endpoint: URL
  readonly #credentials: Credentials
  readonly #region: string

  constructor(endpoint: URL, credentials: Credentials, region = 'us-east-1') {
    this.endpoint = endpoint
    this.#credentials = credentials
    this.#region = region
  }

  async createFunction(name: string, zip: Uint8Array, members: ConfigurationMembers, publish: boolean): Promise<FunctionRecord> {
    // Runtime and Role are mandatory for Lambda's clients and mean nothing here.
    return this.#json(functionSchema, 'POST', '/2015-03-31/functions', {}, {
      FunctionName: name,
      Runtime: 'nodejs22.x',
      Role: 'arn:aws:iam::000000000000:role/outpost',
      ...members,
      Code: { ZipFile: Buffer.from(zip).toString('base64') },
      Publish: publish,
    })
  }

  async updateCode(name: string, zip: Uint8Array, publish: boolean, outpost?: OutpostMembers): Promise<FunctionRecord> {
    return this.#json(functionSchema, 'PUT', functionPath(name, '/code'), {}, {
      ZipFile: Buffer.from(zip).toString('base64'),
      Publish: publish,
      ...(outpost === undefined ? {} : { Outpost: outpost }),
    })
  }

  async updateConfiguration(name: string, members: ConfigurationMembers): Promise<FunctionRecord> {
    return this.#json(functionSchema, 'PUT', functionPath(name, '/configuration'), {}, members)
  }

  /** Null if there is no such function. */
  async getConfiguration(name: string): Promise<FunctionRecord | null> {
    try {
      return await this.#json(functionSchema, 'GET', functionPath(name, '/configuration'), {}, null)
    } catch (error) {
      if (error instanceof RemoteError && error.status === 404) return null
      throw error
    }
  }

  async listFunctions(): Promise<readonly FunctionRecord[]> {
    const all: FunctionRecord[] = []
    let marker: string | null = null
    do {
      const page: z.infer<typeof listSchema> = await this.#json(listSchema, 'GET', '/2015-03-31/functions', marker === null ? {} : { Marker: marker }, null)
      all.push(...page.Functions)
      marker = page.NextMarker ?? null
    } while (marker !== null && marker !== '')
    return all
  }

  async deleteFunction(name: string): Promise<void> {
    await this.#request('DELETE', functionPath(name, ''), {}, null)
  }

  /** Log lines kept of the function's latest runs; with a token those after the page that gave it. */
  async logs(name: string, token: string | null): Promise<LogPage> {
    return this.#json(logsSchema, 'GET', functionPath(name, '/logs'), token === null ? {} : { NextToken: token }, null)
  }

  /** Points the alias to the version, making the alias if need be. */
  async setAlias(name: string, alias: string, version: string): Promise<void> {
    try {
      await this.#json(aliasSchema, 'PUT', functionPath(name, `/aliases/${encodeURIComponent(alias)}`), {}, { FunctionVersion: version })
    } catch (error) {
      if (!(error instanceof RemoteError && error.status === 404)) throw error
      await this.#json(aliasSchema, 'POST', functionPath(name, '/aliases'), {}, { Name: alias, FunctionVersion: version })
    }
  }

  async invoke(name: string, payload: Uint8Array, qualifier: string | null, tail: boolean): Promise<InvokeReply> {
    const { status, headers, body } = await this.#request('POST', functionPath(name, '/invocations'), qualifier === null ? {} : { Qualifier: qualifier }, payload, {
      'content-type': 'application/octet-stream',
      'x-amz-log-type': tail ? 'Tail' : 'None',
    })
    const logTail = headers.get('x-amz-log-result')
    return {
      status,
      payload: body,
      executedVersion: headers.get('x-amz-executed-version'),
      functionError: headers.get('x-amz-function-error'),
      logTail: logTail === null ? null : Buffer.from(logTail, 'base64').toString(),
      requestId: requestIdOf(headers),
      place: headers.get('x-outpost-place'),
      startKind: headers.get('x-outpost-start'),
    }
  }

  async #json<T>(schema: z.ZodType<T>, method: string, path: string, query: Record<string, string>, body: object | null): Promise<T> {
    const bytes = body === null ? null : Buffer.from(JSON.stringify(body))
    const reply = await this.#request(method, path, query, bytes, { 'content-type': 'application/json' })
    const parsed = schema.safeParse(parseJson(reply.body))
    if (!parsed.success) throw new CodedError('ERR_ENDPOINT_ANSWER', [this.endpoint.origin, `${method} ${path} gave ${describeBody(reply)}`])
    return parsed.data
  }

  async #request(method: string, path: string, query: Record<string, string>, body: Uint8Array | null, headers: Record<string, string> = {}): Promise<Reply> {
    const { endpoint } = this
    // Made for each call: the signer keeps no state that would be worth sharing in a command that makes a few calls.
    const signer = new SignatureV4({ service: 'lambda', region: this.#region, credentials: this.#credentials, sha256: Sha256 })
    const signed = await signer.sign({
      method,
      protocol: endpoint.protocol,
      hostname: endpoint.hostname,
      path,
      query,
      headers: { ...headers, host: endpoint.host },
      ...(body === null ? {} : { body }),
    })
    const search = new URLSearchParams(query).toString()
    const url = `${endpoint.origin}${path}${search === '' ? '' : `?${search}`}`
    const reply = await this.#send(url, { method, headers: signed.headers, ...(body === null ? {} : { body }) })
    if (reply.status >= 200 && reply.status < 300) return reply
    throw this.#remoteError(reply, `${method} ${path}`)
  }

  async #send(url: string, init: { method: string; headers: Record<string, string>; body?: Uint8Array }): Promise<Reply> {
    try {
      const response = await fetch(url, { ...init, redirect: 'manual', signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) })
      const body = new Uint8Array(await response.arrayBuffer())
      if (body.byteLength > ANSWER_MAX_BYTES) throw new CodedError('ERR_ENDPOINT_ANSWER', [this.endpoint.origin, `an answer of ${body.byteLength} bytes`])
      return { status: response.status, headers: new Headers([...response.headers]), body }
    } catch (error) {
      if (error instanceof CodedError) throw error
      throw new CodedError('ERR_ENDPOINT_UNREACHABLE', [this.endpoint.origin, rootMessage(error)], { cause: error })
    }
  }

  #remoteError(reply: Reply, call: string): Error {
    const body = errorSchema.safeParse(parseJson(reply.body)).data ?? {}
    const code = body.OutpostCode ?? body.error?.code ?? reply.headers.get('x-amzn-errortype')?.split(':')[0]
    const message = body.message ?? body.Message ?? body.error?.message
    if (code === undefined || message === undefined) return new CodedError('ERR_ENDPOINT_ANSWER', [this.endpoint.origin, `${call} gave ${describeBody(reply)}`])
    return new RemoteError(code, reply.status, message, requestIdOf(reply.headers))
  }
}

function functionPath(name: string, rest: string): string {
  return `/2015-03-31/functions/${encodeURIComponent(name)}${rest}`
}

function requestIdOf(headers: Headers): string | null {
  return headers.get('x-amzn-requestid') ?? headers.get('x-outpost-request-id')
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString()) as unknown
  } catch {
    // Not JSON: the schema refuses undefined and says so.
    return undefined
  }
}

function describeBody(reply: Reply): string {
  const text = Buffer.from(reply.body).toString().slice(0, 120)
  return `status ${reply.status} and ${text === '' ? 'no body' : JSON.stringify(text)}`
}

/** undici says `fetch failed` and keeps the reason in `cause`; Node's joined address attempts keep it one deeper. */
function rootMessage(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return rootMessage(error.errors[0])
  if (!(error instanceof Error)) return String(error)
  return error.cause === undefined ? error.message : rootMessage(error.cause)
}
