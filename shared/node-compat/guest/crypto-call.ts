/** Calls of the host's cryptography (compute.ts), and what bytes and texts callers may give. */
import { Buffer } from './buffer.ts'
import { invalidType, nodeError } from './errors.ts'
import { host } from './host.ts'

export type Data = string | ArrayBuffer | ArrayBufferView

/** `operation` and its words, and what it works on. Throws what the host answers. */
export function compute(words: readonly (string | number)[], ...parts: readonly Uint8Array[]): Buffer {
  const answer = ask(words, parts)
  return typeof answer === 'string' ? Buffer.from(answer) : Buffer.from(answer)
}

/** The same for an answer in JSON. */
export function computeJson(words: readonly (string | number)[], ...parts: readonly Uint8Array[]): unknown {
  const answer = ask(words, parts)
  return JSON.parse(typeof answer === 'string' ? answer : '{}') as unknown
}

function ask(words: readonly (string | number)[], parts: readonly Uint8Array[]): ArrayBuffer | string {
  const answer = host.compute(words.join('\n'), parts.length === 1 && parts[0] !== undefined ? parts[0] : join(parts))
  if (typeof answer !== 'string' || !answer.startsWith('!')) return answer
  const end = answer.indexOf('\n')
  const code = answer.slice(1, end)
  // OpenSSL's failures that have no code of their own.
  if (code === 'ERR_CRYPTO_OPERATION_FAILED') throw new Error(answer.slice(end + 1))
  throw nodeError(code.startsWith('ERR_INVALID') ? TypeError : code === 'ERR_OUT_OF_RANGE' ? RangeError : Error, code, answer.slice(end + 1))
}

export function join(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}

/** A view of the bytes, or those of the text. */
export function bytesOf(name: string, value: unknown, encoding?: string): Uint8Array {
  if (typeof value === 'string') return Buffer.from(value, encoding as BufferEncoding | undefined)
  if (value instanceof Uint8Array) return value
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
  if (value instanceof ArrayBuffer) return new Uint8Array(value)
  throw invalidType(name, 'of type string or an instance of ArrayBuffer, Buffer, TypedArray, or DataView', value)
}

/** As asked: a Buffer, or text. */
export function encoded(bytes: Buffer, encoding: string | undefined): Buffer | string {
  return encoding === undefined || encoding === 'buffer' ? bytes : bytes.toString(encoding as BufferEncoding)
}

/** Calls back with what `run` gives, never at once. */
export function callBack<T>(callback: (error: Error | null, value?: T) => void, run: () => T | Promise<T>): void {
  void Promise.resolve().then(run).then((value) => queueMicrotask(() => callback(null, value)), (error: unknown) => queueMicrotask(() => callback(error as Error)))
}
