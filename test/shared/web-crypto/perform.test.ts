// What one operation of crypto.subtle may cost, whatever its request says: a guest's request may be forged.
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { CRYPTO_WAITING_BYTES_PER_ACCOUNT_MAX } from '../../../shared/limits.ts'
import { CryptoQueue } from '../../../shared/web-crypto/crypto-queue.ts'
import { performSubtle, type SubtleAnswer } from '../../../shared/web-crypto/perform.ts'

const NONE = new Uint8Array(0)
const base64 = (text: string): string => Buffer.from(text).toString('base64')
const perform = (request: object, data: Uint8Array = NONE): Promise<SubtleAnswer> => performSubtle(JSON.stringify(request), data)
const failed = (answer: SubtleAnswer): string => (answer.kind === 'failed' ? answer.name : answer.kind)
const password = { k: { type: 'secret', extractable: false, algorithm: { name: 'PBKDF2' }, usages: ['deriveBits', 'deriveKey'], data: base64('password') } }
const pbkdf2 = (iterations: unknown): object => ({ name: 'PBKDF2', hash: 'SHA-256', salt: { b: base64('salt') }, iterations })
/** A number of so many bits, as a JSON Web Key has them. */
function numberOf(bits: number): string {
  const bytes = randomBytes(bits / 8)
  bytes.writeUInt8(bytes.readUInt8(0) | 0x80, 0)
  bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) | 1, bytes.length - 1)
  return bytes.toString('base64url')
}
const rsaKey = (bits: number, exponentBits = bits): object => {
  const half = numberOf(bits / 2)
  return { kty: 'RSA', e: 'AQAB', n: numberOf(bits), d: numberOf(exponentBits), p: half, q: half, dp: half, dq: half, qi: half }
}
const importRsa = (jwk: object): Promise<SubtleAnswer> => perform({ method: 'importKey', format: 'jwk', jwk, algorithm: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }, extractable: true, usages: ['sign'] })

t.test('iterations of PBKDF2 are bounded in whatever form they come', async (t) => {
  for (const iterations of [4_000_000_000, '4000000000', ['4000000000']]) {
    t.not(failed(await perform({ method: 'deriveBits', algorithm: pbkdf2(iterations), key: password, length: 256 })), 'bytes', JSON.stringify(iterations))
  }
  t.equal(failed(await perform({ method: 'deriveBits', algorithm: pbkdf2({ b: base64('4000000000') }), key: password, length: 256 })), 'NotSupportedError', 'bytes that Node would read as a number')
  t.equal(failed(await perform({ method: 'deriveBits', algorithm: pbkdf2(1_000), key: password, length: 256 })), 'bytes')
})

t.test('iterations and output of PBKDF2 are bounded together', async (t) => {
  t.equal(failed(await perform({ method: 'deriveBits', algorithm: pbkdf2(1_000_000), key: password, length: 8_000_000 })), 'NotSupportedError')
  const derive = (iterations: number, length: number): Promise<SubtleAnswer> =>
    perform({ method: 'deriveKey', algorithm: pbkdf2(iterations), key: password, derived: { name: 'HMAC', hash: 'SHA-256', length }, extractable: true, usages: ['sign'] })
  t.equal(failed(await derive(1_000_000, 1_000_000)), 'NotSupportedError', 'a key of HMAC takes any length')
  t.equal(failed(await derive(1, 4_000_000_000)), 'NotSupportedError')
  t.equal(failed(await derive(1_000, 512)), 'text')
})

t.test('keys have bounded lengths, also those that nobody made', async (t) => {
  const generate = (algorithm: object, usages: string[]): Promise<SubtleAnswer> => perform({ method: 'generateKey', algorithm, extractable: true, usages })
  t.equal(failed(await generate({ name: 'HMAC', hash: 'SHA-256', length: 4_000_000_000 }, ['sign'])), 'OperationError')
  t.equal(failed(await generate({ name: 'RSA-PSS', hash: 'SHA-256', modulusLength: { b: base64('65536') }, publicExponent: { b: 'AQAB' } }, ['sign'])), 'TypeError')
  t.equal(failed(await importRsa(rsaKey(2_048))), 'text')
  t.equal(failed(await importRsa(rsaKey(4_096))), 'text')
  t.equal(failed(await importRsa(rsaKey(8_192))), 'NotSupportedError')
  t.equal(failed(await importRsa(rsaKey(2_048, 32_768))), 'NotSupportedError', 'a private exponent far beyond its modulus')
})

t.test('what waits of one account is bounded in bytes, and others are not refused for it', async (t) => {
  const queue = new CryptoQueue()
  const half = new Uint8Array(CRYPTO_WAITING_BYTES_PER_ACCOUNT_MAX / 2)
  const start = (account: string): Promise<SubtleAnswer> => new Promise((resolve) => queue.start(account, '{}', half, resolve))
  // Two are under way at once, of whatever account; then one waits, and there is no room for the half of another and its request.
  const answers = Promise.all([start('a'), start('a'), start('a'), start('a'), start('b')])
  t.same((await answers).map(failed), ['TypeError', 'TypeError', 'TypeError', 'OperationError', 'TypeError'], 'what is no request fails as such when its turn comes')
})
