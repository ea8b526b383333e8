/**
 * What a guest asks of the host, by HOST_CALLS of guest/abi.ts. Each call reads its arguments through the binding,
 * acts on the run, and returns a boxed value; it never throws through guest frames: 0 after `throwError` is how the
 * guest sees an exception.
 */
import { createHash, randomFillSync } from 'node:crypto'
import { formatMessage, type ErrorCode, type ErrorParams } from '../errors.ts'
import { CALL_EVENT, HOST_CALLS, OPERATIONS, RESPOND_DONE, RESPOND_MORE, RESPOND_STATUS, RESPOND_WIRE_SHIFT, RESPOND_WIRES, ZIP_WRITE_MAX_BYTES } from '../guest/abi.ts'
import type { IntlHost, IntlValue } from '../intl/intl-host.ts'
import { IntlRefusal } from '../intl/intl-refusal.ts'
import {
  CRYPTO_DATA_MAX_BYTES, CRYPTO_REQUEST_MAX_BYTES, DIGEST_MAX_BYTES, MIB, REQUEST_BODY_MAX_BYTES, REQUEST_HEADERS_MAX_COUNT, SERVICE_HEAD_MAX_CHARS, STREAMED_BODY_MAX_BYTES, ZIPS_PER_RUN_MAX,
} from '../limits.ts'
import { compute, COMPUTE_REQUEST_MAX_BYTES } from '../node-compat/compute.ts'
import { type Binding, GuestOutOfMemory, type GuestValue } from './binding.ts'
import { legacyDecode, legacyName } from './legacy-decode.ts'
import { shownText } from './line-tables/map-stack.ts'
import type { MachineRuntime } from './runtime.ts'
import { lastHostCall } from './stopping.ts'
import type { Run, RunOutput } from './run.ts'

const RANDOM_MAX_BYTES = 65_536
const LOG_LINE_MAX_BYTES = 16_384
const NO_BYTES = new Uint8Array(0)
/** In UTF-8, of which a character of a header takes two bytes at most. */
const HEAD_MAX_BYTES = 2 * SERVICE_HEAD_MAX_CHARS
const TIMER_MAX_MS = 2_147_483_647
/** Operations of one run at the same time; more are refused with an error in the guest. */
const OPERATIONS_MAX = 10_000
/** Of a call to ICU: what a slice of fuel stands for (executor.ts), and for texts that are made and read around it. */
const INTL_FUEL_PER_MS = 200_000
const INTL_FUEL_PER_CALL = 500
/** SHA-256 takes about 1 ms for 800 KB, in which a guest uses some 200,000 units of fuel. */
const DIGEST_BYTES_PER_FUEL_SHIFT = 2
/** What the host copies for a guest costs it as if it had done so itself. */
const COPIED_BYTES_PER_FUEL_SHIFT = 6
/** 64 KiB take some 50 us. */
const RANDOM_BYTES_PER_FUEL_SHIFT = 3
/** What a guest uses in a millisecond of its own: after a call of that length it is looked at as soon as it loops. */
const COMPUTE_FUEL_PER_MS = 200_000
const HASHES: Readonly<Record<string, string>> = { 'SHA-1': 'sha1', 'SHA-256': 'sha256', 'SHA-384': 'sha384', 'SHA-512': 'sha512' }

const CODE = Object.fromEntries(Object.entries(HOST_CALLS).map(([name, character]) => [name, character.charCodeAt(0)])) as Record<keyof typeof HOST_CALLS, number>

/** What differs between serving and building: while an image is built most calls are refused. */
export interface HostCallPolicy {
  /** Takes note of a call that no image may make. */
  refused(call: RefusedCall, detail: string): void
  warn(kind: string): void
}

export type RefusedCall = 'entropy' | 'secret' | 'handle'

export interface HostCallContext {
  /** The run that is in the guest now. */
  readonly run: () => Run
  readonly runtime: MachineRuntime
  readonly output: RunOutput
  readonly policy: HostCallPolicy | null
  readonly intl: IntlHost
  /** What `site` answers. */
  readonly siteName: string
  nextOperationId(): number
  startTimer(run: Run, id: number, delayMs: number): void
  nowMs(): number
}

/** Returns the boxed result, or 0 after an exception was thrown into the guest. */
export function handleHostCall(binding: Binding, context: HostCallContext, call: number, argc: number, argvPtr: number): GuestValue {
  try {
    return dispatch(binding, context, call, argc, argvPtr)
  } catch (error) {
    if (!(error instanceof GuestOutOfMemory)) throw error
    stopForMemory(context.run(), binding)
    return 0
  }
}

function dispatch(binding: Binding, context: HostCallContext, call: number, argc: number, argvPtr: number): GuestValue {
  const { output, policy } = context
  const run = context.run()
  if (run.dying !== null) {
    lastHostCall(run, binding, context.runtime, call)
    return binding.newUndefined()
  }
  const argument = (index: number): GuestValue => (index < argc ? binding.argument(argvPtr, index) : binding.undefined)
  const refused = (what: RefusedCall, detail: string, code: ErrorCode): GuestValue => {
    policy?.refused(what, detail)
    return fail(binding, code, [detail, ''])
  }
  switch (call) {
    case CODE.respond: {
      respond(binding, run, output, binding.number(argument(0)), argument(1), argument(2))
      return binding.newUndefined()
    }
    case CODE.write: {
      const value = argument(0)
      const chunk = binding.isString(value) ? binding.stringBytes(value) : binding.bytes(value)
      if (chunk === null || !run.responded || run.bodySent) return binding.newBoolean(true)
      run.responseBytes += chunk.length
      const exceeded = exceededResponse(run, chunk.length)
      if (exceeded !== null) {
        run.stop('exceededResponse', 'ERR_LIMIT_RESPONSE', exceeded)
        return fail(binding, 'ERR_LIMIT_RESPONSE', exceeded)
      }
      if (!output.data(run, chunk)) run.paused = true
      return binding.newBoolean(!run.paused)
    }
    case CODE.end: {
      if (run.responded && !run.bodySent) {
        run.bodySent = true
        output.bodyEnd(run)
      }
      return binding.newUndefined()
    }
    case CODE.fail: {
      const failure = { name: binding.string(argument(0)), message: binding.string(argument(1)), stack: binding.string(argument(2)) }
      if (isOutOfMemory(failure)) {
        stopForMemory(run, binding)
        run.where ??= failure.stack
      }
      run.failure ??= failure
      return binding.newUndefined()
    }
    case CODE.done: {
      run.done = true
      return binding.newUndefined()
    }
    case CODE.bodyText: {
      const { body } = run
      if (body === null) return binding.newStringFrom(new Uint8Array(0))
      const marked = body.length >= 3 && body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf
      return binding.newStringFrom(marked ? body.subarray(3) : body)
    }
    case CODE.bodyBytes:
      return binding.newArrayBuffer(argc > 0 ? wholeService(run, output, binding.number(argument(0))) : (run.body ?? new Uint8Array(0)))
    case CODE.log: {
      writeLog(run, output, binding.number(argument(0)), binding.stringBytes(argument(1)))
      return binding.newUndefined()
    }
    case CODE.random: {
      if (policy !== null) return refused('entropy', 'crypto', 'ERR_BUNDLE_ENTROPY')
      const length = binding.number(argument(0))
      if (!(length >= 0 && length <= RANDOM_MAX_BYTES)) return fail(binding, 'ERR_PARAMETER', [`at most ${RANDOM_MAX_BYTES} random bytes at once`])
      binding.slot.chargeFuel(length >> RANDOM_BYTES_PER_FUEL_SHIFT)
      return binding.newArrayBuffer(randomFillSync(new Uint8Array(length)))
    }
    case CODE.digest: {
      const algorithm = HASHES[binding.string(argument(0))]
      const data = binding.bytes(argument(1))
      if (algorithm === undefined || data === null) return fail(binding, 'ERR_PARAMETER', ['digest: unknown algorithm or not bytes'])
      if (data.length > DIGEST_MAX_BYTES) return fail(binding, 'ERR_LIMIT_OPERATIONS', [`a digest is made of ${DIGEST_MAX_BYTES} bytes at most`])
      // A guest that computes by the host must come to be looked at as often as one that does it itself.
      binding.slot.chargeFuel(data.length >> DIGEST_BYTES_PER_FUEL_SHIFT)
      return binding.newArrayBuffer(createHash(algorithm).update(data).digest())
    }
    case CODE.compute: {
      const startedAtMs = performance.now()
      const request = binding.boundedString(argument(0), COMPUTE_REQUEST_MAX_BYTES)
      if (request === null) return fail(binding, 'ERR_LIMIT_OPERATIONS', [`a request of cryptography has ${COMPUTE_REQUEST_MAX_BYTES} bytes at most`])
      const answer = compute(request, binding.bytes(argument(1)) ?? new Uint8Array(0))
      binding.slot.chargeFuel(Math.ceil((performance.now() - startedAtMs) * COMPUTE_FUEL_PER_MS))
      return typeof answer === 'string' ? binding.newString(answer) : binding.newArrayBuffer(answer)
    }
    case CODE.secret: {
      const name = binding.string(argument(0))
      if (policy !== null) return refused('secret', name, 'ERR_BUNDLE_SECRET')
      const value = Object.hasOwn(run.spec.secrets, name) ? run.spec.secrets[name] : undefined
      return value === undefined ? binding.newNull() : binding.newString(value)
    }
    case CODE.remainingMs:
      return binding.newNumber(Math.max(0, Math.floor(run.spec.deadlineAtMs - context.nowMs())))
    case CODE.start:
      if (policy !== null) return refused('handle', operationName(binding.number(argument(0))), 'ERR_BUNDLE_HANDLE')
      return startOperation(binding, context, binding.number(argument(0)), argument(1), argument(2))
    case CODE.cancel: {
      const id = binding.number(argument(0))
      const atEgress = run.forgetFetch(id)
      run.forget(id)
      if (atEgress) output.fetchAbort(run, id)
      else abortService(run, output, id)
      return binding.newUndefined()
    }
    case CODE.utf8Encode:
      return binding.newArrayBuffer(binding.stringBytes(argument(0)))
    case CODE.utf8Decode:
      return decodeUtf8(binding, argument(0), binding.boolean(argument(1)), binding.boolean(argument(2)))
    case CODE.legacyDecode: {
      const name = binding.string(argument(0))
      const text = binding.isNullish(argument(1)) ? legacyName(name) : legacyDecode(name, binding.bytes(argument(1)) ?? NO_BYTES, binding.number(argument(2)))
      return text === null ? binding.newNull() : binding.newString(text)
    }
    case CODE.site:
      if (policy !== null) return refused('handle', 'the place that a request is served at', 'ERR_BUNDLE_HANDLE')
      return binding.newString(context.siteName)
    case CODE.warn: {
      policy?.warn(binding.string(argument(0)))
      return binding.newUndefined()
    }
    case CODE.intl:
      return intl(binding, context, argument)
    default:
      return fail(binding, 'ERR_INTERNAL', [`unknown host call ${call}`])
  }
}

/** ICU cannot be interrupted, so each call is short (limits.ts) and takes fuel: a guest that makes many meets its limits as if it had computed. */
function intl(binding: Binding, { run, intl: host }: HostCallContext, argument: (index: number) => GuestValue): GuestValue {
  const value = (index: number): IntlValue => {
    const given = argument(index)
    return binding.isString(given) ? binding.takeString(given) : binding.isNullish(given) ? '' : binding.number(given)
  }
  const beganAtMs = performance.now()
  try {
    const answer = host.perform(run().spec.account, binding.takeString(argument(0)), binding.takeString(argument(1)), value(2), value(3))
    return answer === null ? binding.newNull() : typeof answer === 'number' ? binding.newNumber(answer) : binding.newString(answer)
  } catch (error) {
    if (!(error instanceof IntlRefusal)) throw error
    binding.throwError(error.name, error.message, '')
    return 0
  } finally {
    binding.slot.chargeFuel(INTL_FUEL_PER_CALL + Math.ceil((performance.now() - beganAtMs) * INTL_FUEL_PER_MS))
  }
}

/** The engine's own error for a failed allocation. */
export function isOutOfMemory(exception: { readonly name: string; readonly message: string }): boolean {
  return exception.name === 'InternalError' && exception.message === 'out of memory'
}

function stopForMemory(run: Run, binding: Binding): void {
  run.stop('exceededMemory', 'ERR_LIMIT_MEMORY', [run.spec.limits.memoryMib, Math.ceil(binding.slot.virtualBytes / MIB)])
}

const WIRES = RESPOND_WIRES.map((text) => Buffer.from(text))

/**
 * A web answer that streams is held by nobody as a whole: the function's limit is for what it gives in one piece, and for what
 * an Invoke collects.
 */
function exceededResponse({ spec, responseBytes }: Run, chunkBytes: number): readonly [number, number] | null {
  const { responseMaxBytes } = spec.limits
  if (chunkBytes > responseMaxBytes) return [responseMaxBytes, chunkBytes]
  const maxBytes = (spec.call & CALL_EVENT) === 0 ? Math.max(responseMaxBytes, STREAMED_BODY_MAX_BYTES) : responseMaxBytes
  return responseBytes > maxBytes ? [maxBytes, responseBytes] : null
}

function respond(binding: Binding, run: Run, output: RunOutput, what: number, body: GuestValue, headers: GuestValue): void {
  if ((what & RESPOND_DONE) !== 0) run.done = true
  if (run.responded) return
  // A copy: reading the body may grow the guest's memory, which detaches views of it.
  const lines = WIRES[what >> RESPOND_WIRE_SHIFT || WIRES.length] ?? binding.stringBytes(headers).slice()
  const content = binding.isString(body) ? binding.stringBytes(body) : binding.isNullish(body) ? null : binding.bytes(body)
  run.responseBytes += content?.length ?? 0
  if (run.responseBytes > run.spec.limits.responseMaxBytes) {
    run.stop('exceededResponse', 'ERR_LIMIT_RESPONSE', [run.spec.limits.responseMaxBytes, run.responseBytes])
    return
  }
  run.responded = true
  run.bodySent = (what & RESPOND_MORE) === 0
  output.head(run, what & RESPOND_STATUS, lines, content, run.bodySent)
}

function startOperation(binding: Binding, context: HostCallContext, kind: number, a: GuestValue, b: GuestValue): GuestValue {
  const { output } = context
  const run = context.run()
  if (run.operations.size >= OPERATIONS_MAX) return fail(binding, 'ERR_PARAMETER', [`at most ${OPERATIONS_MAX} operations at once`])
  const id = context.nextOperationId()
  switch (kind) {
    case OPERATIONS.TIMER: {
      const delayMs = Math.min(Math.max(0, Math.trunc(binding.number(a)) || 0), TIMER_MAX_MS)
      run.begin(id, { kind: 'timer', dueAtMs: context.nowMs() + delayMs })
      context.startTimer(run, id, delayMs)
      break
    }
    case OPERATIONS.FETCH: {
      run.subrequests++
      if (run.subrequests > run.spec.limits.subrequestMax) return fail(binding, 'ERR_LIMIT_SUBREQUESTS', [run.spec.limits.subrequestMax, run.subrequests])
      const head = binding.boundedString(a, HEAD_MAX_BYTES)
      if (head === null) return fail(binding, 'ERR_REQUEST_HEADERS', [SERVICE_HEAD_MAX_CHARS, REQUEST_HEADERS_MAX_COUNT])
      const body = binding.isNullish(b) ? null : copied(binding, binding.isString(b) ? binding.stringBytes(b) : binding.bytes(b))
      run.begin(id, { kind: 'fetch' })
      output.fetch(run, id, head, body)
      break
    }
    case OPERATIONS.SERVICE: {
      run.subrequests++
      if (run.subrequests > run.spec.limits.subrequestMax) return fail(binding, 'ERR_LIMIT_SUBREQUESTS', [run.spec.limits.subrequestMax, run.subrequests])
      const head = binding.boundedString(a, HEAD_MAX_BYTES)
      if (head === null || head.length > SERVICE_HEAD_MAX_CHARS) return fail(binding, 'ERR_REQUEST_HEADERS', [SERVICE_HEAD_MAX_CHARS, REQUEST_HEADERS_MAX_COUNT])
      const body = binding.isNullish(b) ? null : binding.isString(b) ? binding.stringBytes(b) : binding.bytes(b)
      if ((body?.length ?? 0) > REQUEST_BODY_MAX_BYTES) return fail(binding, 'ERR_BODY_TOO_LARGE', [REQUEST_BODY_MAX_BYTES])
      run.begin(id, { kind: 'service' })
      output.service(run, id, head, body)
      break
    }
    case OPERATIONS.SUBTLE: {
      const request = binding.boundedString(a, CRYPTO_REQUEST_MAX_BYTES)
      if (request === null) return fail(binding, 'ERR_LIMIT_OPERATIONS', [`an operation of crypto.subtle takes ${CRYPTO_REQUEST_MAX_BYTES} bytes besides its data`])
      const data = binding.bytes(b)
      const bytes = data?.length ?? 0
      if (run.cryptoBytes + bytes > CRYPTO_DATA_MAX_BYTES) return fail(binding, 'ERR_LIMIT_OPERATIONS', [`${CRYPTO_DATA_MAX_BYTES} bytes for all operations of crypto.subtle that an invocation has under way`])
      run.begin(id, { kind: 'subtle', bytes })
      output.subtle(run, id, request, copied(binding, data) ?? NO_BYTES)
      break
    }
    case OPERATIONS.ZIP:
      run.zips++
      if (run.zips > ZIPS_PER_RUN_MAX) return fail(binding, 'ERR_LIMIT_OPERATIONS', [`${ZIPS_PER_RUN_MAX} compression streams in an invocation`])
      run.begin(id, { kind: 'zip' })
      output.zip(run, id, binding.string(a))
      break
    case OPERATIONS.WRITE: {
      const fetchId = binding.number(a)
      const chunk = binding.isNullish(b) ? null : (binding.bytes(b) ?? new Uint8Array(0))
      const service = run.serviceOf(fetchId)
      if (service !== null && (chunk?.length ?? 0) > REQUEST_BODY_MAX_BYTES) return fail(binding, 'ERR_BODY_TOO_LARGE', [REQUEST_BODY_MAX_BYTES])
      if (service === null && (chunk?.length ?? 0) > ZIP_WRITE_MAX_BYTES) return fail(binding, 'ERR_LIMIT_OPERATIONS', [`${ZIP_WRITE_MAX_BYTES} bytes at once for a compression stream`])
      run.begin(id, { kind: 'write', fetchId })
      if (service === null) output.zipWrite(run, fetchId, id, copied(binding, chunk))
      else if (service.end === null) output.serviceWrite(run, fetchId, id, chunk)
      // Nobody reads it any more.
      else context.startTimer(run, id, 0)
      break
    }
    case OPERATIONS.READ: {
      const fetchId = binding.number(a)
      run.begin(id, { kind: 'read', fetchId })
      // What has come of a service's answer lies here: it is given once this turn is over.
      if (run.serviceOf(fetchId) === null) output.fetchRead(run, fetchId)
      break
    }
    case OPERATIONS.BODY:
      run.begin(id, { kind: 'body' })
      break
    case OPERATIONS.DRAIN:
      run.begin(id, { kind: 'drain' })
      // The reader may have caught up since `write` asked for a pause.
      if (!run.paused) context.startTimer(run, id, 0)
      break
    default:
      return fail(binding, 'ERR_INTERNAL', [`unknown operation ${kind}`])
  }
  return binding.newNumber(id)
}

/** Bytes of a guest as the host's own. */
function copied(binding: Binding, bytes: Uint8Array | null): Uint8Array | null {
  if (bytes === null) return null
  binding.slot.chargeFuel(bytes.length >> COPIED_BYTES_PER_FUEL_SHIFT)
  return bytes.slice()
}

/** What has come of a service's answer, if that is complete. */
function wholeService(run: Run, output: RunOutput, id: number): Uint8Array {
  const service = run.serviceOf(id)
  if (service?.end !== 'complete') return new Uint8Array(0)
  const [first, ...more] = service.chunks.splice(0)
  const bytes = more.length === 0 ? (first ?? new Uint8Array(0)) : Buffer.concat([first ?? new Uint8Array(0), ...more])
  if (bytes.length > 0) output.serviceTaken(run, id, bytes.length)
  return bytes
}

/** Its reads and writes that wait are the guest's to forget. */
function abortService(run: Run, output: RunOutput, id: number): void {
  const service = run.serviceOf(id)
  if (service === null || service.end !== null) return
  service.end = 'complete'
  output.serviceAbort(run, id)
}

/** A line of a guest's log; what is beyond the function's limit is dropped and the log marked. */
export function writeLog(run: Run, output: RunOutput, level: number, line: Uint8Array): void {
  const cut = line.subarray(0, Math.min(line.length, LOG_LINE_MAX_BYTES))
  run.logBytes += cut.length
  if (run.logBytes > run.spec.limits.logMaxBytes) {
    if (!run.logsTruncated) emitLog(run, output, 2, `log truncated at ${run.spec.limits.logMaxBytes} bytes`)
    run.logsTruncated = true
    return
  }
  emitLog(run, output, level, shownText(Buffer.from(cut.buffer, cut.byteOffset, cut.length).toString()))
}

function emitLog(run: Run, output: RunOutput, level: number, line: string): void {
  if (run.spec.wantLogs) run.logs.push(`${level}\t${line}`)
  output.log(run, level, line)
}

function decodeUtf8(binding: Binding, value: GuestValue, fatal: boolean, ignoreBom: boolean): GuestValue {
  const bytes = binding.bytes(value)
  if (bytes === null) return binding.newNull()
  try {
    return binding.newString(new TextDecoder('utf-8', { fatal, ignoreBOM: ignoreBom }).decode(bytes))
  } catch (error) {
    if (error instanceof GuestOutOfMemory) throw error
    // The decoder's one other failure: not UTF-8 though `fatal` asks for it.
    return binding.newNull()
  }
}

function fail(binding: Binding, code: ErrorCode, params: ErrorParams): GuestValue {
  binding.throwError('Error', formatMessage(code, params), code)
  return 0
}

function operationName(kind: number): string {
  return kind === OPERATIONS.TIMER ? 'a timer' : kind === OPERATIONS.FETCH ? 'a fetch' : kind === OPERATIONS.SERVICE ? 'a call of a service' : 'an operation'
}
