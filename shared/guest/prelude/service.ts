/**
 * Service bindings: `env.NAME.fetch()` calls another function of the same account. The host knows which: here a binding
 * is its index. Redirects are answers like any other, and what the other function throws rejects the caller's promise.
 */
import { OPERATIONS } from '../abi.ts'
import { responseTo, wireBody } from './fetch.ts'
import { wireHeaders } from './headers.ts'
import { operation } from './operations.ts'
import { ObjectDefineProperty, PromiseConstructor, PromiseThen } from './primordials.ts'
import { Request, takeRequest, type RequestInit } from './request.ts'
import type { Response } from './response.ts'
import { HostSource, isReadableStream, requireBytes, type ByteStream, type ReadableStream } from './streams.ts'
import { tag } from './webidl.ts'

const MESSAGE_OF_FUNCTION = 'ERR_FUNCTION_EXCEPTION'

export class Fetcher {
  readonly #index: number

  constructor(index: number) {
    this.#index = index
  }

  async fetch(input: Request | URL | string, init?: RequestInit): Promise<Response> {
    const index = this.#index
    const request = takeRequest(new Request(input, init))
    const { raw, signal } = request
    if (signal?.aborted === true) throw signal.reason
    const streamed = raw instanceof HostSource || isReadableStream(raw)
    const reading = streamed ? null : wireBody(raw)
    const body = reading instanceof PromiseConstructor ? await reading : reading
    const head = `${index}\n${streamed ? 1 : 0}\n${request.method}\n${request.url}${request.list.length === 0 ? '' : `\n${wireHeaders(request.list)}`}`
    return await responseTo(OPERATIONS.SERVICE, head, body, signal, remoteError, streamed ? (id, fail) => void PromiseThen(sendBody(id, raw), (nothing) => nothing, fail) : null)
  }
}
tag(Fetcher.prototype, 'Fetcher')

/** As in Workers: `remote` says that the error was thrown by the other function. */
function remoteError(error: Error): Error {
  const { code } = error as { readonly code?: unknown }
  if (code !== MESSAGE_OF_FUNCTION) return error
  return ObjectDefineProperty(error, 'remote', { value: true, writable: true, configurable: true, enumerable: true })
}

/** The other function may answer without reading: then what is written goes nowhere. */
async function sendBody(id: number, body: HostSource | ReadableStream): Promise<void> {
  if (body instanceof HostSource) {
    for (let chunk = await body.next(); chunk !== null; chunk = await body.next()) if (chunk.byteLength > 0) await operation(OPERATIONS.WRITE, id, chunk)
  } else {
    const reader = (body as ByteStream).getReader()
    for (let step = await reader.read(); !step.done; step = await reader.read()) {
      const chunk = requireBytes(step.value)
      if (chunk.byteLength > 0) await operation(OPERATIONS.WRITE, id, chunk)
    }
  }
  await operation(OPERATIONS.WRITE, id, null)
}
