/**
 * The thin binding over the engine's C exports: strings, numbers and bytes in and out of a slot, calls of guest
 * functions, the job queue. It allocates nothing on the host per call beyond what a caller keeps, and frees nothing
 * inside: the reset does. Only of a machine that outlives its run (a session's) is it noted what is held, to be freed.
 *
 * Values are addresses of boxed engine values inside the guest. Addresses that come from the guest are only ever read
 * through `bytes`, whose subarray is clamped to the guest's memory; the host writes only to `scratch` and to what the
 * engine's allocator returned, each time marked (invariant S2 of slot.ts).
 */
import { CodedError } from '../errors.ts'
import type { Slot } from './slot.ts'

export type GuestValue = number

/** Bytes of the scratch area that the prelude's image reserves for the binding. */
export const SCRATCH_BYTES = 16_384
const ARGUMENTS_MAX = 8
const TAG_OBJECT = -1
const TAG_STRING = -7
const TAG_STRING_ROPE = -6
const TAG_INT = 0
const TAG_BOOL = 1
const TAG_NULL = 2
const TAG_UNDEFINED = 3
const TAG_EXCEPTION = 6
const FULFILLED = 1
const REJECTED = 2
const OUT = 64
const STAGING = 128

/** What the host holds of a guest's values: boxes, and texts made from strings. */
export interface Holdings {
  readonly values: GuestValue[]
  readonly texts: number[]
}

/** The guest has no memory left for what the host wants to hand in. */
export class GuestOutOfMemory extends Error {}

/** The engine's exports that the binding uses. A test of the pinned engine guards the list. */
const ENGINE_CALLS = [
  'qjs_call', 'qjs_execute_pending_job', 'qjs_free_cstring', 'qjs_free_value', 'qjs_get_array_buffer', 'qjs_get_bool', 'qjs_get_exception', 'qjs_get_false',
  'qjs_get_float64', 'qjs_get_null', 'qjs_get_prop_string', 'qjs_get_string_len', 'qjs_get_true', 'qjs_get_typed_array_buffer',
  'qjs_get_undefined', 'qjs_is_array_buffer', 'qjs_is_error',
  'qjs_new_array_buffer', 'qjs_new_error', 'qjs_new_number', 'qjs_new_string', 'qjs_promise_result', 'qjs_promise_state', 'qjs_set_prop_string',
  'qjs_throw', 'wasm_free', 'wasm_malloc',
] as const
type EngineCalls = Readonly<Record<(typeof ENGINE_CALLS)[number], (...values: number[]) => number>>

export class Binding {
  readonly slot: Slot
  /** Null: nothing is noted, as the reset frees all. Set while a run is in the slot whose machine shall outlive it. */
  holdings: Holdings | null = null
  readonly #scratch: number
  readonly #undefined: GuestValue
  /** Bound once: a lookup by name in every call would cost more than many of the calls. */
  readonly #c: EngineCalls
  readonly #encoder = new TextEncoder()
  readonly #decoder = new TextDecoder()
  readonly #exactDecoder = new TextDecoder('utf-8', { ignoreBOM: true })

  /** `scratch`: SCRATCH_BYTES of the guest's heap; `undefinedValue`: a boxed undefined. Both from the prelude's image. */
  constructor(slot: Slot, scratch: number, undefinedValue: GuestValue) {
    this.slot = slot
    this.#c = Object.fromEntries(ENGINE_CALLS.map((name) => {
      const found = slot.instance.engine[name]
      if (found === undefined) throw new CodedError('ERR_INTERNAL', [`the engine does not export ${name}`])
      return [name, found]
    })) as unknown as EngineCalls
    this.#scratch = scratch
    this.#undefined = undefinedValue
  }

  // -- into the guest

  newNumber(value: number): GuestValue {
    return this.hold(this.#c.qjs_new_number(value))
  }

  /** A string from UTF-8 bytes. */
  newStringFrom(utf8: Uint8Array): GuestValue {
    return this.#withBytes(utf8, this.#c.qjs_new_string)
  }

  newString(text: string): GuestValue {
    return this.newStringFrom(this.#encoder.encode(text))
  }

  newArrayBuffer(content: Uint8Array): GuestValue {
    return this.#withBytes(content, this.#c.qjs_new_array_buffer)
  }

  get undefined(): GuestValue {
    return this.#undefined
  }

  newUndefined(): GuestValue {
    return this.hold(this.#c.qjs_get_undefined())
  }

  newNull(): GuestValue {
    return this.hold(this.#c.qjs_get_null())
  }

  newBoolean(value: boolean): GuestValue {
    return this.hold(value ? this.#c.qjs_get_true() : this.#c.qjs_get_false())
  }

  /** Throws inside the guest when a host function returns 0 after it. */
  throwError(name: string, message: string, code: string): void {
    const error = this.hold(this.#c.qjs_new_error())
    this.#setProperty(error, 'name', this.newString(name))
    this.#setProperty(error, 'message', this.newString(message))
    if (code !== '') this.#setProperty(error, 'code', this.newString(code))
    this.#c.qjs_throw(error)
  }

  // -- out of the guest

  // A boxed value is 8 bytes: payload, then tag (NaN boxing, JSValue of quickjs.h for 32 bits). Looking at the tag here
  // saves a call into the engine each time.

  isException(value: GuestValue): boolean {
    return value === 0 || this.#tag(value) === TAG_EXCEPTION
  }

  isString(value: GuestValue): boolean {
    const tag = this.#tag(value)
    return tag === TAG_STRING || tag === TAG_STRING_ROPE
  }

  isObject(value: GuestValue): boolean {
    return value !== 0 && this.#tag(value) === TAG_OBJECT
  }

  isNullish(value: GuestValue): boolean {
    const tag = this.#tag(value)
    return tag === TAG_NULL || tag === TAG_UNDEFINED
  }

  number(value: GuestValue): number {
    return this.#tag(value) === TAG_INT ? this.#payload(value) : this.#c.qjs_get_float64(value)
  }

  boolean(value: GuestValue): boolean {
    return this.#tag(value) === TAG_BOOL ? this.#payload(value) !== 0 : this.#c.qjs_get_bool(value) !== 0
  }

  /** UTF-8 of a string, as a view: valid until the guest runs again. */
  stringBytes(value: GuestValue): Uint8Array {
    const mayHoldSurrogates = this.#isWide(value)
    this.slot.markWrite(this.#scratch + OUT, 4)
    const pointer = this.#c.qjs_get_string_len(value, this.#scratch + OUT) >>> 0
    if (pointer === 0) throw new GuestOutOfMemory()
    this.holdings?.texts.push(pointer)
    const utf8 = this.slot.bytes.subarray(pointer, pointer + this.#out(0))
    return mayHoldSurrogates ? wellFormed(utf8) : utf8
  }

  /** Whether characters above U+00FF may be in it. Most strings hold none, and finding that out takes two look-ups. */
  #isWide(value: GuestValue): boolean {
    // A string begins with 31 bits of length and one that says two bytes a character (JSString of quickjs.h), a rope does not.
    return this.#tag(value) !== TAG_STRING || (this.slot.words[this.#payload(value) >>> 2] ?? -1) < 0
  }

  string(value: GuestValue): string {
    return this.#decoder.decode(this.stringBytes(value))
  }

  /** The same, or null for more than `maxBytes` of UTF-8: a guest's string may be as long as its memory is. */
  boundedString(value: GuestValue, maxBytes: number): string | null {
    const bytes = this.stringBytes(value)
    return bytes.length > maxBytes ? null : this.#decoder.decode(bytes)
  }

  /**
   * The same, and nothing of it stays in the guest: for calls that are made by the thousand. A leading U+FEFF, which TextDecoder takes
   * for a mark of the encoding, is kept.
   */
  takeString(value: GuestValue): string {
    const mayHoldSurrogates = this.#isWide(value)
    this.slot.markWrite(this.#scratch + OUT, 4)
    const pointer = this.#c.qjs_get_string_len(value, this.#scratch + OUT) >>> 0
    if (pointer === 0) throw new GuestOutOfMemory()
    const utf8 = this.slot.bytes.subarray(pointer, pointer + this.#out(0))
    const text = this.#exactDecoder.decode(mayHoldSurrogates ? wellFormed(utf8) : utf8)
    this.#c.qjs_free_cstring(pointer)
    return text
  }

  /** Content of an ArrayBuffer or Uint8Array as a view, or null for anything else. Valid until the guest runs again. */
  bytes(value: GuestValue): Uint8Array | null {
    const out = this.#scratch + OUT
    this.slot.markWrite(out, 16)
    if (this.#c.qjs_is_array_buffer(value) !== 0) {
      const pointer = this.#c.qjs_get_array_buffer(value, out) >>> 0
      return this.slot.bytes.subarray(pointer, pointer + (pointer === 0 ? 0 : this.#out(0)))
    }
    const buffer = this.#c.qjs_get_typed_array_buffer(value, out, out + 4, out + 8)
    if (this.isException(buffer)) {
      this.hold(buffer)
      this.hold(this.#c.qjs_get_exception())
      return null
    }
    const [offset, length] = [this.#out(0), this.#out(1)]
    const pointer = this.#c.qjs_get_array_buffer(buffer, out) >>> 0
    // `value` keeps it.
    this.#c.qjs_free_value(buffer)
    return this.slot.bytes.subarray(pointer + offset, pointer + offset + (pointer === 0 ? 0 : length))
  }

  /** The pending exception, taken, as plain text parts. Runs no guest code of the function: reads own string properties only. */
  takeException(): { readonly name: string; readonly message: string; readonly stack: string } {
    const exception = this.hold(this.#c.qjs_get_exception())
    if (this.#c.qjs_is_error(exception) === 0) return { name: 'Error', message: this.isString(exception) ? this.string(exception) : 'a value that is not an Error', stack: '' }
    const text = (key: string): string => {
      const value = this.#getProperty(exception, key)
      return this.isString(value) ? this.string(value) : ''
    }
    return { name: text('name') || 'Error', message: text('message'), stack: text('stack') }
  }

  // -- running

  call(callee: GuestValue, values: readonly GuestValue[]): GuestValue {
    if (values.length > ARGUMENTS_MAX) throw new CodedError('ERR_INTERNAL', ['too many arguments for a guest call'])
    const at = this.#scratch
    this.slot.markWrite(at, 4 * ARGUMENTS_MAX)
    const { words } = this.slot
    for (let index = 0; index < values.length; index++) words[(at >>> 2) + index] = values[index] ?? 0
    return this.hold(this.#c.qjs_call(callee, this.#undefined, values.length, at))
  }

  /** Calls with values that were made for it, and lets go of them: a run that goes on for long is given a lot. */
  hand(callee: GuestValue, values: readonly GuestValue[]): GuestValue {
    const result = this.call(callee, values)
    for (const value of values) this.#c.qjs_free_value(this.handOut(value))
    return result
  }

  /**
   * What `dispatch` returned is the handler's promise: gives its outcome to `settled`, or itself to `follow` if there is
   * none yet. Returns what that call gave, which is an exception if the guest has no memory for it.
   */
  settleHandler(promise: GuestValue, settled: GuestValue, follow: GuestValue): GuestValue {
    const state = this.#c.qjs_promise_state(promise)
    if (state !== FULFILLED && state !== REJECTED) return this.call(follow, [promise])
    return this.call(settled, [this.newNumber(state === FULFILLED ? 1 : 0), this.hold(this.#c.qjs_promise_result(promise))])
  }

  isRejected(promise: GuestValue): boolean {
    return this.#c.qjs_promise_state(promise) === REJECTED
  }

  /** Runs one pending job: 1 if it ran one, 0 if there was none, below 0 if it threw. */
  runJob(): number {
    return this.#c.qjs_execute_pending_job()
  }

  // -- machines that outlive their run

  /** Notes a box that is the host's to free. */
  hold(value: GuestValue): GuestValue {
    if (this.holdings !== null && value !== 0) this.holdings.values.push(value)
    return value
  }

  /** What a host call returns is the engine's from then on: no more to be freed by what is noted. */
  handOut(value: GuestValue): GuestValue {
    const at = this.holdings?.values.lastIndexOf(value) ?? -1
    if (at !== -1) this.holdings?.values.splice(at, 1)
    return value
  }

  /** Frees all that is noted. It runs inside the guest: under fuel, and it may trap. */
  freeHoldings(): void {
    const { holdings } = this
    if (holdings === null) return
    this.holdings = null
    for (const text of holdings.texts) this.#c.qjs_free_cstring(text)
    for (const value of holdings.values) this.#c.qjs_free_value(value)
  }

  /** Argument `index` of a host call. */
  argument(argvPtr: number, index: number): GuestValue {
    return (this.slot.words[(argvPtr >>> 2) + index] ?? 0) >>> 0
  }

  /** Writes 8 bytes, little-endian. */
  writeU64(pointer: number, value: bigint): void {
    this.slot.markWrite(pointer, 8)
    new DataView(this.slot.bytes.buffer).setBigUint64(pointer >>> 0, value, true)
  }

  writeU32(pointer: number, value: number): void {
    this.slot.markWrite(pointer, 4)
    this.slot.words[pointer >>> 2] = value
  }

  writeBytes(pointer: number, content: Uint8Array): void {
    if (content.length === 0) return
    this.slot.markWrite(pointer, content.length)
    this.slot.bytes.set(content, pointer >>> 0)
  }

  #tag(value: GuestValue): number {
    return this.slot.words[(value >>> 2) + 1] ?? TAG_EXCEPTION
  }

  #payload(value: GuestValue): number {
    return this.slot.words[value >>> 2] ?? 0
  }

  #withBytes(content: Uint8Array, make: (at: number, length: number) => number): GuestValue {
    const { byteOffset, length } = content
    const staged = length <= SCRATCH_BYTES - STAGING
    const at = staged ? this.#scratch + STAGING : this.#c.wasm_malloc(length) >>> 0
    if (at === 0) throw new GuestOutOfMemory()
    // What comes from the guest itself is a view, which the allocation may have detached.
    this.writeBytes(at, content.length === length ? content : this.slot.bytes.subarray(byteOffset, byteOffset + length))
    const value = this.hold(make(at, length))
    if (!staged) this.#c.wasm_free(at)
    if (this.isException(value)) throw new GuestOutOfMemory()
    return value
  }

  #out(index: number): number {
    return this.argument(this.#scratch + OUT, index)
  }

  #getProperty(object: GuestValue, key: string): GuestValue {
    const bytes = this.#encoder.encode(`${key}\0`)
    this.writeBytes(this.#scratch + STAGING, bytes)
    return this.hold(this.#c.qjs_get_prop_string(object, this.#scratch + STAGING))
  }

  #setProperty(object: GuestValue, key: string, value: GuestValue): void {
    this.writeBytes(this.#scratch + STAGING, this.#encoder.encode(`${key}\0`))
    this.#c.qjs_set_prop_string(object, this.#scratch + STAGING, value)
  }
}

const SURROGATE_LEAD = 0xed

/** The engine encodes a lone surrogate like any character, in three bytes that are not UTF-8; it becomes U+FFFD as the Encoding standard says. */
function wellFormed(utf8: Uint8Array): Uint8Array {
  let mended: Uint8Array | null = null
  for (let at = utf8.indexOf(SURROGATE_LEAD); at !== -1; at = utf8.indexOf(SURROGATE_LEAD, at + 3)) {
    if ((utf8[at + 1] ?? 0) < 0xa0) continue
    mended ??= utf8.slice()
    mended[at] = 0xef
    mended[at + 1] = 0xbf
    mended[at + 2] = 0xbd
  }
  return mended ?? utf8
}
