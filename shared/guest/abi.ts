/**
 * What the host and the code inside a microVM call of each other. Everything here is a promise between one image and
 * one host binary: it is part of the engine build that keys every image.
 *
 * The prelude bundle is one script whose completion value is a function `install(host)`. The builder calls it once
 * with an object that has one method per entry of HOST_CALLS; the prelude keeps that object in a closure and never
 * puts it where a function's code can reach it. `install` returns an object with the methods of GuestEntry, whose
 * handles the builder records in the image.
 *
 * Strings cross as strings, bytes as ArrayBuffer (host to guest) or ArrayBuffer/Uint8Array (guest to host).
 * Host calls never throw into the guest unless their comment says so; then it is a TypeError-like object with `code`.
 */

/** Name, and the single character under which the engine's trampoline knows it. */
export const HOST_CALLS = {
  /**
   * respond(what: number, body: string | ArrayBuffer | Uint8Array | null, headers?: string): void. `what`: the status plus
   * RESPOND_MORE, RESPOND_DONE and one of RESPOND_WIRE; few arguments, since each is boxed. Once per invocation; a second
   * call is ignored.
   */
  respond: 'r',
  /** write(chunk: string | ArrayBuffer | Uint8Array): boolean. False: wait for operation DRAIN before writing more. */
  write: 'w',
  /** end(): void. The streamed body is complete. */
  end: 'e',
  /** fail(name: string, message: string, stack: string): void. The handler threw or rejected. Once; ignored after respond, except that it is logged and, if the body is streaming, no `end` follows: the host cuts the body. */
  fail: 'f',
  /** done(): void. Handler and all waitUntil work have settled, and RESPOND_DONE did not say so. */
  done: 'd',
  /** bodyText(): string. The whole buffered request body as UTF-8 text without BOM; '' for none. Only when the body is not streamed. */
  bodyText: 't',
  /** bodyBytes(serviceId?: number): ArrayBuffer. The same as bytes. With the id of a SERVICE whose answer is whole, the body of that, once. */
  bodyBytes: 'b',
  /** log(level: number, line: string): void. Levels: LOG_LEVELS. */
  log: 'l',
  /** random(byteCount: number): ArrayBuffer. Throws ERR_BUNDLE_ENTROPY while an image is built. At most 65536. */
  random: 'n',
  /** digest(algorithm: 'SHA-1' | 'SHA-256' | 'SHA-384' | 'SHA-512', data: ArrayBuffer | Uint8Array): ArrayBuffer. Stateless. */
  digest: 'h',
  /**
   * compute(request: string, data: ArrayBuffer | Uint8Array): ArrayBuffer | string. Cryptography of node:crypto that answers at once, in
   * the form of shared/node-compat/compute.ts. Stateless; its time is charged to the run as the guest's own.
   */
  compute: 'k',
  /** secret(name: string): string | null. Throws ERR_BUNDLE_SECRET while an image is built. */
  secret: 's',
  /** remainingMs(): number. Time until the invocation's limit, whole milliseconds. */
  remainingMs: 'm',
  /** start(op: number, a, b): number. Begins an asynchronous operation of OPERATIONS and returns its id; the host later calls `settle`. Throws ERR_BUNDLE_HANDLE while an image is built. */
  start: 'o',
  /** cancel(id: number): void. Unknown ids are ignored. After it no settle for that id comes. */
  cancel: 'c',
  /** utf8Encode(text: string): ArrayBuffer and utf8Decode(bytes, fatal: boolean, ignoreBom: boolean): string | null are native and cheap. */
  utf8Encode: 'E',
  utf8Decode: 'D',
  /**
   * legacyDecode(encoding: string, bytes | null, flags: number): string | null. Text of at most LEGACY_MAX_BYTES bytes and a few more in an encoding other than UTF-8
   * and UTF-16; null if they are not of it and LEGACY_FATAL is set. With LEGACY_STREAM the first character is the number of bytes at
   * the end that begin a character, which are not in the text. Without bytes: the encoding's name for a label in lower case, null for none. Stateless.
   */
  legacyDecode: 'L',
  /** site(): string. Name of the place that runs the request: a POP's site, or a region. Throws ERR_BUNDLE_HANDLE while an image is built, which serves many places. */
  site: 'p',
  /** warn(kind: string): void. A note for the publish report, ignored outside builds: 'math-random' when Math.random ran at top level, or what shall be said. */
  warn: 'x',
  /**
   * intl(key: string, what: string, a?: string | number, b?: string | number): string | number | null. `what` of the Intl object that
   * `key` stands for, see shared/intl. Throws an Error with name RangeError or TypeError. Stateless.
   */
  intl: 'i',
} as const

export const LEGACY_FATAL = 1
export const LEGACY_STREAM = 2
/** Of one legacyDecode: well below a millisecond of the worker's thread, also where it has to find where the last character begins. */
export const LEGACY_MAX_BYTES = 16_384

/** Of a function that the prelude is not given: it stands for Error.prepareStackTrace when a run is stopped (microvm/stopping.ts). */
export const STOP_CALL = '!'

/** What one WRITE to a ZIP may bring: what zlib takes some milliseconds for, on one of the four threads that a process has for such work. */
export const ZIP_WRITE_MAX_BYTES = 128 * 1024

/** Of CompressionStream. */
export const ZIP_FORMATS = ['gzip', 'deflate', 'deflate-raw'] as const

/** Bits of `respond`'s first argument above the status. More: the body follows by `write` and `end`. */
export const RESPOND_STATUS = 0x3ff
export const RESPOND_MORE = 0x400
/** The same as a call of `done` right after. */
export const RESPOND_DONE = 0x800
/** Headers that most responses have, by number, so that they need not cross as text. 0: they are the third argument. */
export const RESPOND_WIRE_SHIFT = 12
export const RESPOND_WIRES = ['', 'content-type\ntext/plain;charset=UTF-8', 'content-type\napplication/json'] as const
export const WIRE_TEXT = 1
export const WIRE_JSON = 2

/** Methods with a number of their own; any other has 0 and is read from the head. */
export const METHODS = ['', 'GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS'] as const

export const CALL_EVENT = 1
export const CALL_METHOD_SHIFT = 1
export const CALL_METHOD_MASK = 7
export const CALL_BODY_SHIFT = 4
/** A header of every event: the label of the version that runs, which is not in an image that several versions share. */
export const VERSION_HEADER = 'x-outpost-version'

/** The head begins with one line more: a Selection as JSON. */
export const CALL_SELECTED = 1 << 6

/** The first argument of `dispatch`. Kind 0 http, 1 event; body state 0 none, 1 buffered (bodyText and bodyBytes give it), 2 streamed (operation BODY gives it). */
export function callNumber(kind: number, method: string, bodyState: number): number {
  return kind | (Math.max(0, (METHODS as readonly string[]).indexOf(method)) << CALL_METHOD_SHIFT) | (bodyState << CALL_BODY_SHIFT)
}

/** Names of the levels that `log` takes, by number. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const

export const OPERATIONS = {
  /** start(TIMER, delayMs): settles with undefined after the delay. An interval is started anew by the prelude each time. */
  TIMER: 1,
  /**
   * start(FETCH, head, body): head = `METHOD\nURL\nredirect\nname\nvalue...` with redirect follow|manual|error, body
   * string | ArrayBuffer | Uint8Array | null. Settles with head = `status\nstatusText\nfinalUrl\nredirected 0|1\nname\nvalue...`;
   * its body is read by READ. Rejects with { name, message }.
   */
  FETCH: 2,
  /** start(READ, fetchId): settles with the next ArrayBuffer of that response's body, or null at its end. */
  READ: 3,
  /** start(BODY, 0): settles with the next ArrayBuffer of the request body, or null at its end. */
  BODY: 4,
  /** start(DRAIN, 0): settles with undefined when `write` may be called again. */
  DRAIN: 5,
  /**
   * start(SUBTLE, request, data): an operation of crypto.subtle; `request` as in web-crypto/perform.ts, `data` ArrayBuffer |
   * Uint8Array. Settles with an ArrayBuffer or with JSON text. Rejects with { name, message }, the name of a DOMException or TypeError.
   */
  SUBTLE: 6,
  /**
   * start(ZIP, format): a stream that the host compresses or unpacks; format one of ZIP_FORMATS, `-` before it to unpack. Its
   * id is used like that of a fetch: READ gives its output, `cancel` ends it. Settles with null. Rejects with { name, message }.
   */
  ZIP: 7,
  /** start(WRITE, zipOrServiceId, chunk): settles with null once the chunk (ArrayBuffer | Uint8Array, null: the end) is taken. To a ZIP one at a time, of ZIP_WRITE_MAX_BYTES at most. */
  WRITE: 8,
  /**
   * start(SERVICE, head, body): a call of another function by a binding; head = `index\nmore\nMETHOD\nURL\nname\nvalue...`, `index`
   * that of the binding in `configure`'s `services`, `more` 1 if the body follows by WRITE (`body` null then), else 0. Settles, is
   * read and cancelled as FETCH, redirects not followed; `2` for `redirected` says that `bodyBytes(id)` gives the whole body. Rejects with { name, message, code }: with what the other
   * function threw (code ERR_FUNCTION_EXCEPTION), or an Error of the registry.
   */
  SERVICE: 9,
} as const

/**
 * The functions that `install` returns.
 *
 * load(module): called by the builder with the module namespace of the bundle after its top level settled. Returns
 *   'fetch', 'event', or '' if there is no handler, and behind it a line for each named entrypoint:
 *   `\nNAME`. `env`: see `configure`.
 * configure(json): called by the builder before the bundle is evaluated: `{ vars: {NAME: JSON value}, secretNames: [..],
 *   services: [NAME..] by index, origin: string | null, functionName, version, memoryMib, accountId, arn,
 *   handlerExport: string | null }` (BuildRequest's). `env` holds vars and services as properties and secrets as getters; same identity always.
 * dispatch(call, head): call = `callNumber`, head = `requestId\nclientIp\nMETHOD\nURL\nname\nvalue...`, with CALL_SELECTED
 *   a Selection before it. Never throws; every
 *   failure goes to `fail`. May return the handler's promise: once all jobs have run the host calls `settled` if that has
 *   settled by then, which saves the engine a reaction with a promise of its own (2 us), else `follow`.
 * settled(ok, value): ok 1 fulfilled, 0 rejected.
 * follow(promise)
 * settle(id, ok, value): settles an operation; ok 1 resolves, 0 rejects with value `{name, message, code}` given as `name\nmessage\ncode`: of three lines or more the last is the code.
 * abort(): aborts `request.signal` (client gone) if the guest uses it; the host may go on running waitUntil work.
 * unhandled(reason): called once all jobs have run, for each promise that was rejected (host_promise_rejection) and
 *   still has no handler. Logs it; the engine tells only the host of such promises.
 * renew(): the machine is a session's and goes on with another request: called before its `dispatch`. Timers that the last
 *   one left are gone, its other operations reject with an AbortError, and nothing that was waited for then counts now.
 * idle(): called once when nothing is under way, all jobs have run, and the invocation is not done: what waits for an empty
 *   event loop goes on. If nothing comes of it the invocation ends, as hung if nothing was answered.
 */
export const GUEST_ENTRIES = ['configure', 'load', 'dispatch', 'settled', 'follow', 'settle', 'abort', 'unhandled', 'renew', 'idle'] as const
