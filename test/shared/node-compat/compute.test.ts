// What one call of the cryptography on a guest's thread may cost, whatever it says: a guest writes its requests itself.
import { createPrivateKey, generateKeyPairSync, pbkdf2Sync, randomBytes } from 'node:crypto'
import t from 'tap'
import { compute, COMPUTE_DATA_MAX_BYTES } from '../../../shared/node-compat/compute.ts'

const refusal = (answer: Uint8Array | string): string => (typeof answer === 'string' ? (answer.split('\n')[0] ?? '') : 'went through')

/** The best of three, ms. */
function tookMs(action: () => void): number {
  return Math.min(...Array.from({ length: 3 }, () => {
    const startedAtMs = performance.now()
    action()
    return performance.now() - startedAtMs
  }))
}

const large = new Uint8Array(COMPUTE_DATA_MAX_BYTES)
/** What the largest hash takes here: the measure of all else. */
const hashMs = tookMs(() => compute('hash\nsha256', large))

t.test('a long password of PBKDF2 is hashed once, and the result is the same', (t) => {
  const password = large.subarray(0, COMPUTE_DATA_MAX_BYTES - 64)
  const data = new Uint8Array(COMPUTE_DATA_MAX_BYTES)
  t.ok(tookMs(() => compute(`pbkdf2\nsha256\n${password.length}\n512`, data)) < 10 * hashMs, '512 iterations take no longer than some hashes')
  const key = randomBytes(300)
  const first = compute(`hmac\nsha512\n${key.length}`, Buffer.concat([key, Buffer.from('salt'), Buffer.from([0, 0, 0, 1])])) as Uint8Array
  const state = compute(`pbkdf2\nsha512\n${key.length}\n499`, Buffer.concat([key, first, first])) as Uint8Array
  t.same(Buffer.from(state.subarray(64)), pbkdf2Sync(key, 'salt', 500, 64, 'sha512'))
  t.end()
})

t.test('what PBKDF2 goes on with is as long as its hash', (t) => {
  t.ok(tookMs(() => t.equal(refusal(compute('pbkdf2\nsha256\n0\n512', large)), '!ERR_OUT_OF_RANGE')) < 10 * hashMs)
  for (const bytes of [0, 2, 63, 66, 128]) t.equal(refusal(compute('pbkdf2\nsha256\n0\n1', new Uint8Array(bytes))), '!ERR_OUT_OF_RANGE', String(bytes))
  t.equal(refusal(compute('pbkdf2\nsha256\n0\n513', new Uint8Array(64))), '!ERR_OUT_OF_RANGE')
  t.end()
})

t.test('a key whose numbers are larger than its size needs does not sign', (t) => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 })
  const usual = privateKey.export({ type: 'pkcs8', format: 'der' })
  t.equal(refusal(compute(`sign\nsha256\n${usual.length}\n\n\n`, Buffer.concat([usual, Buffer.from('x')]))), 'went through')
  const jwk = privateKey.export({ format: 'jwk' })
  const long = randomBytes(4_000)
  long.writeUInt8(0x80 | long.readUInt8(0), 0)
  const forged = createPrivateKey({ key: { ...jwk, d: long.toString('base64url'), dp: long.toString('base64url') }, format: 'jwk' }).export({ type: 'pkcs8', format: 'der' })
  t.equal(refusal(compute(`sign\nsha256\n${forged.length}\n\n\n`, Buffer.concat([forged, Buffer.from('x')]))), '!ERR_OUT_OF_RANGE')
  t.end()
})

t.test('requests that are none are refused by a code', (t) => {
  for (const request of ['', 'hash', 'hash\nsha257', 'hmac\nsha256\n-1', 'hmac\nsha256\n1e99', 'constructor', 'hkdf\nsha256\n0\n0\n99999', 'encrypt\naes-128-gcm\n16\n12\n0\n17']) {
    t.match(refusal(compute(request, new Uint8Array(64))), /^!ERR_[A-Z_]+$/, JSON.stringify(request))
  }
  t.equal(refusal(compute('hash\nsha256', new Uint8Array(COMPUTE_DATA_MAX_BYTES + 1))), '!ERR_OUT_OF_RANGE')
  t.end()
})
