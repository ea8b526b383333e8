// What one operation of crypto.subtle may cost, whatever its request says: a guest's request may be forged.
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { CRYPTO_WAITING_MAX_BYTES, CRYPTO_WAITING_PER_ACCOUNT_MAX } from '../../../shared/limits.ts'
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

t.test('an algorithm has a few members, and one key among them', async (t) => {
  const key = { k: { type: 'secret', extractable: false, algorithm: { name: 'HMAC', hash: { name: 'SHA-256' } }, usages: ['sign'], data: base64('key') } }
  const many = Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`member${index}`, key]))
  t.equal(failed(await perform({ method: 'sign', algorithm: { name: 'HMAC', ...many }, key })), 'TypeError')
  t.equal(failed(await perform({ method: 'sign', algorithm: 'HMAC', key })), 'bytes')
  const nested = `{"method":"sign","algorithm":{"name":"HMAC","hash":${'{"hash":'.repeat(15_000)}1${'}'.repeat(15_000)}},"key":${JSON.stringify(key)}}`
  t.equal(failed(await performSubtle(nested, NONE)), 'TypeError')
})

t.test('secret keys and what is read as a key have bounded lengths', async (t) => {
  const imported = (bytes: number): Promise<SubtleAnswer> => perform({ method: 'importKey', format: 'raw', jwk: null, algorithm: { name: 'HMAC', hash: 'SHA-256' }, extractable: true, usages: ['sign'] }, new Uint8Array(bytes).fill(7))
  t.equal(failed(await imported(65_536)), 'text')
  t.equal(failed(await imported(65_537)), 'NotSupportedError')
  const secret = (bytes: number): object => ({ method: 'sign', algorithm: 'HMAC', key: { k: { type: 'secret', extractable: false, algorithm: { name: 'HMAC', hash: { name: 'SHA-256' } }, usages: ['sign'], data: Buffer.alloc(bytes, 1).toString('base64') } } })
  t.equal(failed(await perform(secret(65_536))), 'bytes')
  t.equal(failed(await perform(secret(65_537))), 'NotSupportedError')
})

const RSA_KEY = JSON.stringify({ method: 'generateKey', algorithm: { name: 'RSA-PSS', hash: 'SHA-256', modulusLength: 4_096, publicExponent: { b: 'AQAB' } }, extractable: true, usages: ['sign'] })
const start = (queue: CryptoQueue, account: string, request: string, data = NONE): Promise<SubtleAnswer> => new Promise((resolve) => void queue.start(account, request, data, resolve))

t.test('what waits is bounded in bytes, of which each account has a fair share', async (t) => {
  const queue = new CryptoQueue()
  const quarter = new Uint8Array(CRYPTO_WAITING_MAX_BYTES / 4 - 1_024)
  const answers = await Promise.all(['a', 'a', 'a', 'b'].map((account) => start(queue, account, '{}', quarter)))
  t.same(answers.map(failed), ['TypeError', 'TypeError', 'OperationError', 'TypeError'], 'what is no request fails as such when its turn comes')
  t.match(answers[2], { code: 'ERR_LIMIT_OPERATIONS', message: /await some/ })
  t.equal(queue.heldBytes, 0)
})

t.test('one more than may wait of an account is refused, others are not', async (t) => {
  const queue = new CryptoQueue()
  const greedy = Array.from({ length: CRYPTO_WAITING_PER_ACCOUNT_MAX + 1 }, () => start(queue, 'greedy', '{}'))
  const other = start(queue, 'other', '{}')
  const names = (await Promise.all([...greedy, other])).map(failed)
  t.same(names.flatMap((name, index) => (name === 'OperationError' ? [index] : [])), [CRYPTO_WAITING_PER_ACCOUNT_MAX])
})

t.test('an account that makes large keys leaves a turn to others at once', async (t) => {
  const queue = new CryptoQueue()
  const ended: string[] = []
  const keys = Array.from({ length: 3 }, () => start(queue, 'greedy', RSA_KEY).then(() => ended.push('key')))
  const other = start(queue, 'other', '{}').then(() => ended.push('other'))
  await Promise.all([...keys, other])
  t.equal(ended[0], 'other')
})

t.test('what is given up is not begun, its answer never comes, and nothing of it is held', async (t) => {
  const queue = new CryptoQueue()
  let answers = 0
  // Two of them are under way; all would take minutes.
  const giveUp = Array.from({ length: 300 }, () => queue.start('a', RSA_KEY, new Uint8Array(1_000), () => answers++))
  t.ok(queue.heldBytes >= 300_000)
  for (const stop of giveUp) stop()
  for (const stop of giveUp) stop()
  t.ok(queue.heldBytes <= 2 * (1_000 + 2 * RSA_KEY.length))
  t.equal(failed(await start(queue, 'a', '{}')), 'TypeError')
  await Promise.all(Array.from({ length: 4 }, () => start(queue, 'b', '{}')))
  t.equal(answers, 0)
})
