/**
 * Verifies AWS Signature Version 4 on calls as they arrived, in the header form and in the query form.
 *
 * V1: whatever may change what a call does is signed: method, path, query, body, `host` and every `x-amz-*` header that
 *     is there. A header added on the way makes the call invalid.
 * V2: the path is encoded once more than it arrived. Clients do this for every service but S3; it shows only for
 *     paths with escapes, such as an ARN as function name.
 * V3: signatures are compared in constant time.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { CodedError } from '../errors.ts'
import type { ControlCall } from '../http/types.ts'
import { SIGNATURE_SKEW_MAX_MS, SIGNING_KEYS_CACHED_MAX } from '../limits.ts'
import { headerNames, headerValue, headerValues } from './header-list.ts'
import type { AccessKey, Authenticator, Identity, KeyStore } from './keys.ts'

export interface SigV4Options {
  readonly keys: KeyStore
  readonly clock: Clock
  /** Service in the credential scope. Default `lambda`. */
  readonly service?: string
  /** How far a call's time may be from ours. Default SIGNATURE_SKEW_MAX_MS. */
  readonly skewMaxMs?: number
}

interface Credential {
  readonly accessKeyId: string
  /** `yyyymmdd` */
  readonly date: string
  readonly region: string
  readonly service: string
}

interface Signed {
  readonly credential: Credential
  readonly signedHeaders: readonly string[]
  readonly signature: string
  /** `yyyymmddThhmmssZ` */
  readonly time: string
  /** Null for the header form: only the skew limits it. */
  readonly expiresAfterMs: number | null
}

const ALGORITHM = 'AWS4-HMAC-SHA256'
const SIGNED_HEADERS_MAX = 100
const PRESIGNED_MAX_SECONDS = 604_800

export class SigV4Authenticator implements Authenticator {
  readonly #keys: KeyStore
  readonly #clock: Clock
  readonly #service: string
  readonly #skewMaxMs: number
  /** By scope; the least recently used goes first. */
  readonly #signingKeys = new Map<string, { readonly secret: string; readonly key: Buffer }>()

  constructor(options: SigV4Options) {
    this.#keys = options.keys
    this.#clock = options.clock
    this.#service = options.service ?? 'lambda'
    this.#skewMaxMs = options.skewMaxMs ?? SIGNATURE_SKEW_MAX_MS
  }

  authenticate(call: ControlCall): Identity {
    const [rawPath = '', rawQuery = ''] = splitOnce(call.rawPath, '?')
    const query = parseQuery(rawQuery)
    const signed = parseSigned(call.headers, query)
    this.#checkTime(signed)
    checkCoverage(call.headers, signed.signedHeaders)
    const { credential } = signed
    if (credential.service !== this.#service) throw new CodedError('ERR_SIGNATURE_INVALID', [`the credential is scoped to ${printable(credential.service)}, not to ${this.#service}`])
    const key = this.#keys.lookup(credential.accessKeyId)
    if (key === null) throw new CodedError('ERR_SIGNATURE_UNKNOWN_KEY', [printable(credential.accessKeyId)])
    const canonical = [
      call.method.toUpperCase(),
      canonicalPath(rawPath),
      canonicalQuery(query),
      canonicalHeaders(call.headers, signed.signedHeaders),
      '',
      signed.signedHeaders.join(';'),
      payloadHash(call),
    ].join('\n')
    const scope = `${credential.date}/${credential.region}/${credential.service}/aws4_request`
    const stringToSign = [ALGORITHM, signed.time, scope, sha256(canonical)].join('\n')
    const expected = createHmac('sha256', this.#signingKey(credential, key)).update(stringToSign).digest()
    if (!timingSafeEqual(expected, Buffer.from(signed.signature, 'hex'))) {
      throw new CodedError('ERR_SIGNATURE_INVALID', ['check the secret key and how the request was signed'])
    }
    return { account: key.account, accessKeyId: credential.accessKeyId }
  }

  #checkTime(signed: Signed): void {
    if (!signed.time.startsWith(signed.credential.date)) throw new CodedError('ERR_SIGNATURE_INVALID', ['the date of the credential is not that of the request'])
    const { time } = signed
    const signedAtMs = Date.parse(`${time.slice(0, 4)}-${time.slice(4, 6)}-${time.slice(6, 8)}T${time.slice(9, 11)}:${time.slice(11, 13)}:${time.slice(13, 15)}Z`)
    const nowMs = this.#clock.nowMs()
    if (Number.isNaN(signedAtMs)) throw new CodedError('ERR_SIGNATURE_INCOMPLETE', ['its time is not a date'])
    const latestMs = signedAtMs + (signed.expiresAfterMs ?? this.#skewMaxMs)
    if (signedAtMs > nowMs + this.#skewMaxMs || nowMs > latestMs) {
      throw new CodedError('ERR_SIGNATURE_EXPIRED', [`Signature expired or not yet valid: ${time} against ${new Date(nowMs).toISOString()}`])
    }
  }

  #signingKey(credential: Credential, accessKey: AccessKey): Buffer {
    const name = `${credential.accessKeyId}/${credential.date}/${credential.region}/${credential.service}`
    const known = this.#signingKeys.get(name)
    if (known !== undefined) this.#signingKeys.delete(name)
    const secret = accessKey.secret
    const entry = known?.secret === secret ? known : { secret, key: deriveKey(secret, credential) }
    this.#signingKeys.set(name, entry)
    if (this.#signingKeys.size > SIGNING_KEYS_CACHED_MAX) {
      const [oldest] = this.#signingKeys.keys()
      if (oldest !== undefined) this.#signingKeys.delete(oldest)
    }
    return entry.key
  }
}

function deriveKey(secret: string, credential: Credential): Buffer {
  let key: Buffer | string = `AWS4${secret}`
  for (const part of [credential.date, credential.region, credential.service, 'aws4_request']) key = createHmac('sha256', key).update(part).digest()
  return Buffer.from(key)
}

type Query = readonly (readonly [name: string, value: string])[]

function parseQuery(rawQuery: string): Query {
  if (rawQuery === '') return []
  return rawQuery.split('&').filter((part) => part !== '').map((part) => {
    const [name = '', value = ''] = splitOnce(part, '=')
    return [decode(name), decode(value)]
  })
}

function parseSigned(headers: string, query: Query): Signed {
  const authorization = headerValues(headers, 'authorization')
  const algorithm = onlyParameter(query, 'X-Amz-Algorithm')
  if (authorization.length === 0 && algorithm === null) throw new CodedError('ERR_SIGNATURE_MISSING')
  if (authorization.length + (algorithm === null ? 0 : 1) > 1) throw incomplete('it is given more than once')
  return authorization[0] === undefined ? parseQueryForm(query) : parseHeaderForm(authorization[0], headers)
}

function parseHeaderForm(authorization: string, headers: string): Signed {
  const match = /^(\S+)\s+(.*)$/.exec(authorization.trim())
  if (match?.[1] !== ALGORITHM) throw incomplete(`only ${ALGORITHM} is supported`)
  const fields = new Map<string, string>()
  for (const field of (match[2] ?? '').split(',')) {
    const [name = '', value = ''] = splitOnce(field.trim(), '=')
    if (fields.has(name)) throw incomplete(`it has ${printable(name)} twice`)
    fields.set(name, value)
  }
  const times = headerValues(headers, 'x-amz-date')
  if (times.length !== 1) throw incomplete('the X-Amz-Date header is missing')
  return makeSigned(fields.get('Credential'), fields.get('SignedHeaders'), fields.get('Signature'), times[0], null)
}

function parseQueryForm(query: Query): Signed {
  const algorithm = onlyParameter(query, 'X-Amz-Algorithm')
  if (algorithm !== ALGORITHM) throw incomplete(`only ${ALGORITHM} is supported`)
  const expires = onlyParameter(query, 'X-Amz-Expires') ?? ''
  const expiresSeconds = Number(expires)
  if (!/^\d{1,6}$/.test(expires) || expiresSeconds < 1 || expiresSeconds > PRESIGNED_MAX_SECONDS) throw incomplete(`X-Amz-Expires must be 1 to ${PRESIGNED_MAX_SECONDS}`)
  return makeSigned(
    onlyParameter(query, 'X-Amz-Credential') ?? undefined,
    onlyParameter(query, 'X-Amz-SignedHeaders') ?? undefined,
    onlyParameter(query, 'X-Amz-Signature') ?? undefined,
    onlyParameter(query, 'X-Amz-Date') ?? undefined,
    expiresSeconds * 1000,
  )
}

function makeSigned(credential: string | undefined, signedHeaders: string | undefined, signature: string | undefined, time: string | undefined, expiresAfterMs: number | null): Signed {
  if (credential === undefined || signedHeaders === undefined || signature === undefined) throw incomplete('it needs Credential, SignedHeaders and Signature')
  if (!/^[0-9a-f]{64}$/.test(signature)) throw incomplete('its signature is not 64 hex digits')
  if (time === undefined || !/^\d{8}T\d{6}Z$/.test(time)) throw incomplete('its time is not of the form yyyymmddThhmmssZ')
  const names = signedHeaders.split(';')
  if (names.length > SIGNED_HEADERS_MAX || new Set(names).size !== names.length || names.some((name) => !/^[a-z0-9!#$%&'*+.^_`|~-]+$/.test(name))) throw incomplete('its list of signed headers is malformed')
  const parts = credential.split('/')
  const [accessKeyId = '', date = '', region = '', service = '', end = ''] = parts
  if (parts.length !== 5 || accessKeyId === '' || !/^\d{8}$/.test(date) || region === '' || end !== 'aws4_request') {
    throw incomplete('its credential is not KEY/DATE/REGION/SERVICE/aws4_request')
  }
  return { credential: { accessKeyId, date, region, service }, signedHeaders: names, signature, time, expiresAfterMs }
}

/** V1. */
function checkCoverage(headers: string, signedHeaders: readonly string[]): void {
  const signed = new Set(signedHeaders)
  if (!signed.has('host')) throw incomplete('the host header must be signed')
  for (const name of headerNames(headers)) {
    if (name.startsWith('x-amz-') && !signed.has(name)) throw new CodedError('ERR_SIGNATURE_INVALID', [`the header ${printable(name)} is not signed`])
  }
  for (const name of signed) {
    if (headerValue(headers, name) === null) throw new CodedError('ERR_SIGNATURE_INVALID', [`the signed header ${printable(name)} is missing`])
  }
}

/** The hash that was signed must be that of the body which arrived; `UNSIGNED-PAYLOAD` is refused, as it equals no hash. */
function payloadHash(call: ControlCall): string {
  const actual = sha256(call.body)
  const declared = headerValues(call.headers, 'x-amz-content-sha256')
  if (declared.length > 0 && (declared.length > 1 || declared[0] !== actual)) throw new CodedError('ERR_SIGNATURE_INVALID', ['the body is not the one that was signed'])
  return actual
}

/** V2. */
function canonicalPath(rawPath: string): string {
  const segments: string[] = []
  for (const segment of rawPath.split('/')) {
    if (segment === '' || segment === '.') continue
    if (segment === '..') segments.pop()
    else segments.push(encode(segment))
  }
  return `/${segments.join('/')}${segments.length > 0 && rawPath.endsWith('/') ? '/' : ''}`
}

function canonicalQuery(query: Query): string {
  return query
    .filter(([name]) => name !== 'X-Amz-Signature')
    .map(([name, value]) => [encode(name), encode(value)] as const)
    .sort(([nameA, valueA], [nameB, valueB]) => compare(nameA, nameB) || compare(valueA, valueB))
    .map(([name, value]) => `${name}=${value}`)
    .join('&')
}

function canonicalHeaders(headers: string, signedHeaders: readonly string[]): string {
  return signedHeaders.map((name) => `${name}:${headerValues(headers, name).map((value) => value.trim().replace(/\s+/g, ' ')).join(',')}`).join('\n')
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    // The only failure is a malformed escape.
    throw incomplete('the query holds a malformed escape')
  }
}

function onlyParameter(query: Query, name: string): string | null {
  const values = query.filter(([other]) => other === name)
  if (values.length > 1) throw incomplete(`${name} is given more than once`)
  return values[0]?.[1] ?? null
}

function splitOnce(text: string, separator: string): readonly string[] {
  const index = text.indexOf(separator)
  return index === -1 ? [text] : [text.slice(0, index), text.slice(index + separator.length)]
}

function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}

function incomplete(reason: string): CodedError {
  return new CodedError('ERR_SIGNATURE_INCOMPLETE', [reason])
}

function printable(text: string): string {
  return text.slice(0, 128).replace(/[^\x20-\x7e]/g, '?')
}
