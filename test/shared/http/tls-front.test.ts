import { copyFileSync, mkdtempSync, rmSync, unlinkSync, writeFileSync } from 'node:fs'
import { connect as connectTcp } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { systemClock } from '../../../shared/clock.ts'
import { toCodedError } from '../../../shared/errors.ts'
import { readCertificate, type CertificateFiles } from '../../../shared/http/certificate-files.ts'
import { FrontDoor } from '../../../shared/http/front-door.ts'
import { silentLog } from '../../../shared/log.ts'
import { makeCertificate } from '../../support/certificates.ts'
import { eventually } from '../../support/dev-server.ts'
import { needTool } from '../../support/tools.ts'
import { FakeDispatcher, get, openDoor, type Harness } from './harness.ts'

const openssl = needTool(t, 'openssl', 'openssl')
if (openssl !== null) run(openssl)

function run(program: string): void {
  const make = (t: Test): string => {
    const folder = mkdtempSync(join(tmpdir(), 'outpost-tls-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    return folder
  }

  interface Scene extends Harness {
    readonly files: CertificateFiles
    /** Puts another pair in place, key last, as renewal does. */
    readonly place: (name: string) => void
    readonly folder: string
  }

  async function scene(t: Test): Promise<Scene> {
    const folder = make(t)
    for (const name of ['first', 'second', 'third']) makeCertificate(program, folder, name)
    const files = { certFile: join(folder, 'tls.crt'), keyFile: join(folder, 'tls.key') }
    const place = (name: string): void => {
      copyFileSync(join(folder, `${name}.crt`), files.certFile)
      copyFileSync(join(folder, `${name}.key`), files.keyFile)
    }
    place('first')
    const harness = await openDoor(t, { tls: files })
    harness.dispatcher.onInvoke = (run) => run.reply(`${run.call.url} ${run.call.clientIp}`)
    return { ...harness, files, place, folder }
  }

  function codeOf(action: () => unknown): string {
    try {
      action()
      return 'none'
    } catch (error) {
      const { code, message } = toCodedError(error)
      return `${code} ${message}`
    }
  }

  t.test('files that cannot be used are refused, with the reason', async (t) => {
    const folder = make(t)
    const [good, other] = [makeCertificate(program, folder, 'good'), makeCertificate(program, folder, 'other')]
    const expired = makeCertificate(program, folder, 'expired', { notBefore: '200101000000Z', notAfter: '210101000000Z' })
    const early = makeCertificate(program, folder, 'early', { notBefore: '480101000000Z', notAfter: '490101000000Z' })
    writeFileSync(join(folder, 'garbled'), '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n')
    writeFileSync(join(folder, 'empty'), '')
    const cases: [CertificateFiles, RegExp][] = [
      [{ ...good, certFile: join(folder, 'none') }, /none cannot be used: ENOENT/],
      [{ ...good, keyFile: join(folder, 'none') }, /none cannot be used: ENOENT/],
      [{ ...good, certFile: join(folder, 'garbled') }, /it is no PEM certificate/],
      [{ ...good, certFile: join(folder, 'empty') }, /it is no PEM certificate/],
      [{ ...good, certFile: good.keyFile }, /it is no PEM certificate/],
      [{ ...good, keyFile: join(folder, 'garbled') }, /with the key in/],
      [{ ...good, keyFile: other.keyFile }, /key values mismatch/],
      [expired, /it was valid until Jan {2}1 00:00:00 2021 GMT/],
      [early, /it is valid from/],
    ]
    for (const [files, why] of cases) {
      t.match(codeOf(() => readCertificate(files, Date.now())), new RegExp(`^ERR_TLS_CERTIFICATE .*${why.source}`))
      t.match(codeOf(() => new FrontDoor({ tier: 'pop', mode: 'production', dispatcher: new FakeDispatcher(), clock: systemClock, log: silentLog, port: 0, tls: files })), /^ERR_TLS_CERTIFICATE/, 'and nothing listens')
    }
    t.equal(codeOf(() => readCertificate(good, Date.now())), 'none')
  })

  t.test('requests come by TLS, and functions hear so', async (t) => {
    const { port } = await scene(t)
    const client = await Client.connect(t, port)
    t.equal(client.socket.getProtocol(), 'TLSv1.3')
    t.equal(await client.ask(), 'https://127.0.0.1/ 127.0.0.1')
    const old = await Client.connect(t, port, 'TLSv1.2')
    t.equal(await old.ask(), 'https://127.0.0.1/ 127.0.0.1')
    await t.rejects(Client.connect(t, port, 'TLSv1.1'), 'nothing older')
  })

  t.test('HTTP on the TLS port, rubbish and a handshake that stops end the connection and harm nobody', async (t) => {
    const { port, dispatcher } = await scene(t)
    const waiting = await Client.connect(t, port)
    for (const bytes of [get('/fn/hello/'), '\x16\x03\x01\xff\xff'.padEnd(3_000, 'x'), '\0'.repeat(100)]) {
      const socket = connectTcp(port, '127.0.0.1')
      t.teardown(() => socket.destroy())
      let answer = ''
      socket.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')))
      const closed = new Promise((resolve) => socket.on('error', () => undefined).once('close', resolve))
      socket.write(bytes, 'latin1')
      await closed
      t.notMatch(answer, /HTTP\/1/)
    }
    t.equal(dispatcher.runs.length, 0)
    t.equal(await waiting.ask(), 'https://127.0.0.1/ 127.0.0.1')
  })

  t.test('a new certificate: new connections get it, old ones go on', async (t) => {
    const { door, port, place, files } = await scene(t)
    const before = await Client.connect(t, port)
    const first = before.certificate
    t.match(first, 'CN=first')
    place('second')
    door.reloadCertificate()
    const after = await Client.connect(t, port)
    t.not(after.certificate, first)
    t.equal(after.certificate, 'CN=second')
    t.equal(await before.ask(), 'https://127.0.0.1/ 127.0.0.1')
    t.match(await door.registry.metrics(), /tls_older_connections_count 1\n/)
    t.match(await door.registry.metrics(), /tls_certificate_loads_total\{result="ok"\} 2\n/)
    t.match(await door.registry.metrics(), new RegExp(`tls_certificate_not_after_seconds ${readCertificate(files, Date.now()).notAfterMs / 1000}\n`))
    before.socket.destroy()
    await eventually(() => door.registry.metrics(), (text) => text.includes('tls_older_connections_count 0\n'))
  })

  t.test('files that change are taken by themselves, a half renewed pair only once it is whole', async (t) => {
    const { port, place, folder, files, logged } = await scene(t)
    copyFileSync(join(folder, 'second.crt'), files.certFile)
    await eventually(() => Promise.resolve(logged.filter(({ level }) => level === 'error').length), (count) => count > 0)
    t.match(logged.find(({ level }) => level === 'error'), { message: 'The certificate was not changed', fields: { code: 'ERR_TLS_CERTIFICATE', reason: /key values mismatch/ } })
    t.match((await Client.connect(t, port)).certificate, /CN=first/)
    copyFileSync(join(folder, 'second.key'), files.keyFile)
    await eventually(async () => (await Client.connect(t, port)).certificate, (subject) => subject.includes('CN=second'))
    unlinkSync(files.certFile)
    await eventually(() => Promise.resolve(logged.filter(({ level }) => level === 'error').length), (count) => count > 1)
    t.match((await Client.connect(t, port)).certificate, /CN=second/)
    place('third')
    await eventually(async () => (await Client.connect(t, port)).certificate, (subject) => subject.includes('CN=third'))
  })

  t.test('an expired certificate in their place is not taken', async (t) => {
    const { door, port, files, folder, logged } = await scene(t)
    const expired = makeCertificate(program, folder, 'expired', { notBefore: '200101000000Z', notAfter: '210101000000Z' })
    copyFileSync(expired.certFile, files.certFile)
    copyFileSync(expired.keyFile, files.keyFile)
    door.reloadCertificate()
    t.match(logged.find(({ level }) => level === 'error')?.fields, { code: 'ERR_TLS_CERTIFICATE', reason: /valid until/ })
    t.match((await Client.connect(t, port)).certificate, /CN=first/)
    t.match(await door.registry.metrics(), /tls_certificate_loads_total\{result="refused"\} 1\n/)
  })

  t.test('fifty reloads under load: no request fails, on connections that stay and on new ones', async (t) => {
    const { door, port, place } = await scene(t)
    let stopped = false
    const counts = { kept: 0, fresh: 0 }
    const failures: string[] = []
    const seen = new Set<string>()
    const keep = async (): Promise<void> => {
      const client = await Client.connect(t, port)
      while (!stopped) {
        await client.ask()
        counts.kept += 1
      }
    }
    const renew = async (): Promise<void> => {
      while (!stopped) {
        const client = await Client.connect(t, port)
        seen.add(client.certificate)
        await client.ask()
        client.socket.end()
        counts.fresh += 1
      }
    }
    const note = (error: unknown): void => void failures.push(String(error))
    const load = [...Array.from({ length: 4 }, () => keep().catch(note)), ...Array.from({ length: 4 }, () => renew().catch(note))]
    for (let round = 0; round < 50; round++) {
      place(['second', 'third', 'first'][round % 3] ?? 'first')
      door.reloadCertificate()
      const atLeast = counts.fresh + 3
      await eventually(() => Promise.resolve(counts.fresh), (count) => count >= atLeast || failures.length > 0)
    }
    stopped = true
    await Promise.all(load)
    t.same(failures, [])
    t.equal(seen.size, 3, 'all certificates were seen')
    t.ok(counts.kept > 150 && counts.fresh > 150, `${counts.kept} requests on old connections, ${counts.fresh} on new ones`)
  })

  t.test('a drain lets what is under way finish and closes the rest, whatever certificate it came with', async (t) => {
    const { door, port, place, dispatcher } = await scene(t)
    const old = await Client.connect(t, port)
    place('second')
    door.reloadCertificate()
    const idle = await Client.connect(t, port)
    dispatcher.onInvoke = () => undefined
    const answered = old.ask()
    const run = await dispatcher.run()
    const drained = door.drain(5_000)
    run.reply('last')
    t.equal(await answered, 'last')
    await drained
    await Promise.all([old, idle].map(({ socket }) => new Promise<void>((resolve) => (socket.destroyed ? resolve() : socket.once('close', () => resolve())))))
    await t.rejects(Client.connect(t, port))
  })
}

/** One keep-alive connection over TLS. */
class Client {
  readonly socket: TLSSocket
  #received = ''
  #wake: () => void = () => undefined

  private constructor(socket: TLSSocket) {
    this.socket = socket
    this.certificate = socket.getPeerX509Certificate()?.subject ?? 'none'
    socket.on('data', (chunk: Buffer) => {
      this.#received += chunk.toString('latin1')
      this.#wake()
    })
    for (const event of ['close', 'error']) socket.on(event, () => this.#wake())
  }

  static connect(t: Test, port: number, version?: 'TLSv1.1' | 'TLSv1.2'): Promise<Client> {
    return new Promise((resolve, reject) => {
      const versions = version === undefined ? {} : { minVersion: version, maxVersion: version }
      const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false, ...versions }, () => resolve(new Client(socket)))
      socket.once('error', reject)
      t.teardown(() => socket.destroy())
    })
  }

  /** Subject of the certificate that the server showed. */
  readonly certificate: string

  /** The body of one answer. */
  async ask(): Promise<string> {
    this.socket.write(get('/fn/hello/'))
    for (;;) {
      const headEnd = this.#received.indexOf('\r\n\r\n')
      const length = Number(/content-length: (\d+)/i.exec(this.#received)?.[1] ?? NaN)
      if (headEnd !== -1 && this.#received.length >= headEnd + 4 + length) {
        const body = this.#received.slice(headEnd + 4, headEnd + 4 + length)
        this.#received = this.#received.slice(headEnd + 4 + length)
        return body
      }
      if (this.socket.destroyed) throw new Error(`closed after ${JSON.stringify(this.#received)}`)
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }
}
