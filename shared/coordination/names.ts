/** Names that both drivers take, whatever each could take more: what works embedded works over NATS. All throw ERR_COORDINATION_REFUSED. */
import { CodedError } from '../errors.ts'

const BUCKET = /^[a-z0-9-]{1,32}$/
const KEY = /^[A-Za-z0-9\-_][A-Za-z0-9\-_=]*([./][A-Za-z0-9\-_=]+)*$/
const KEY_MAX_CHARS = 512

export function requireBucketName(name: string): void {
  if (!BUCKET.test(name)) throw new CodedError('ERR_COORDINATION_REFUSED', [`"${name.slice(0, 64)}" is no name of a bucket`])
}

export function requireKey(key: string): void {
  if (key.length > KEY_MAX_CHARS || !KEY.test(key)) throw new CodedError('ERR_COORDINATION_REFUSED', [`"${key.slice(0, 64)}" is no key`])
}

export function requireSize(what: string, bytes: Uint8Array, maxBytes: number): void {
  if (bytes.byteLength > maxBytes) throw new CodedError('ERR_COORDINATION_REFUSED', [`${what} has ${bytes.byteLength} bytes, more than ${maxBytes}`])
}
