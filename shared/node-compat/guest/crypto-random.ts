/** Randomness of `node:crypto`: the host's, by the global `crypto`. */
import { Buffer } from './buffer.ts'
import { callBack } from './crypto-call.ts'
import { invalidType, nodeError, outOfRange } from './errors.ts'

type Done<T> = (error: Error | null, value?: T) => void
/** Of one call of getRandomValues. */
const CALL_MAX_BYTES = 65_536
const RANGE_MAX = 2 ** 48
const LENGTH_MAX = 2 ** 31 - 1

function fill(bytes: Uint8Array<ArrayBuffer>): void {
  for (let at = 0; at < bytes.length; at += CALL_MAX_BYTES) crypto.getRandomValues(bytes.subarray(at, at + CALL_MAX_BYTES))
}

function makeRandom(size: number): Buffer {
  const bytes = new Uint8Array(size)
  fill(bytes)
  return Buffer.from(bytes.buffer)
}

export function randomBytes(size: number, callback?: Done<Buffer>): Buffer | undefined {
  if (typeof size !== 'number') throw invalidType('size', 'of type number', size)
  if (!(size >= 0 && size <= LENGTH_MAX)) throw outOfRange('size', `>= 0 && <= ${LENGTH_MAX}`, size)
  if (callback === undefined) return makeRandom(size)
  callBack(callback, () => makeRandom(size))
  return undefined
}

export function randomFillSync<T extends ArrayBuffer | ArrayBufferView>(target: T, offset = 0, size?: number): T {
  if (!(target instanceof ArrayBuffer) && !ArrayBuffer.isView(target)) throw invalidType('buf', 'an instance of ArrayBuffer or ArrayBufferView', target)
  const view = ArrayBuffer.isView(target) ? new Uint8Array(target.buffer as ArrayBuffer, target.byteOffset, target.byteLength) : new Uint8Array(target)
  const unit = (target as unknown as { readonly BYTES_PER_ELEMENT?: number }).BYTES_PER_ELEMENT ?? 1
  const end = size === undefined ? view.length : (offset + size) * unit
  if (offset < 0 || offset * unit > view.length) throw outOfRange('offset', `>= 0 && <= ${view.length / unit}`, offset)
  if (end > view.length) throw outOfRange('size + offset', `<= ${view.length / unit}`, end / unit)
  fill(view.subarray(offset * unit, end))
  return target
}

export function randomFill<T extends ArrayBuffer | ArrayBufferView>(target: T, ...rest: [...([] | [offset: number] | [offset: number, size: number]), callback: Done<T>]): void {
  const callback = rest.pop() as Done<T>
  const [offset, size] = rest as unknown as [number?, number?]
  callBack(callback, () => randomFillSync(target, offset, size))
}

/** From `min` (0) up to but not `max`, each as likely. */
export function randomInt(first: number, second?: number | Done<number>, callback?: Done<number>): number | undefined {
  const [min, max, done] = typeof second === 'number' ? [first, second, callback] : [0, first, second]
  if (!Number.isSafeInteger(min)) throw invalidType('min', 'a safe integer', min)
  if (!Number.isSafeInteger(max)) throw invalidType('max', 'a safe integer', max)
  if (max <= min) throw outOfRange('max', `greater than the value of "min" (${min})`, max)
  const range = max - min
  if (range > RANGE_MAX - 1) throw outOfRange(typeof second === 'number' ? 'max - min' : 'max', `<= ${RANGE_MAX - 1}`, range)
  const draw = (): number => {
    for (;;) {
      const value = makeRandom(6).readUIntBE(0, 6)
      // What is above the last whole multiple would make small numbers likelier.
      if (value < RANGE_MAX - (RANGE_MAX % range)) return min + (value % range)
    }
  }
  if (done === undefined) return draw()
  callBack(done, draw)
  return undefined
}

export function randomUUID(): string {
  return crypto.randomUUID()
}

/** Every byte is looked at, whatever the ones before were. */
export function timingSafeEqual(a: unknown, b: unknown): boolean {
  const view = (name: string, value: unknown): Uint8Array => {
    if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
    if (value instanceof ArrayBuffer) return new Uint8Array(value)
    throw invalidType(name, 'an instance of ArrayBuffer, Buffer, TypedArray, or DataView', value)
  }
  const [left, right] = [view('buf1', a), view('buf2', b)]
  if (left.length !== right.length) throw nodeError(RangeError, 'ERR_CRYPTO_TIMING_SAFE_EQUAL_LENGTH', 'Input buffers must have the same byte length')
  let difference = 0
  for (let i = 0; i < left.length; i++) difference |= (left[i] ?? 0) ^ (right[i] ?? 0)
  return difference === 0
}
