/**
 * Calls that functions make of one another by service bindings, on the front door's thread. A call goes into the same
 * dispatcher as a request from outside, so it is placed, counted, limited and logged like one; nothing of it touches a
 * socket unless it has to leave this host.
 *
 *   caller's worker --records--> ServiceCall --invoke--> dispatcher (here, or region) --AnswerSink--> ServiceCall --messages--> caller's worker
 *
 * V1  A guest says only the index of a binding; who is called is in the description of its build.
 * V2  The caller's worker hears, for each call, one head or failure, then pieces up to one end or failure. Pieces leave
 *     within a window that grows as the guest reads.
 * V3  A call ends with its caller's run: what has not answered completely by then is cancelled. What has goes on with
 *     its waitUntil work.
 */
import { STATUS_CODES } from 'node:http'
import { CodedError } from '../errors.ts'
import { FairShare } from '../fair-share.ts'
import { selectionLine } from '../guest/selection.ts'
import type { Answer, AnswerSink, Dispatcher, Placement } from '../http/types.ts'
import {
  REQUEST_BODY_MAX_BYTES, SERVICE_BUFFERED_MAX_BYTES, SERVICE_CALLS_OPEN_MAX, SERVICE_CALLS_PER_REQUEST_MAX, SERVICE_DEPTH_MAX, SERVICE_WINDOW_BYTES,
} from '../limits.ts'
import type { ActiveRun } from './active-run.ts'
import { RECORD } from './channel.ts'
import type { ToWorker } from './messages.ts'
import { parseServiceHead, serviceResponseHeaders } from './service-head.ts'
import type { InvocationResult, ServiceBinding, ServiceChain } from './types.ts'

type Post = (message: ToWorker) => void

export interface ServiceCallCounts {
  started: number
  /** To the end of the body. */
  answered: number
  /** Rejected the caller's promise, or broke off the answer. */
  failed: number
  /** Nobody waited for the answer any more. */
  canceled: number
}

export class ServiceCalls {
  readonly counts: ServiceCallCounts = { started: 0, answered: 0, failed: 0, canceled: 0 }
  #dispatcher: Pick<Dispatcher, 'invoke'> | null = null
  /** Answers that were not read and request bodies of calls under way, bytes, by account. */
  readonly held = new FairShare(SERVICE_BUFFERED_MAX_BYTES)

  get heldBytes(): number {
    return this.held.used
  }

  /** Where calls go from now on. */
  attach(dispatcher: Pick<Dispatcher, 'invoke'>): void {
    this.#dispatcher = dispatcher
  }

  /** One of the records SERVICE...; `post` reaches the worker that wrote it. */
  onRecord(run: ActiveRun, type: number, id: number, b: number, c: number, bytes: Uint8Array, post: Post): void {
    const call = run.services?.get(id)
    switch (type) {
      case RECORD.SERVICE:
        return this.#start(run, id, Buffer.from(bytes.buffer, bytes.byteOffset, b).toString(), bytes.length > b ? bytes.subarray(b) : null, c === 1, post)
      case RECORD.SERVICE_BODY:
        if (call !== undefined) call.write(c === 1 ? null : bytes, b)
        else if (b !== 0) post({ kind: 'serviceWritten', runId: run.id, operation: b })
        return
      case RECORD.SERVICE_TAKEN:
        return call?.taken(b)
      case RECORD.SERVICE_CANCEL:
        return call?.abandon()
    }
  }

  /** V3. */
  endAll(run: ActiveRun): void {
    for (const call of [...(run.services?.values() ?? [])]) call.abandon()
  }

  /** `head` is the guest's; `body` is valid during the call. `more`: the rest of the body follows. */
  #start(run: ActiveRun, id: number, head: string, body: Uint8Array | null, more: boolean, post: Post): void {
    this.counts.started++
    run.services ??= new Map<number, ServiceCall>()
    const call = new ServiceCall(this, run, id, post)
    try {
      if (run.services.size >= SERVICE_CALLS_OPEN_MAX) throw new CodedError('ERR_SERVICE_FAILED', ['', `more than ${SERVICE_CALLS_OPEN_MAX} calls are open whose answers were not read`])
      run.services.set(id, call)
      this.#dispatch(run, call, head, body, more)
    } catch (error) {
      call.refuse(error)
    }
  }

  #dispatch(run: ActiveRun, call: ServiceCall, text: string, body: Uint8Array | null, bodyFollows: boolean): void {
    const { build, requestId, clientIp, deadlineAtMs } = run.input
    const head = parseServiceHead(text)
    const binding = build.services?.[head.index]
    if (binding === undefined) throw new CodedError('ERR_SERVICE_FAILED', [head.index, 'there is no such binding'])
    call.binding = binding.binding
    call.url = head.url
    const chain = nextLink(run, binding)
    if (this.#dispatcher === null) throw new CodedError('ERR_SERVICE_FAILED', [binding.binding, 'nothing here runs other functions'])
    const bodyMore = bodyFollows || head.more
    const own = body === null || body.length === 0 ? null : new Uint8Array(body)
    call.hold(own?.length ?? 0)
    const headers = bodyMore ? head.headers : withLength(head.headers, head.method, own?.length ?? 0)
    call.running(this.#dispatcher.invoke({
      requestId, account: build.account, functionName: binding.service, qualifier: binding.qualifier, invocationKind: 'http',
      method: head.method, url: head.url, headers, body: own, bodyMore, clientIp, deadlineAtMs, wantLogs: false, chain,
      selection: selectionLine({ entrypoint: binding.entrypoint, handler: 'fetch', props: binding.props }),
    }, call))
  }
}

/** Throws ERR_SERVICE_DEPTH and ERR_SERVICE_CALLS. */
function nextLink(run: ActiveRun, { binding }: ServiceBinding): ServiceChain {
  const depth = (run.input.chain?.depth ?? 0) + 1
  if (depth > SERVICE_DEPTH_MAX) throw new CodedError('ERR_SERVICE_DEPTH', [binding, SERVICE_DEPTH_MAX])
  // One counter for all that a request from outside causes here.
  run.chainCalls ??= run.input.chain?.calls ?? { count: 0 }
  if (++run.chainCalls.count > SERVICE_CALLS_PER_REQUEST_MAX) throw new CodedError('ERR_SERVICE_CALLS', [binding, SERVICE_CALLS_PER_REQUEST_MAX])
  const { functionName, version } = run.input.build
  return { depth, calls: run.chainCalls, caller: { functionName, version } }
}

/** As a front door would have received it. */
function withLength(headers: string, method: string, bytes: number): string {
  if (bytes === 0 && (method === 'GET' || method === 'HEAD')) return headers
  return `${headers}\ncontent-length\n${bytes}`
}

export class ServiceCall implements AnswerSink {
  readonly #calls: ServiceCalls
  readonly #run: ActiveRun
  readonly #id: number
  readonly #post: Post
  binding = ''
  url = ''
  #answer: Answer | null = null
  #state: 'waiting' | 'answering' | 'complete' | 'over' = 'waiting'
  /** Bytes of the answer that the guest has not read, and of the request body. */
  #unreadBytes = 0
  #requestBytes = 0
  /** The dispatcher was asked to pause its answer; it asked us to pause the body. */
  #paused = false
  #bodyPaused = false
  /** Writes of the guest that wait for the body to go on. */
  #waitingWrites: number[] = []

  constructor(calls: ServiceCalls, run: ActiveRun, id: number, post: Post) {
    this.#calls = calls
    this.#run = run
    this.#id = id
    this.#post = post
  }

  running(answer: Answer): void {
    this.#answer = answer
    // It may have been over before it was known.
    if (this.#state === 'over') answer.cancel()
  }

  refuse(error: unknown): void {
    this.#fail(error instanceof CodedError ? error : new CodedError('ERR_SERVICE_FAILED', [this.binding, error instanceof Error ? error.message : String(error)]))
  }

  // What the guest does.

  /** Null: the end. `operation` settles when the next piece may come; 0: none. */
  write(chunk: Uint8Array | null, operation: number): void {
    if (this.#state !== 'over' && this.#state !== 'complete') {
      try {
        if (chunk === null) this.#answer?.writeEnd()
        else {
          this.hold(chunk.length)
          this.#answer?.write(new Uint8Array(chunk))
        }
      } catch (error) {
        this.refuse(error)
        this.#answer?.cancel()
      }
    }
    if (operation === 0) return
    if (this.#bodyPaused && this.#state === 'waiting') this.#waitingWrites.push(operation)
    else this.#written(operation)
  }

  taken(bytes: number): void {
    this.#unread(-bytes)
    if (this.#paused && this.#unreadBytes < SERVICE_WINDOW_BYTES / 2) {
      this.#paused = false
      this.#answer?.resume()
    }
    this.#forgetIfRead()
  }

  /** Nobody wants the answer. */
  abandon(): void {
    const unanswered = this.#state === 'waiting' || this.#state === 'answering'
    this.#forget()
    if (!unanswered) return
    this.#calls.counts.canceled++
    this.#answer?.cancel()
  }

  /** Counts bytes of the request body. Throws ERR_BODY_TOO_LARGE, and ERR_SERVICE_FAILED when calls of this account hold too much here. */
  hold(bytes: number): void {
    if (this.#requestBytes + bytes > REQUEST_BODY_MAX_BYTES) throw new CodedError('ERR_BODY_TOO_LARGE', [REQUEST_BODY_MAX_BYTES])
    const { held } = this.#calls
    // Also for nothing: its answer would be something.
    if (held.isExhausted(this.#account) || !held.take(this.#account, bytes)) throw new CodedError('ERR_SERVICE_FAILED', [this.binding, 'calls hold too much on this host already. Try again'])
    this.#requestBytes += bytes
  }

  // What the other function answers.

  head(status: number, headers: string, placement: Placement, body: Uint8Array | null, last: boolean): void {
    if (this.#state !== 'waiting') return
    const lines = serviceResponseHeaders(headers, placement.session ?? null)
    if (lines === null) {
      this.refuse(new CodedError('ERR_FUNCTION_BAD_RESPONSE', ['a header is malformed']))
      this.#answer?.cancel()
      return
    }
    this.#state = last ? 'complete' : 'answering'
    if (last) this.#calls.counts.answered++
    this.#unread(body?.length ?? 0)
    this.#releaseWrites()
    this.#post({
      kind: 'serviceHead', runId: this.#run.id, id: this.#id, head: `${status}\n${STATUS_CODES[status] ?? ''}\n${this.url}\n${last ? 2 : 0}${lines === '' ? '' : `\n${lines}`}`,
      body: body === null || body.length === 0 ? null : new Uint8Array(body), last,
    })
    this.#forgetIfRead()
  }

  data(chunk: Uint8Array): boolean {
    if (this.#state !== 'answering') return true
    this.#unread(chunk.length)
    this.#post({ kind: 'serviceData', runId: this.#run.id, id: this.#id, chunk: new Uint8Array(chunk) })
    this.#paused = this.#unreadBytes >= SERVICE_WINDOW_BYTES || this.#calls.held.isExhausted(this.#account)
    return !this.#paused
  }

  bodyEnd(): void {
    if (this.#state !== 'answering') return
    this.#state = 'complete'
    this.#calls.counts.answered++
    this.#post({ kind: 'serviceData', runId: this.#run.id, id: this.#id, chunk: null })
    this.#releaseWrites()
    this.#forgetIfRead()
  }

  end({ error, exception, outcome }: InvocationResult): void {
    if (this.#state !== 'waiting' && this.#state !== 'answering') return
    if (outcome === 'exception' && exception !== null) this.#failWith(exception.name, exception.message, 'ERR_FUNCTION_EXCEPTION')
    else this.#fail(error === null ? new CodedError('ERR_FUNCTION_BAD_RESPONSE', ['there is none']) : CodedError.fromData(error))
  }

  fail(error: CodedError): void {
    this.#fail(error)
  }

  pauseBody(): void {
    this.#bodyPaused = true
  }

  resumeBody(): void {
    this.#bodyPaused = false
    this.#releaseWrites()
  }

  get #account(): string {
    return this.#run.input.build.account
  }

  #fail(error: CodedError): void {
    const { code, message } = error
    this.#failWith('Error', code.startsWith('ERR_SERVICE_') || this.binding === '' ? message : `Service binding ${this.binding} failed: ${message}`, code)
  }

  #failWith(name: string, message: string, code: string): void {
    if (this.#state !== 'waiting' && this.#state !== 'answering') return
    this.#calls.counts.failed++
    this.#post({ kind: 'serviceFailed', runId: this.#run.id, id: this.#id, reason: `${name.replaceAll('\n', ' ')}\n${message}\n${code}` })
    this.#forget()
  }

  #written(operation: number): void {
    this.#post({ kind: 'serviceWritten', runId: this.#run.id, operation })
  }

  #releaseWrites(): void {
    const waiting = this.#waitingWrites
    this.#waitingWrites = []
    for (const operation of waiting) this.#written(operation)
  }

  #unread(bytes: number): void {
    this.#unreadBytes += bytes
    this.#calls.held.add(this.#account, bytes)
  }

  #forgetIfRead(): void {
    if (this.#state === 'complete' && this.#unreadBytes <= 0) this.#forget()
  }

  #forget(): void {
    if (this.#run.services?.delete(this.#id) === true) this.#calls.held.add(this.#account, -this.#unreadBytes - this.#requestBytes)
    this.#state = 'over'
    this.#releaseWrites()
  }
}
