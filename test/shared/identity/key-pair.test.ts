import { execFileSync } from 'node:child_process'
import { createHash, X509Certificate } from 'node:crypto'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { toCodedError } from '../../../shared/errors.ts'
import { integer, objectId, time } from '../../../shared/identity/der.ts'
import { fingerprintOf, parseFingerprint } from '../../../shared/identity/fingerprint.ts'
import { loadLinkKeyPair, makeLinkKeyPair } from '../../../shared/identity/key-pair.ts'
import { needTool } from '../../support/tools.ts'

function codeOf(action: () => unknown): string {
  try {
    action()
    return 'none'
  } catch (error) {
    return toCodedError(error).code
  }
}

t.test('a file that holds no key of a link is refused, and left as it is', async (t) => {
  const folder = t.testdir({
    garbled: 'x', empty: '', array: '[]', 'no-key': '{"format":1,"privateKey":"-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----\\n"}',
    'other-format': '{"format":2,"privateKey":""}', 'x25519': JSON.stringify({ format: 1, privateKey: '-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIHCJOqoT7Q6D8DRLxTrVbO4qwGqdLkbDsGR4QT6GG1Ja\n-----END PRIVATE KEY-----\n' }),
  })
  for (const name of ['garbled', 'empty', 'array', 'no-key', 'other-format', 'x25519']) {
    const before = readFileSync(join(folder, name), 'utf8')
    t.equal(codeOf(() => loadLinkKeyPair(join(folder, name))), 'ERR_STORE_KEY', name)
    t.equal(readFileSync(join(folder, name), 'utf8'), before, name)
  }
  t.equal(codeOf(() => loadLinkKeyPair(join(folder, 'nowhere', 'key.json'))), 'ERR_STORE_KEY', 'a folder that is not there')
})

t.test('a pair is made once, for its owner only, and is the same at each start', async (t) => {
  const path = join(t.testdir({}), 'link-key.json')
  const first = loadLinkKeyPair(path)
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.same(loadLinkKeyPair(path), first, 'the certificate too, to the byte')
  t.not(makeLinkKeyPair().fingerprint, first.fingerprint)
  writeFileSync(path, readFileSync(path))
  t.equal(loadLinkKeyPair(path).fingerprint, first.fingerprint)
})

t.test('the certificate is what Node reads from it', async (t) => {
  const { certificate, privateKey, fingerprint } = makeLinkKeyPair()
  const read = new X509Certificate(certificate)
  t.equal(fingerprintOf(read), fingerprint)
  t.ok(read.verify(read.publicKey), 'signed by itself')
  t.notOk(read.ca)
  t.equal(read.subject, `CN=outpost ${fingerprint.slice(0, 16)}`)
  t.equal(read.validTo, 'Dec 31 23:59:59 9999 GMT')
  t.match(privateKey, /^-----BEGIN PRIVATE KEY-----/)
})

t.test('the certificate is what OpenSSL reads from it', async (t) => {
  const openssl = needTool(t, 'openssl', 'openssl')
  if (openssl === null) return
  const run = (argv: readonly string[], input: string | Buffer): Buffer => execFileSync(openssl, argv, { input, stdio: ['pipe', 'pipe', 'pipe'] })
  for (let round = 0; round < 20; round++) {
    const { certificate, privateKey, fingerprint } = makeLinkKeyPair()
    const text = run(['x509', '-noout', '-text'], certificate).toString()
    t.match(text, /Version: 3 \(0x2\)/)
    t.match(text, /Signature Algorithm: ED25519/)
    t.match(text, /X509v3 Basic Constraints: critical\s+CA:FALSE/)
    t.match(text, new RegExp(`Subject: CN ?= ?outpost ${fingerprint.slice(0, 16)}`))
    // Strict about DER, where `x509 -text` is not.
    const path = join(t.testdir({ 'c.pem': certificate }), 'c.pem')
    t.equal(run(['verify', '-x509_strict', '-check_ss_sig', '-partial_chain', '-trusted', path, path], '').toString(), `${path}: OK\n`)
    const publicKey = run(['pkey', '-pubin', '-outform', 'der'], run(['x509', '-noout', '-pubkey'], certificate))
    t.equal(createHash('sha256').update(publicKey).digest('hex'), fingerprint)
    t.same(run(['pkey', '-pubout', '-outform', 'der'], privateKey), publicKey, 'the private key belongs to it')
  }
})

t.test('numbers and dates as DER wants them', async (t) => {
  t.equal(integer(Buffer.from([0x00])).toString('hex'), '020100')
  t.equal(integer(Buffer.from([0x7f])).toString('hex'), '02017f')
  t.equal(integer(Buffer.from([0x80])).toString('hex'), '02020080', 'not negative')
  t.equal(integer(Buffer.from([0, 0, 0x12])).toString('hex'), '020112', 'no zeros in front')
  t.equal(objectId('1.2.840.113549.1.1.11').toString('hex'), '06092a864886f70d01010b')
  t.equal(time('20491231235959Z')[0], 0x17)
  t.equal(time('20500101000000Z')[0], 0x18)
})

t.test('fingerprints are read as people write them, and nothing else is one', async (t) => {
  const { fingerprint } = makeLinkKeyPair()
  const colons = fingerprint.toUpperCase().match(/../g)?.join(':') ?? ''
  for (const text of [fingerprint, fingerprint.toUpperCase(), colons, `SHA256:${colons}`, `sha256=${fingerprint}`, ` ${fingerprint}\n`]) t.equal(parseFingerprint(text), fingerprint, text)
  for (const text of ['', 'x', fingerprint.slice(1), `${fingerprint}0`, fingerprint.replace(/^../, 'zz'), colons.replace(':', ''), `md5:${fingerprint}`]) t.equal(parseFingerprint(text), null, text)
})
