/** `fetch`: the request's head and body go to the host, which checks, sends and follows redirects. */
import { NativeDOMException, NativeUint8Array, ObjectDefineProperty, PromiseConstructor, StringIndexOf, StringSlice, StringSplit } from './primordials.ts'
import { OPERATIONS } from '../abi.ts'
import { offAbort, onAbort, type AbortSignal } from './abort.ts'
import { BUFFERED, readBytes, type RawBody } from './body.ts'
import { wireHeaders, type HeaderList } from './headers.ts'
import { hostBodyBytes, type WireBody } from './host.ts'
import { begin, cancel } from './operations.ts'
import { Request, takeRequest, type RequestInit, type TakenRequest } from './request.ts'
import { responseFromFetch, type Response } from './response.ts'
import { HostSource } from './streams.ts'
import { publish } from './webidl.ts'

function fetch(input: Request | URL | string, init?: RequestInit): Promise<Response> {
  let request: TakenRequest
  try {
    request = takeRequest(new Request(input, init))
  } catch (error) {
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- whatever a getter of the function threw
    return new PromiseConstructor((_resolve, reject) => reject(error))
  }
  // Not awaited: a promise more for each request.
  return send(request)
}

/** Rejects as `fetch` does. */
export async function send(request: TakenRequest): Promise<Response> {
  const signal = request.signal
  if (signal?.aborted === true) throw signal.reason
  const scheme = StringSlice(request.url, 0, StringIndexOf(request.url, ':'))
  if (scheme !== 'http' && scheme !== 'https') throw new TypeError(`fetch failed: scheme ${scheme} is not supported`)
  // Without a stream to read the operation begins here and now: while an image is built, its refusal then names the caller's line.
  const reading = wireBody(request.raw)
  const body = reading instanceof PromiseConstructor ? await reading : reading
  const head = `${request.method}\n${request.url}\n${request.redirect}${request.list.length === 0 ? '' : `\n${wireHeaders(request.list)}`}`
  return await responseTo(OPERATIONS.FETCH, head, body, signal, fetchError)
}

/** Who sends a body piece by piece: called with the operation's id, and with what makes the call fail. */
export type BodySender = (id: number, fail: (reason: unknown) => void) => void

/** The response to a FETCH or SERVICE, whose body is read from the host as the function reads it. `failure` makes the error that the caller sees. */
export function responseTo(op: number, head: string, body: WireBody, signal: AbortSignal | null, failure: (error: Error) => unknown, send: BodySender | null = null): Promise<Response> {
  return new PromiseConstructor<Response>((resolve, reject) => {
    let source: HostSource | null = null
    const breakOff = (reason: unknown): void => {
      if (source !== null) {
        source.breakOff(reason)
        return
      }
      cancel(id)
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- the reason is whatever the function gave
      reject(reason)
    }
    const abort = (): void => breakOff(signal?.reason ?? new NativeDOMException('The operation was aborted', 'AbortError'))
    const id = begin(op, head, body, (value, ok) => {
      if (ok) {
        const lines = StringSplit(value as string, '\n')
        if (lines[REDIRECTED] === WHOLE) resolve(responseOf(lines, new NativeUint8Array(hostBodyBytes(id))))
        else resolve(responseOf(lines, (source = new HostSource(OPERATIONS.READ, id))))
      } else {
        if (signal !== null) offAbort(signal, abort)
        // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- whatever the other side threw
        reject(failure(value as Error))
      }
    })
    if (signal !== null) onAbort(signal, abort)
    if (send !== null) send(id, breakOff)
  })
}

/** fetch rejects with a TypeError whatever went wrong on the network; the host's code and message stay readable. */
function fetchError(error: Error): Error {
  if (error instanceof TypeError || error instanceof NativeDOMException) return error
  const wrapped = new TypeError(error.message)
  const code = (error as { readonly code?: unknown }).code
  if (code !== undefined) ObjectDefineProperty(wrapped, 'code', { value: code, writable: true, configurable: true, enumerable: true })
  return wrapped
}

export function wireBody(raw: RawBody): WireBody | Promise<WireBody> {
  if (raw === null || typeof raw === 'string' || raw instanceof NativeUint8Array) return raw
  return raw === BUFFERED ? hostBodyBytes() : readBytes(raw)
}

/** Of the answer's head `status\nstatusText\nfinalUrl\nredirected\nname\nvalue...`. */
const REDIRECTED = 3
/** A service's answer, which nothing redirects: its body is here. */
const WHOLE = '2'

function responseOf(lines: readonly string[], body: HostSource | Uint8Array<ArrayBuffer>): Response {
  const status = Number(lines[0])
  const list: HeaderList = []
  for (let i = 4; i < lines.length; i++) list[i - 4] = lines[i] ?? ''
  const bodyless = status === 204 || status === 205 || status === 304
  return responseFromFetch(status, lines[1] ?? '', lines[2] ?? '', lines[REDIRECTED] === '1', list, bodyless ? null : body)
}

export function installFetch(): void {
  publish('fetch', fetch)
}
