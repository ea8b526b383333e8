/** A function before an origin, deployed from its outpost.jsonc: at the region and at a hot POP, real processes and a real origin. */
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { runHere } from '../support/cli.ts'
import { eventually } from '../support/dev-server.ts'
import { call, freePort, startSite, type Tier } from '../support/site.ts'

t.setTimeout(120_000)

const SOURCE = `export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url)
    if (pathname !== '/not-asked') ctx.passThroughOnException()
    if (pathname === '/own') return new Response('own')
    if (pathname === '/used') await request.text()
    if (pathname === '/late') return new Response(new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode('begun')) }, pull() { throw new Error('broken late') } }))
    if (pathname === '/spin') for (;;) {}
    throw new RangeError('broken at ' + pathname)
  },
}
`
const ENV = { OUTPOST_ACCESS_KEY_ID: 'system-test', OUTPOST_SECRET_ACCESS_KEY: 'a secret of the system test', PATH: process.env['PATH'] ?? '' }

const project = t.testdir({ 'index.js': SOURCE })

await t.test('what a handler fails to answer its origin answers', async (t) => {
  const origin = await startOrigin(t)
  const deadPort = await freePort()
  const egress = ['--egress-allow', `127.0.0.1:${origin.port},127.0.0.1:${deadPort}`]
  const site = await startSite(t, { pop: ['--hot-min-requests', '1', ...egress], region: egress })
  const deploy = async (name: string, url: string | null): Promise<void> => {
    writeFileSync(join(project, 'outpost.jsonc'), JSON.stringify({ name, main: 'index.js', ...(url === null ? {} : { origin: url }) }))
    const { code, err } = await runHere(['deploy', '--endpoint', site.region.url], { cwd: project, env: ENV })
    if (code !== 0) throw new Error(err)
  }
  await deploy('fronted', `http://127.0.0.1:${origin.port}/`)
  await deploy('unreachable', `http://127.0.0.1:${deadPort}`)
  await deploy('forbidden', 'http://10.0.0.1')
  await deploy('spinning', `http://127.0.0.1:${origin.port}`)

  await t.test('at a region', (t) => answers(t, site.region, null))
  await t.test('at a hot POP', async (t) => {
    for (const name of ['fronted', 'unreachable', 'forbidden']) await eventually(() => call(site.pop, name, { path: '/own' }), ({ place }) => place === 'pop')
    await answers(t, site.pop, 'pop')
  })
  const { Events } = await site.api('pop').logs('fronted', null)
  t.ok(Events.some(({ Level, Message }) => Level === 'error' && /^Uncaught RangeError: broken at \/a\/\/b\n\s+at fetch \(index\.js:9:/.test(Message)), 'the exception is in the log, with its place in the source')

  await t.test('a deployment without it takes it away, one with it brings it back', async () => {
    await deploy('fronted', null)
    await eventually(() => call(site.pop, 'fronted', { path: '/status' }), ({ status, place }) => status === 500 && place === 'pop')
    await deploy('fronted', `http://127.0.0.1:${origin.port}`)
    await eventually(() => call(site.pop, 'fronted', { path: '/status' }), ({ status, place }) => status === 418 && place === 'pop')
  })

  await t.test('after restarts of both, and at a POP without its region', async (t) => {
    for (const each of [site.pop, site.region]) await each.kill('SIGKILL')
    await Promise.all([site.region.start(), site.pop.start()])
    await eventually(() => call(site.pop, 'fronted', { path: '/own' }), ({ place }) => place === 'pop')
    await site.region.kill('SIGKILL')
    t.match(await call(site.pop, 'fronted', { path: '/status' }), { status: 418, place: 'pop' })
  })

  async function answers(t: Test, tier: Tier, place: string | null): Promise<void> {
    const at = async (name: string, path: string, init: RequestInit = {}): Promise<Awaited<ReturnType<typeof call>>> => {
      const called = await call(tier, name, { path, redirect: 'manual', ...init })
      // What has been stopped for its CPU time may be sent to the region.
      if (place !== null && name !== 'spinning') t.equal(called.place, place, `${name}${path}`)
      return called
    }
    const code = ({ body }: { readonly body: string }): unknown => (JSON.parse(body) as { error: { code: unknown } }).error.code
    for (const [name, path, init, expected] of [
      ['unreachable', '/', {}, 'ERR_FUNCTION_EXCEPTION'], ['forbidden', '/', {}, 'ERR_FUNCTION_EXCEPTION'], ['fronted', '/not-asked', {}, 'ERR_FUNCTION_EXCEPTION'],
      ['fronted', '/used', { method: 'POST', body: 'read by the handler' }, 'ERR_FUNCTION_EXCEPTION'], ['spinning', '/spin', {}, 'ERR_LIMIT_CPU'],
    ] as const) {
      const asked = origin.asked.length
      const answer = await at(name, path, init)
      t.equal(code(answer), expected, `${name}${path}`)
      t.equal(origin.asked.length, asked)
      t.notMatch(answer.body, /127\.0\.0\.1|10\.0\.0\.1/, 'clients are not told where the origin is')
    }
    await t.rejects(at('fronted', '/late'), 'an answer that has begun is cut off')
    t.equal((await at('fronted', '/own')).body, 'own')

    const status = await at('fronted', '/status')
    t.same([status.status, status.body, status.headers.get('x-origin')], [418, 'short and stout', 'yes'])
    const redirected = await at('fronted', '/redirect')
    t.same([redirected.status, redirected.headers.get('location')], [302, '/elsewhere'])
    t.same((await fetch(`${tier.url}/fn/fronted/cookies`)).headers.getSetCookie(), ['a=1', 'b=2'])

    const bytes = createHash('shake256', { outputLength: 300_000 }).update('body').digest()
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const pieces = (): ReadableStream<Uint8Array> => ReadableStream.from(Array.from({ length: 30 }, (_, index) => new Uint8Array(bytes.subarray(index * 10_000, (index + 1) * 10_000))))
    for (const init of [{ method: 'PUT', body: bytes }, { method: 'PATCH', body: pieces(), duplex: 'half' }, { method: 'POST', body: '' }, { method: 'DELETE' }, {}] as const) {
      const method = 'method' in init ? init.method : 'GET'
      const { body } = await at('fronted', '/a//b?q=1&r=%20&q=2', { ...init, headers: { 'x-a': 'one', cookie: 'c=d', 'x-outpost-secret': 'no' } })
      const seen = JSON.parse(body) as Asked
      t.match(seen, { method, url: '/a//b?q=1&r=%20&q=2', headers: { host: `127.0.0.1:${origin.port}`, 'x-a': 'one', cookie: 'c=d' } }, method)
      t.same(Object.keys(seen.headers).filter((name) => name.startsWith('x-outpost-')), [])
      t.equal(seen.sha256, 'body' in init && init.body !== '' ? sha256 : createHash('sha256').digest('hex'), method)
    }

    const streamed = await fetch(`${tier.url}/fn/fronted/streamed`)
    let received = ''
    for await (const part of (streamed.body ?? new ReadableStream<Uint8Array>()).pipeThrough(new TextDecoderStream())) {
      received += part
      // The origin holds the rest until the beginning is here.
      if (received === 'first') origin.release()
    }
    t.equal(received, 'first, last')
  }
})

interface Asked {
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly sha256: string
}

interface Origin {
  readonly port: number
  readonly asked: readonly Asked[]
  /** Lets what streams go on. */
  release(): void
}

async function startOrigin(t: Test): Promise<Origin> {
  const asked: Asked[] = []
  const held: ServerResponse[] = []
  const server = createServer((request, response) => {
    const hash = createHash('sha256')
    request.on('data', (chunk: Buffer) => hash.update(chunk))
    request.on('end', () => {
      const { method = '', url = '', headers } = request
      const seen = { method, url, headers, sha256: hash.digest('hex') }
      asked.push(seen)
      if (url === '/status') response.writeHead(418, { 'x-origin': 'yes' }).end('short and stout')
      else if (url === '/redirect') response.writeHead(302, { location: '/elsewhere' }).end()
      else if (url === '/cookies') response.writeHead(200, { 'set-cookie': ['a=1', 'b=2'] }).end()
      else if (url === '/streamed') {
        response.write('first')
        held.push(response)
      } else response.end(JSON.stringify(seen))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, asked, release: () => held.splice(0).forEach((response) => response.end(', last')) }
}
