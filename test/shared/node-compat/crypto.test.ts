/** `node:crypto` answers as Node's does. */
import t from 'tap'
import { runBoth } from './run-both.ts'

const { same, machine } = await runBoth(t, ['node:crypto', 'node:util', 'node:stream', 'node:buffer'])
const NODE = "const c = require('crypto'); const { Buffer } = require('buffer'); const { promisify } = require('util');"

for (const hash of ['md5', 'sha1', 'SHA256', 'sha384', 'RSA-SHA512', 'sha512-256', 'ripemd160', 'sha3-256']) {
  same(`createHash ${hash}`, `${NODE} return [c.createHash('${hash}').update('abc').update(Buffer.from([1, 2, 255])).digest('hex'), c.createHmac('${hash}', 'key').update('héllo').digest('base64')]`)
}
same('a hash of everything at once, of nothing, with an output length', `${NODE} return [c.hash('sha1', 'abc'), c.createHash('sha256').digest('base64url'), c.createHash('shake128', { outputLength: 5 }).update('x').digest('hex')]`)
same('a hash is finished by its digest', `${NODE} const h = c.createHash('sha256'); h.digest(); h.update('x')`)
same('a hash goes on from a copy', `${NODE} const h = c.createHash('sha256').update('a'); const k = h.copy(); h.update('b'); return [h.digest('hex'), k.digest('hex')]`)
same('input is copied', `${NODE} const b = Buffer.from('abc'); const h = c.createHash('sha256').update(b); b.fill(0); return h.digest('hex')`)
same('an unknown hash', `${NODE} c.createHash('sha257')`, { only: 'code' })
same('an unknown hash of a mac', `${NODE} c.createHmac('sha257', 'k')`)
same('what cannot be hashed', `${NODE} c.createHash('sha256').update(5)`, { only: 'code' })
same('a stream into a hash', `${NODE} const { pipeline } = require('stream'); const { Readable } = require('stream'); const h = c.createHash('sha256'); await promisify(pipeline)(Readable.from([Buffer.from('a'), Buffer.from('bc')]), h); return h.read().toString('hex')`)
same('a key object for a mac', `${NODE} return c.createHmac('sha256', c.createSecretKey(Buffer.from('k'))).update('x').digest('hex')`)

same('pbkdf2Sync over several blocks and calls', `${NODE} return c.pbkdf2Sync('secret', 'salt', 1200, 70, 'sha256').toString('hex')`)
same('pbkdf2', `${NODE} return (await promisify(c.pbkdf2)('secret', 'salt', 5000, 64, 'sha512')).toString('hex')`)
same('pbkdf2 refuses what is no count', `${NODE} c.pbkdf2Sync('a', 'b', 0, 8, 'sha1')`, { only: 'code' })
same('hkdfSync and hkdf', `${NODE} return [Buffer.from(c.hkdfSync('sha512', 'key', 'salt', 'info', 64)).toString('hex'), Buffer.from(await promisify(c.hkdf)('sha256', 'key', '', '', 10)).toString('hex')]`)
same('scrypt', `${NODE} return (await promisify(c.scrypt)('secret', 'salt', 32, { N: 1024 })).toString('hex')`)
same('scrypt with costs that are none', `${NODE} await promisify(c.scrypt)('secret', 'salt', 32, { N: 1000 })`, { only: 'code' })

same('timingSafeEqual', `${NODE} return [c.timingSafeEqual(Buffer.from('ab'), Buffer.from('ab')), c.timingSafeEqual(Buffer.from('ab'), Buffer.from('ac'))]`)
same('timingSafeEqual of other lengths', `${NODE} c.timingSafeEqual(Buffer.from('ab'), Buffer.from('a'))`)
same('random things have the shapes they have', `${NODE} const u = c.randomUUID(); const n = c.randomInt(5, 7); return [c.randomBytes(20).length, Buffer.isBuffer(c.randomBytes(1)), c.randomBytes(100000).length, /^[0-9a-f-]{36}$/.test(u), n === 5 || n === 6, (await promisify(c.randomBytes)(8)).length, c.randomFillSync(new Uint32Array(3)).some((x) => x > 0)]`)
same('randomInt refuses an empty range', `${NODE} c.randomInt(7, 5)`, { only: 'code' })
same('randomBytes refuses a negative size', `${NODE} c.randomBytes(-1)`, { only: 'code' })

for (const name of ['aes-128-cbc', 'aes-256-ctr', 'aes-192-gcm', 'aes-256-gcm', 'aes-128-ecb']) {
  const [, bits, mode] = name.split('-')
  const iv = mode === 'ecb' ? 'null' : `Buffer.alloc(${mode === 'gcm' ? 12 : 16}, 3)`
  same(`${name} there and back`, `${NODE} const key = Buffer.alloc(${Number(bits) / 8}, 7), iv = ${iv}; const e = c.createCipheriv('${name}', key, iv); ${mode === 'gcm' ? "e.setAAD(Buffer.from('aad'));" : ''}
    const out = e.update('hello ', 'utf8', 'hex') + e.update('world', 'utf8', 'hex') + e.final('hex'); const tag = ${mode === 'gcm' ? 'e.getAuthTag()' : 'null'}
    const d = c.createDecipheriv('${name}', key, iv); if (tag) { d.setAAD(Buffer.from('aad')); d.setAuthTag(tag) } return [out, tag?.toString('hex'), d.update(out, 'hex', 'utf8') + d.final('utf8')]`)
}
same('a wrong tag', `${NODE} const d = c.createDecipheriv('aes-128-gcm', Buffer.alloc(16), Buffer.alloc(12)); d.setAuthTag(Buffer.alloc(16)); d.update('00', 'hex'); d.final()`, { only: 'code' })
same('a key of the wrong length', `${NODE} c.createCipheriv('aes-128-cbc', Buffer.alloc(3), Buffer.alloc(16))`)

t.test('keys of Node are read, and both sides take each other\'s signatures', async (t) => {
  const { createVerify, generateKeyPairSync, sign, verify } = await import('node:crypto')
  const kinds = [
    ['RSA', generateKeyPairSync('rsa', { modulusLength: 2048 }), 'sha256', {}],
    ['RSA-PSS', generateKeyPairSync('rsa', { modulusLength: 2048 }), 'sha512', { padding: 6, saltLength: -1 }],
    ['EC', generateKeyPairSync('ec', { namedCurve: 'P-256' }), 'sha256', { dsaEncoding: 'ieee-p1363' }],
    ['EC, DER', generateKeyPairSync('ec', { namedCurve: 'P-521' }), 'sha512', {}],
    ['Ed25519', generateKeyPairSync('ed25519'), null, {}],
  ] as const
  for (const [name, { privateKey, publicKey }, hash, options] of kinds) {
    const privatePem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
    const publicPem = publicKey.export({ type: 'spki', format: 'pem' }).toString()
    const ask = (body: string): unknown => {
      const out = machine.invoke({ method: 'POST', body: `const c = require('crypto'); const { Buffer } = require('buffer'); const privatePem = ${JSON.stringify(privatePem)}, publicPem = ${JSON.stringify(publicPem)}, options = ${JSON.stringify(options)}; ${body}` })
      t.equal(out.failure, null)
      return JSON.parse(out.text) as unknown
    }
    const signed = ask(`return JSON.stringify(c.sign(${JSON.stringify(hash)}, Buffer.from('data'), { key: privatePem, ...options }).toString('base64'))`) as string
    t.equal(verify(hash, Buffer.from('data'), { key: publicPem, ...options }, Buffer.from(signed, 'base64')), true, `${name}: Node takes ours`)
    const ours = sign(hash, Buffer.from('data'), { key: privatePem, ...options }).toString('base64')
    t.same(ask(`return JSON.stringify([c.verify(${JSON.stringify(hash)}, Buffer.from('data'), { key: publicPem, ...options }, Buffer.from('${ours}', 'base64')), c.verify(${JSON.stringify(hash)}, Buffer.from('datA'), { key: c.createPublicKey(publicPem), ...options }, Buffer.from('${ours}', 'base64'))])`), [true, false], `${name}: ours takes Node's, and no other`)
    t.same(ask(`const k = c.createPrivateKey(privatePem); return JSON.stringify([k.type, k.asymmetricKeyType, k.asymmetricKeyDetails.modulusLength ?? null, k.export({ type: 'pkcs8', format: 'pem' }) === privatePem, c.createPublicKey(k).export({ type: 'spki', format: 'pem' }) === publicPem])`),
      ['private', privateKey.asymmetricKeyType, privateKey.asymmetricKeyDetails?.modulusLength ?? null, true, true], `${name}: a KeyObject`)
  }
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const out = machine.invoke({ method: 'POST', body: `const c = require('crypto'); return c.createSign('RSA-SHA256').update('a').update('b').sign(${JSON.stringify(rsa.privateKey.export({ type: 'pkcs1', format: 'pem' }))}, 'base64')` })
  t.equal(createVerify('sha256').update('ab').verify(rsa.publicKey, out.text, 'base64'), true, 'createSign of a PKCS #1 key')
})

t.test('what is not here says so', async (t) => {
  for (const [call, name] of [['createDiffieHellman(5)', 'crypto.createDiffieHellman'], ["generateKeyPairSync('rsa', {})", 'crypto.generateKeyPairSync'], ["scryptSync('a', 'b', 5)", 'crypto.scryptSync']] as const) {
    const out = machine.invoke({ method: 'POST', body: `const c = require('crypto'); try { c.${call} } catch (error) { return error.code + ' ' + error.message }` })
    t.match(out.text, new RegExp(`^ERR_METHOD_NOT_IMPLEMENTED ${name.replace('.', '\\.')} is not available in functions of Outpost`))
  }
})
