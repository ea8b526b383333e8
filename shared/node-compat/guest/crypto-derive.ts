/** Keys from passwords and secrets. */
import { Buffer } from './buffer.ts'
import { bytesOf, callBack, compute, join } from './crypto-call.ts'
import { digestBytes, hashName } from './crypto-hash.ts'
import { isKeyObject, keyBytes } from './crypto-keys.ts'
import { invalidType, nodeError, outOfRange, requireFunction } from './errors.ts'
import { host } from './host.ts'

type Done<T> = (error: Error | null, value?: T) => void
/** Of one call of the host (COMPUTE_ITERATIONS_MAX). */
const ITERATIONS_AT_ONCE = 512
const SUBTLE_HASHES: Readonly<Record<string, string>> = { sha1: 'SHA-1', sha256: 'SHA-256', sha384: 'SHA-384', sha512: 'SHA-512' }
const LENGTH_MAX = 2 ** 31 - 1

function requireCount(name: string, value: unknown, min: number): number {
  if (typeof value !== 'number') throw invalidType(name, 'of type number', value)
  if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value)
  if (value < min || value > LENGTH_MAX) throw outOfRange(name, `>= ${min} && <= ${LENGTH_MAX}`, value)
  return value
}

function digestName(name: unknown): string {
  if (typeof name !== 'string') throw invalidType('digest', 'of type string', name)
  try {
    return hashName(name)
  } catch {
    throw nodeError(TypeError, 'ERR_CRYPTO_INVALID_DIGEST', `Invalid digest: ${name}`)
  }
}

/** Some 512 iterations a call, so that a run's limits hold in between. For many iterations `pbkdf2` with a callback is ten times as fast. */
export function pbkdf2Sync(password: unknown, salt: unknown, iterations: number, length: number, digest: string): Buffer {
  const name = digestName(digest)
  const [key, seasoning] = [bytesOf('password', password), bytesOf('salt', salt)]
  requireCount('iterations', iterations, 1)
  requireCount('keylen', length, 0)
  const size = digestBytes(name)
  const blocks: Uint8Array[] = []
  for (let index = 1; index * size < length + size; index++) {
    const first = compute(['hmac', name, key.length], key, seasoning, Uint8Array.of(index >>> 24, index >>> 16, index >>> 8, index))
    let state = join([first, first])
    for (let left = iterations - 1; left > 0; left -= ITERATIONS_AT_ONCE) state = compute(['pbkdf2', name, key.length, Math.min(left, ITERATIONS_AT_ONCE)], key, state)
    blocks.push(state.subarray(size))
  }
  return Buffer.concat(blocks, length)
}

export function pbkdf2(password: unknown, salt: unknown, iterations: number, length: number, digest: string, callback: Done<Buffer>): void {
  requireFunction('callback', callback)
  const name = digestName(digest)
  const [key, seasoning] = [Uint8Array.from(bytesOf('password', password)), Uint8Array.from(bytesOf('salt', salt))]
  requireCount('iterations', iterations, 1)
  requireCount('keylen', length, 0)
  const hash = SUBTLE_HASHES[name]
  callBack(callback, async () => {
    if (hash === undefined || length === 0) return pbkdf2Sync(key, seasoning, iterations, length, name)
    const imported = await crypto.subtle.importKey('raw', key, 'PBKDF2', false, ['deriveBits'])
    return Buffer.from(await crypto.subtle.deriveBits({ name: 'PBKDF2', hash, salt: seasoning, iterations }, imported, length * 8))
  })
}

export function hkdfSync(digest: string, key: unknown, salt: unknown, info: unknown, length: number): ArrayBuffer {
  const name = digestName(digest)
  const [secret, seasoning, context] = [isKeyObject(key) ? keyBytes(key) : bytesOf('ikm', key), bytesOf('salt', salt), bytesOf('info', info)]
  requireCount('length', length, 0)
  if (length > 255 * digestBytes(name)) throw nodeError(RangeError, 'ERR_CRYPTO_INVALID_KEYLEN', 'Invalid key length')
  const derived = compute(['hkdf', name, secret.length, seasoning.length, length], secret, seasoning, context)
  return derived.buffer.slice(derived.byteOffset, derived.byteOffset + length) as ArrayBuffer
}

export function hkdf(digest: string, key: unknown, salt: unknown, info: unknown, length: number, callback: Done<ArrayBuffer>): void {
  requireFunction('callback', callback)
  callBack(callback, () => hkdfSync(digest, key, salt, info, length))
}

interface ScryptOptions {
  readonly N?: number
  readonly cost?: number
  readonly r?: number
  readonly blockSize?: number
  readonly p?: number
  readonly parallelization?: number
  readonly maxmem?: number
}

export function scrypt(password: unknown, salt: unknown, length: number, options: ScryptOptions | Done<Buffer>, callback?: Done<Buffer>): void {
  const done = typeof options === 'function' ? options : callback
  requireFunction('callback', done)
  const [key, seasoning] = [bytesOf('password', password), bytesOf('salt', salt)]
  requireCount('keylen', length, 0)
  const { N, cost = N ?? 16384, r, blockSize = r ?? 8, p, parallelization = p ?? 1, maxmem = 32 * 1024 * 1024 } = typeof options === 'function' ? {} : options
  const request = JSON.stringify({ method: 'scrypt', passwordBytes: key.length, length, cost, blockSize, parallelization, maxmem })
  if (!Number.isInteger(cost) || cost < 2 || (cost & (cost - 1)) !== 0) throw nodeError(RangeError, 'ERR_CRYPTO_INVALID_SCRYPT_PARAMS', 'Invalid scrypt params')
  callBack(done as Done<Buffer>, async () => Buffer.from((await host.subtle(request, join([key, seasoning]))) as ArrayBuffer))
}

/** It takes tens of milliseconds and megabytes, of which a run cannot be stopped on its thread. */
export function scryptSync(): never {
  throw nodeError(Error, 'ERR_METHOD_NOT_IMPLEMENTED', 'crypto.scryptSync is not available in functions of Outpost; use crypto.scrypt with a callback, or util.promisify of it')
}
