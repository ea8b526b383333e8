/** TLS at the front of a POP and of a region as processes have it: files, SIGHUP, metrics. */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import t from 'tap'
import { Agent, fetch } from 'undici'
import { makeCertificate } from '../support/certificates.ts'
import { runProcess } from '../support/cli.ts'
import { eventually } from '../support/dev-server.ts'
import { startSite } from '../support/site.ts'
import { needTool } from '../support/tools.ts'

const openssl = needTool(t, 'openssl', 'openssl')
if (openssl !== null) run(openssl)

function subjectAt(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerX509Certificate()?.subject ?? 'none')
      socket.destroy()
    })
    socket.once('error', reject)
  })
}

function run(program: string): void {
  t.test('a POP and a region with certificates, renewed at SIGHUP while a client stays connected', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'outpost-front-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    for (const name of ['first', 'second']) makeCertificate(program, folder, name)
    const [certFile, keyFile] = [join(folder, 'tls.crt'), join(folder, 'tls.key')]
    const place = (name: string): void => {
      copyFileSync(join(folder, `${name}.key`), keyFile)
      copyFileSync(join(folder, `${name}.crt`), certFile)
    }
    place('first')
    const files = ['--tls-cert', certFile, '--tls-key', keyFile]
    const site = await startSite(t, { identity: 'key', region: files, pop: files })
    const agent = new Agent({ connect: { rejectUnauthorized: false }, connections: 1 })
    t.teardown(() => agent.destroy())
    for (const tier of [site.pop, site.region]) {
      place('first')
      const port = Number(new URL(tier.url).port)
      const url = `https://127.0.0.1:${port}`
      const ask = async (): Promise<number> => {
        const response = await fetch(`${url}/fn/none/`, { dispatcher: agent })
        await response.text()
        return response.status
      }
      t.equal(await ask(), 404, 'an answer of Outpost, over TLS')
      t.equal(await subjectAt(port), 'CN=first')
      place('second')
      tier.process().child.kill('SIGHUP')
      await eventually(() => subjectAt(port), (subject) => subject === 'CN=second')
      t.equal(await ask(), 404, 'the connection that was there goes on')
      writeFileSync(certFile, 'garbled')
      tier.process().child.kill('SIGHUP')
      await tier.process().untilErr('"code":"ERR_TLS_CERTIFICATE"')
      t.equal(await subjectAt(port), 'CN=second')
      t.equal(await ask(), 404)
    }
  })

  t.test('a certificate that cannot be used is told before anything is served', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'outpost-front-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const expired = makeCertificate(program, folder, 'expired', { notBefore: '200101000000Z', notAfter: '210101000000Z' })
    const common = ['pop', '--port', '0', '--data', join(folder, 'pop'), '--region', 'http://127.0.0.1:1']
    const old = await runProcess([...common, '--tls-cert', expired.certFile, '--tls-key', expired.keyFile])
    t.equal(old.code, 1)
    t.match(old.err, /ERR_TLS_CERTIFICATE: .*it was valid until/)
    const half = await runProcess([...common, '--tls-cert', expired.certFile])
    t.match(half.err, /ERR_CONFIG: tlsCertFile \(--tls-cert\) and tlsKeyFile \(--tls-key\) go together/)
    const proxy = await runProcess([...common, '--trusted-proxy', '10.0.0.0/99'])
    t.match(proxy.err, /ERR_CONFIG: trustedProxies .*a network is like/)
  })
}
