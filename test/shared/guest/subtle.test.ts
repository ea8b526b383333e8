import { test } from 'tap'
import { parity } from './parity.ts'
import { run } from './harness.ts'

/** Into the beginning of a snippet: texts and bytes, and a key or two. */
const HELP = `
const bytes = (text) => new TextEncoder().encode(text)
const hex = (buffer) => [...new Uint8Array(buffer)].map((b) => b.toString(16).padStart(2, '0')).join('')
const show = (key) => ({ type: key.type, extractable: key.extractable, algorithm: key.algorithm.publicExponent ? { ...key.algorithm, publicExponent: [...key.algorithm.publicExponent] } : key.algorithm, usages: [...key.usages], text: String(key) })
const s = crypto.subtle
const raw = (usages, name = 'AES-GCM') => s.importKey('raw', bytes('0123456789abcdef'), name, true, usages)
`

void test('crypto.subtle behaves as in Node', async (t) => {
  const compare = await parity(t)
  const same = (title: string, code: string): void => compare(title, `${HELP}\n${code}`)

  same('a public key is extractable when it is said to be', `
    const { publicKey } = await s.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify'])
    const der = await s.exportKey('spki', publicKey)
    const key = await s.importKey('spki', der, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['verify'])
    return [publicKey.extractable, key.extractable, await s.exportKey('spki', key).catch(() => 'refused')]`)
  same('errors: an algorithm that nobody knows', `await s.importKey('raw', bytes('x'), 'ROT13', true, ['sign'])`)
  same('errors: no usages for a secret', `await s.importKey('raw', bytes('x'), { name: 'HMAC', hash: 'SHA-256' }, true, [])`)
  same('errors: a usage that the algorithm does not have', `await s.importKey('raw', bytes('0123456789abcdef'), 'AES-GCM', true, ['sign'])`)
  same('errors: an AES key of no proper length', `await s.importKey('raw', bytes('short'), 'AES-GCM', true, ['encrypt'])`)
  same('errors: a key without the usage', `await s.encrypt({ name: 'AES-GCM', iv: bytes('123456789012') }, await raw(['decrypt']), bytes('x'))`)
  same('errors: a key of another algorithm', `await s.encrypt({ name: 'AES-CBC', iv: bytes('0123456789abcdef') }, await raw(['encrypt']), bytes('x'))`)
  same('errors: a ciphertext that was altered', `const k = await raw(['encrypt', 'decrypt']); const a = { name: 'AES-GCM', iv: bytes('123456789012') }; const c = new Uint8Array(await s.encrypt(a, k, bytes('secret'))); c[0] ^= 1; await s.decrypt(a, k, c)`)
  same('errors: too few arguments', `await s.encrypt({ name: 'AES-GCM' })`)
  same('errors: what is not a key', `await s.encrypt({ name: 'AES-GCM', iv: bytes('123456789012') }, { type: 'secret' }, bytes('x'))`)
  same('errors: an iv that is missing', `await s.encrypt({ name: 'AES-GCM' }, await raw(['encrypt']), bytes('x'))`)
  same('errors: numbers that are none', `await s.generateKey({ name: 'AES-GCM', length: NaN }, true, ['encrypt'])`)
  same('errors: bytes that are no DER', `await s.importKey('spki', bytes('nonsense'), { name: 'ECDSA', namedCurve: 'P-256' }, true, ['verify'])`)
  same('errors: a JWK of the wrong kind', `await s.importKey('jwk', { kty: 'EC', k: 'AAAA' }, { name: 'HMAC', hash: 'SHA-256' }, true, ['sign'])`)
  same('errors: constructors', `try { new CryptoKey() } catch (e) { try { new SubtleCrypto() } catch (f) { return [e.name, f.name] } }`)

  same('what a key shows', `return show(await s.importKey('raw', bytes('abc'), { name: 'hmac', hash: 'sha-256' }, false, ['verify', 'sign', 'sign']))`)
  same('what keys of a pair show', `const p = await s.generateKey({ name: 'RSASSA-PKCS1-v1_5', modulusLength: 1024, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }, false, ['sign', 'verify']); return [show(p.publicKey), show(p.privateKey)]`)
  same('HMAC', `const k = await s.importKey('raw', bytes('key'), { name: 'HMAC', hash: { name: 'SHA-512' } }, true, ['sign', 'verify']); const m = await s.sign('HMAC', k, bytes('data')); return [hex(m), await s.verify('HMAC', k, m, bytes('data')), await s.verify('HMAC', k, m, bytes('dato')), await s.verify('HMAC', k, m.slice(1), bytes('data'))]`)
  for (const [name, algorithm] of [['AES-GCM', `{ name: 'AES-GCM', iv: bytes('123456789012'), additionalData: bytes('more'), tagLength: 96 }`], ['AES-CBC', `{ name: 'AES-CBC', iv: bytes('0123456789abcdef') }`], ['AES-CTR', `{ name: 'AES-CTR', counter: new Uint8Array(16).fill(255), length: 8 }`]] as const) {
    same(name, `const k = await raw(['encrypt', 'decrypt'], '${name}'); const a = ${algorithm}; const c = await s.encrypt(a, k, bytes('a text of more than a block')); return [hex(c), new TextDecoder().decode(await s.decrypt(a, k, c))]`)
  }
  same('AES-KW wraps and unwraps', `const kw = await raw(['wrapKey', 'unwrapKey'], 'AES-KW'); const w = await s.wrapKey('raw', await raw(['encrypt']), kw, 'AES-KW'); const k = await s.unwrapKey('raw', w, kw, 'AES-KW', 'AES-GCM', true, ['encrypt']); return [hex(w), show(k), hex(await s.exportKey('raw', k))]`)
  same('a JWK is wrapped by AES-GCM', `const kw = await raw(['wrapKey', 'unwrapKey']); const a = { name: 'AES-GCM', iv: bytes('123456789012') }; const w = await s.wrapKey('jwk', await raw(['encrypt']), kw, a); return show(await s.unwrapKey('jwk', w, kw, a, 'AES-GCM', false, ['encrypt']))`)
  for (const hash of ['SHA-1', 'SHA-256']) {
    same(`HKDF with ${hash}`, `const k = await s.importKey('raw', bytes('material'), 'HKDF', false, ['deriveBits', 'deriveKey']); const a = { name: 'HKDF', hash: '${hash}', salt: bytes('salt'), info: bytes('info') }; return [show(k), hex(await s.deriveBits(a, k, 256)), hex(await s.exportKey('raw', await s.deriveKey(a, k, { name: 'AES-GCM', length: 256 }, true, ['encrypt'])))]`)
    same(`PBKDF2 with ${hash}`, `const k = await s.importKey('raw', bytes('password'), 'PBKDF2', false, ['deriveBits']); return hex(await s.deriveBits({ name: 'PBKDF2', hash: '${hash}', salt: bytes('salt'), iterations: 1000 }, k, 384))`)
  }
  for (const curve of ['P-256', 'P-384', 'P-521']) {
    same(`ECDSA ${curve}: sign, verify, all formats`, `const p = await s.generateKey({ name: 'ECDSA', namedCurve: '${curve}' }, true, ['sign', 'verify']); const a = { name: 'ECDSA', hash: 'SHA-256' }; const m = await s.sign(a, p.privateKey, bytes('x')); const out = [show(p.privateKey), m.byteLength];
      for (const format of ['raw', 'spki', 'jwk']) { const k = await s.importKey(format, await s.exportKey(format, p.publicKey), { name: 'ECDSA', namedCurve: '${curve}' }, true, ['verify']); out.push(show(k), await s.verify(a, k, m, bytes('x')), await s.verify(a, k, m, bytes('y'))) }
      for (const format of ['pkcs8', 'jwk']) { const k = await s.importKey(format, await s.exportKey(format, p.privateKey), { name: 'ECDSA', namedCurve: '${curve}' }, true, ['sign']); out.push(await s.verify(a, p.publicKey, await s.sign(a, k, bytes('z')), bytes('z'))) }
      return out`)
  }
  same('ECDH: both sides derive the same', `const a = { name: 'ECDH', namedCurve: 'P-256' }; const p = await s.generateKey(a, true, ['deriveBits', 'deriveKey']); const q = await s.generateKey(a, false, ['deriveBits']); const one = hex(await s.deriveBits({ name: 'ECDH', public: q.publicKey }, p.privateKey, 128)); const two = hex(await s.deriveBits({ name: 'ECDH', public: p.publicKey }, q.privateKey, 128)); return [one === two, one.length, show(await s.deriveKey({ name: 'ECDH', public: q.publicKey }, p.privateKey, { name: 'HMAC', hash: 'SHA-256', length: 256 }, false, ['sign'])), show(q.publicKey)]`)
  same('Ed25519 from a JWK of RFC 8037', `const k = await s.importKey('jwk', { kty: 'OKP', crv: 'Ed25519', d: 'nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' }, 'Ed25519', true, ['sign']); return [hex(await s.sign('Ed25519', k, bytes('x'))), await s.exportKey('jwk', k)]`)
  same('X25519', `const p = await s.generateKey('X25519', true, ['deriveBits']); const q = await s.generateKey('X25519', true, ['deriveBits']); return hex(await s.deriveBits({ name: 'X25519', public: q.publicKey }, p.privateKey, 256)) === hex(await s.deriveBits({ name: 'X25519', public: p.publicKey }, q.privateKey, 256))`)
  same('RSA-PSS and RSA-OAEP', `const g = (name, u) => s.generateKey({ name, modulusLength: 1024, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-1' }, true, u); const p = await g('RSA-PSS', ['sign', 'verify']); const m = await s.sign({ name: 'RSA-PSS', saltLength: 20 }, p.privateKey, bytes('x')); const o = await g('RSA-OAEP', ['encrypt', 'decrypt']); const c = await s.encrypt({ name: 'RSA-OAEP', label: bytes('l') }, o.publicKey, bytes('y')); return [await s.verify({ name: 'RSA-PSS', saltLength: 20 }, p.publicKey, m, bytes('x')), new TextDecoder().decode(await s.decrypt({ name: 'RSA-OAEP', label: bytes('l') }, o.privateKey, c)), Object.keys(await s.exportKey('jwk', p.privateKey)).sort()]`)
  same('data is taken at the time of the call', `const k = await s.importKey('raw', bytes('key'), { name: 'HMAC', hash: 'SHA-256' }, true, ['sign']); const d = bytes('data'); const m = s.sign('HMAC', k, d); d.fill(0); return hex(await m)`)
})

const bounds = [
  [`await crypto.subtle.deriveBits({ name: 'PBKDF2', hash: 'SHA-256', salt: new Uint8Array(8), iterations: 10_000_000 }, await crypto.subtle.importKey('raw', new Uint8Array(8), 'PBKDF2', false, ['deriveBits']), 256)`, 'NotSupportedError'],
  [`await crypto.subtle.generateKey({ name: 'RSA-PSS', modulusLength: 16384, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }, true, ['sign', 'verify'])`, 'NotSupportedError'],
  [`await crypto.subtle.deriveBits({ name: 'PBKDF2', hash: 'SHA-256', salt: new Uint8Array(8), iterations: 1 }, await crypto.subtle.importKey('raw', new Uint8Array(8), 'PBKDF2', false, ['deriveBits']), 2 ** 31)`, 'OperationError'],
] as const
for (const [code, name] of bounds) {
  void test(`what would cost too much is ${name}: ${code.slice(6, 90)}`, async (t) => {
    t.equal((await run(`export default { async fetch() { try { ${code} } catch (e) { return new Response(e.name + (e instanceof DOMException)) } } }`)).text, `${name}true`)
  })
}

void test('where Node differs from the standard: bytes are no JWK, what may not leave is InvalidAccessError, and what a key shows is a copy', async (t) => {
  const source = `export default { async fetch() {
    ${HELP}
    const names = []
    try { await s.importKey('jwk', bytes('{}'), { name: 'HMAC', hash: 'SHA-256' }, true, ['sign']) } catch (error) { names.push(error.name) }
    try { await s.exportKey('raw', await s.importKey('raw', bytes('0123456789abcdef'), 'AES-GCM', false, ['encrypt'])) } catch (error) { names.push(error.name) }
    const k = await s.importKey('raw', bytes('key'), { name: 'HMAC', hash: 'SHA-256' }, true, ['sign'])
    k.algorithm.hash.name = 'SHA-1'
    k.usages.push('verify')
    names.push((await s.sign('HMAC', k, bytes('x'))).byteLength, k.algorithm === k.algorithm)
    try { await s.verify('HMAC', k, bytes('x'), bytes('x')) } catch (error) { names.push(error.name) }
    return Response.json(names)
  } }`
  t.same(JSON.parse((await run(source)).text), ['TypeError', 'InvalidAccessError', 32, true, 'InvalidAccessError'])
})

void test('a key that a function forges from what it sees is no key', async (t) => {
  const source = `export default { async fetch() {
    const key = await crypto.subtle.importKey('raw', new Uint8Array(16), 'AES-GCM', false, ['encrypt'])
    const forged = Object.create(CryptoKey.prototype)
    const tries = [() => forged.type, () => crypto.subtle.exportKey('raw', forged), () => Reflect.get(key, '#wire') === undefined ? Promise.reject(new TypeError('nothing there')) : 0, () => JSON.stringify(key) === '{}' ? Promise.reject(new TypeError('nothing shown')) : 0]
    const names = []
    for (const attempt of tries) try { await attempt(); names.push('went through') } catch (error) { names.push(error.name) }
    return Response.json(names)
  } }`
  t.same(JSON.parse((await run(source)).text), ['TypeError', 'TypeError', 'TypeError', 'TypeError'])
})
