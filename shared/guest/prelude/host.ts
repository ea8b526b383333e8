/**
 * The calls into the host, kept in variables of the bundle's one function. Nothing here may be handed to code of a
 * function: not as a property, not as a callback, not as an argument.
 */
import { RESPOND_WIRE_SHIFT, WIRE_JSON, type HOST_CALLS } from '../abi.ts'

export type Bytes = ArrayBuffer | Uint8Array
export type WireBody = string | Bytes | null

/** Types of HOST_CALLS; their meaning is told there. */
export interface Host {
  readonly respond: (what: number, body: WireBody, headers?: string) => void
  readonly write: (chunk: string | Bytes) => boolean
  readonly end: () => void
  readonly fail: (name: string, message: string, stack: string) => void
  readonly done: () => void
  readonly bodyText: () => string
  readonly bodyBytes: (serviceId?: number) => ArrayBuffer
  readonly log: (level: number, line: string) => void
  readonly random: (byteCount: number) => ArrayBuffer
  readonly digest: (algorithm: string, data: Bytes) => ArrayBuffer
  readonly compute: (request: string, data: Bytes) => ArrayBuffer | string
  readonly secret: (name: string) => string | null
  readonly remainingMs: () => number
  readonly start: (op: number, a?: unknown, b?: unknown) => number
  readonly cancel: (id: number) => void
  readonly utf8Encode: (text: string) => ArrayBuffer
  readonly utf8Decode: (bytes: Bytes, fatal: boolean, ignoreBom: boolean) => string | null
  readonly legacyDecode: (encoding: string, bytes: Bytes | null, flags: number) => string | null
  readonly site: () => string
  readonly warn: (kind: string) => void
  readonly intl: (key: string, what: string, a?: string | number, b?: string | number) => string | number | null
}
type SameNames = keyof Host extends keyof typeof HOST_CALLS ? (keyof typeof HOST_CALLS extends keyof Host ? true : never) : never
const _sameNames: SameNames = true

export let hostRespond: Host['respond']
export let hostWrite: Host['write']
export let hostEnd: Host['end']
export let hostFail: Host['fail']
export let hostDone: Host['done']
export let hostBodyText: Host['bodyText']
export let hostBodyBytes: Host['bodyBytes']
export let hostLog: Host['log']
export let hostRandom: Host['random']
export let hostDigest: Host['digest']
export let hostCompute: Host['compute']
export let hostSecret: Host['secret']
export let hostRemainingMs: Host['remainingMs']
export let hostStart: Host['start']
export let hostCancel: Host['cancel']
export let hostUtf8Encode: Host['utf8Encode']
export let hostUtf8Decode: Host['utf8Decode']
export let hostLegacyDecode: Host['legacyDecode']
export let hostSite: Host['site']
export let hostWarn: Host['warn']
export let hostIntl: Host['intl']

export function bindHost(host: Host): void {
  // A call through a variable needs no property look-up and passes no `this`.
  ;({
    respond: hostRespond,
    write: hostWrite,
    end: hostEnd,
    fail: hostFail,
    done: hostDone,
    bodyText: hostBodyText,
    bodyBytes: hostBodyBytes,
    log: hostLog,
    random: hostRandom,
    digest: hostDigest,
    compute: hostCompute,
    secret: hostSecret,
    remainingMs: hostRemainingMs,
    start: hostStart,
    cancel: hostCancel,
    utf8Encode: hostUtf8Encode,
    utf8Decode: hostUtf8Decode,
    legacyDecode: hostLegacyDecode,
    site: hostSite,
    warn: hostWarn,
    intl: hostIntl,
  } = host)
}

/** For `respond`: JSON headers, and with status 200. */
export const RESPOND_JSON = WIRE_JSON << RESPOND_WIRE_SHIFT
export const RESPOND_JSON_OK = 200 | RESPOND_JSON

/** Bytes of a UTF-8 text as an own array. */
export function encodeUtf8(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(hostUtf8Encode(text))
}

/** UTF-8 text of bytes, without BOM, wrong bytes as U+FFFD. */
export function decodeUtf8(bytes: Bytes): string {
  return hostUtf8Decode(bytes, false, false) ?? ''
}
