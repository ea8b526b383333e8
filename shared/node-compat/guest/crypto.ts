/** `node:crypto`: by the host, at once where that takes microseconds (compute.ts), else as an operation that is waited for. */
import { callBack, bytesOf, type Data } from './crypto-call.ts'
import { Cipheriv, createCipheriv, createDecipheriv, Decipheriv, getCiphers } from './crypto-cipher.ts'
import { hkdf, hkdfSync, pbkdf2, pbkdf2Sync, scrypt, scryptSync } from './crypto-derive.ts'
import { createHash, createHmac, getHashes, Hash, hash, hashName, Hmac } from './crypto-hash.ts'
import { createPrivateKey, createPublicKey, createSecretKey, KeyObject, Sign, signBytes, Verify, verifyBytes } from './crypto-keys.ts'
import { randomBytes, randomFill, randomFillSync, randomInt, randomUUID, timingSafeEqual } from './crypto-random.ts'

export const webcrypto = globalThis.crypto
export const { subtle } = webcrypto
export const getRandomValues = webcrypto.getRandomValues.bind(webcrypto)
export const constants: Readonly<Record<string, number | string>> = Object.freeze({
  RSA_PKCS1_PADDING: 1, RSA_NO_PADDING: 3, RSA_PKCS1_OAEP_PADDING: 4, RSA_X931_PADDING: 5, RSA_PKCS1_PSS_PADDING: 6, RSA_PSS_SALTLEN_DIGEST: -1, RSA_PSS_SALTLEN_MAX_SIGN: -2, RSA_PSS_SALTLEN_AUTO: -2,
  POINT_CONVERSION_COMPRESSED: 2, POINT_CONVERSION_UNCOMPRESSED: 4, POINT_CONVERSION_HYBRID: 6,
})

export function createSign(name: string): Sign {
  return new Sign(hashName(name))
}

export function createVerify(name: string): Verify {
  return new Verify(hashName(name))
}

function optionalHash(name: unknown): string {
  return name === null || name === undefined ? '' : hashName(name)
}

type Done<T> = (error: Error | null, value?: T) => void

export function sign(name: unknown, data: Data, key: unknown, callback?: Done<Buffer>): Buffer | undefined {
  const run = (): Buffer => signBytes(optionalHash(name), bytesOf('data', data), key)
  if (callback === undefined) return run()
  callBack(callback, run)
  return undefined
}

export function verify(name: unknown, data: Data, key: unknown, signature: Data, callback?: Done<boolean>): boolean | undefined {
  const run = (): boolean => verifyBytes(optionalHash(name), bytesOf('data', data), key, bytesOf('signature', signature))
  if (callback === undefined) return run()
  callBack(callback, run)
  return undefined
}

export function getCurves(): string[] {
  return ['prime256v1', 'secp256k1', 'secp384r1', 'secp521r1']
}

export function getFips(): number {
  return 0
}

export {
  Cipheriv, createCipheriv, createDecipheriv, createHash, createHmac, createPrivateKey, createPublicKey, createSecretKey, Decipheriv, getCiphers, getHashes, Hash, hash, hkdf, hkdfSync, Hmac, KeyObject, pbkdf2, pbkdf2Sync,
  randomBytes, randomFill, randomFillSync, randomInt, randomUUID, scrypt, scryptSync, Sign, timingSafeEqual, Verify,
}

export default {
  Cipheriv, constants, createCipheriv, createDecipheriv, createHash, createHmac, createPrivateKey, createPublicKey, createSecretKey, createSign, createVerify, Decipheriv, getCiphers, getCurves, getFips, getHashes, getRandomValues,
  Hash, hash, hkdf, hkdfSync, Hmac, KeyObject, pbkdf2, pbkdf2Sync, randomBytes, randomFill, randomFillSync, randomInt, randomUUID, scrypt, scryptSync, Sign, sign, subtle, timingSafeEqual, Verify, verify, webcrypto,
}
