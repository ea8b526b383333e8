/** The whole, from outside: real processes, real sockets, a real store. */
import { createServer, type Server } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { InvokeCommand, InvokeWithResponseStreamCommand, LambdaClient } from '@aws-sdk/client-lambda'
import t from 'tap'
import { eventually } from '../support/dev-server.ts'
import { call, startSite } from '../support/site.ts'

const COUNTER = 'let n = 0; export default { async fetch(request) { return Response.json({ n: ++n, method: request.method, url: request.url, body: await request.text() }) } }'

await t.test('a function is forwarded first, then hot at the POP, and answers the same at both; every request is the first', async (t) => {
  const site = await startSite(t)
  await site.deploy('counter', COUNTER)
  const cold = await call(site.pop, 'counter', { method: 'POST', body: 'x', path: '/a?b=c' })
  t.equal(cold.place, 'region; reason=not-hot')
  await site.untilHot('counter')
  const hot = await call(site.pop, 'counter', { method: 'POST', body: 'x', path: '/a?b=c' })
  t.equal(hot.place, 'pop')
  t.equal(hot.body, cold.body)
  t.match(JSON.parse(hot.body), { n: 1, method: 'POST', body: 'x' })
  t.match((JSON.parse(hot.body) as { url: string }).url, /\/a\?b=c$/)
  for (let times = 0; times < 20; times++) t.match(JSON.parse((await call(site.pop, 'counter')).body), { n: 1 })

  await t.test('a new version is served within 2 s, and the old one never again', async (t) => {
    await site.deploy('counter', 'export default { fetch: () => new Response("v2") }')
    const publishedAtMs = performance.now()
    await eventually(() => call(site.pop, 'counter'), ({ body }) => body === 'v2')
    t.ok(performance.now() - publishedAtMs < 2_000)
    for (let times = 0; times < 50; times++) t.equal((await call(site.pop, 'counter')).body, 'v2')
  })

  await t.test('without a region the POP serves what is hot and says so, and what is not is a coded 502', async (t) => {
    await site.deploy('cold', COUNTER)
    await site.deploy('doomed', 'export default { fetch: () => new Response("doomed") }')
    await site.untilHot('counter')
    await site.untilHot('doomed')
    await site.region.kill('SIGKILL')
    await eventually(() => call(site.pop, 'counter'), ({ headers }) => headers.get('x-outpost-stale') === '1')
    const hot = await call(site.pop, 'counter')
    t.equal(hot.body, 'v2')
    const cold = await call(site.pop, 'cold')
    t.equal(cold.status, 502)
    t.match(JSON.parse(cold.body), { error: { code: 'ERR_REGION_UNREACHABLE', requestId: String } })

    await site.region.start()
    await site.api('region').deleteFunction('doomed')
    await eventually(() => call(site.pop, 'doomed'), ({ status }) => status === 404)
    const back = await eventually(() => call(site.pop, 'cold'), ({ status }) => status === 200)
    t.match(JSON.parse(back.body), { n: 1 })
    t.equal((await call(site.pop, 'counter')).headers.get('x-outpost-stale'), null)
  })

  await t.test('the POP restarts with its images on disk', async (t) => {
    await site.untilHot('counter')
    await site.pop.kill('SIGKILL')
    await site.pop.start()
    await site.untilHot('counter')
    t.equal((await call(site.pop, 'counter')).body, 'v2')
  })
})

await t.test('SIGTERM under load loses nothing that is in flight', async (t) => {
  const site = await startSite(t)
  await site.deploy('slow', 'export default { async fetch() { await new Promise((r) => setTimeout(r, 300)); return new Response("done") } }')
  await site.untilHot('slow')
  const inFlight = Array.from({ length: 50 }, () => call(site.pop, 'slow'))
  await sleep(100)
  const gone = site.pop.kill('SIGTERM')
  for (const answer of await Promise.all(inFlight)) t.equal(answer.body, 'done')
  await gone
  t.equal((await site.pop.process().ended).code, 0)
})

await t.test('bodies stream through the POP both ways while they are made', async (t) => {
  const site = await startSite(t, { pop: ['--hot-min-requests', '1000'] })
  await site.deploy('echo', 'export default { fetch: (request) => new Response(request.body, { headers: { "content-type": "text/plain" } }) }', { Outpost: { Limits: { CpuMs: 2_000 } } })
  const chunks = Array.from({ length: 40 }, (_, index) => String(index % 10).repeat(50_000))
  let sent = 0
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const chunk = chunks[sent++]
      if (chunk === undefined) controller.close()
      else controller.enqueue(Buffer.from(chunk))
      await sleep(1)
    },
  })
  const response = await fetch(`${site.pop.url}/fn/echo/`, { method: 'POST', body, duplex: 'half' })
  t.equal(response.headers.get('x-outpost-place'), 'region; reason=not-hot')
  const answer = await response.text()
  t.equal(answer.length, chunks.join('').length)
  t.ok(answer === chunks.join(''))
})

await t.test('a client that goes away cancels the run at the region', async (t) => {
  const site = await startSite(t, { pop: ['--hot-min-requests', '1000'] })
  await site.deploy('ticker', `export default { async fetch(request) {
    console.log('begun')
    for (let tick = 0; tick < 100; tick++) { await new Promise((resolve) => setTimeout(resolve, 50)); console.log('tick ' + tick) }
    return new Response('never')
  } }`, { Timeout: 30 })
  const controller = new AbortController()
  const pending = fetch(`${site.pop.url}/fn/ticker/`, { signal: controller.signal }).catch((error: unknown) => String(error))
  const logs = async (): Promise<readonly string[]> => (await site.api('region').logs('ticker', null)).Events.map(({ Message }) => Message)
  await eventually(logs, (lines) => lines.includes('begun'))
  controller.abort()
  await pending
  await sleep(500)
  const before = (await logs()).length
  await sleep(500)
  t.equal((await logs()).length, before, 'it does not tick on')
})

await t.test('a function reaches the outside, but no private address unless the operator says so', async (t) => {
  const upstream = createServer((request, response) => response.end(`upstream ${request.url ?? ''}`))
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve))
  t.teardown(() => upstream.close())
  const port = portOf(upstream)
  const site = await startSite(t, { pop: ['--egress-allow', `127.0.0.1:${port}`], region: ['--egress-allow', `127.0.0.1:${port}`] })
  await site.deploy('proxy', 'export default { async fetch(request) { try { return await fetch(new URL(request.url).searchParams.get("to")) } catch (error) { return new Response(error.message, { status: 599 }) } } }')
  const to = (target: string): Promise<{ readonly status: number; readonly body: string }> => call(site.pop, 'proxy', { path: `/?to=${encodeURIComponent(target)}` })
  t.match(await to(`http://127.0.0.1:${port}/hello`), { status: 200, body: 'upstream /hello' })
  await site.untilHot('proxy')
  t.match(await to(`http://127.0.0.1:${port}/hello`), { status: 200, body: 'upstream /hello' })
  for (const refused of [`${site.region.url}/`, 'http://10.0.0.1/', 'http://[::ffff:127.0.0.1]/', 'http://169.254.169.254/latest/']) t.match(await to(refused), { status: 599 }, refused)
})

await t.test('an AWS SDK talks to the POP: signed calls are relayed as they are and the region verifies', async (t) => {
  const site = await startSite(t)
  await site.deploy('adder', 'export const handler = async (event) => ({ sum: event.a + event.b })')
  const client = (secretAccessKey: string): LambdaClient => new LambdaClient({ endpoint: site.pop.url, region: 'us-east-1', maxAttempts: 1, credentials: { accessKeyId: 'system-test', secretAccessKey } })
  const { Payload, StatusCode } = await client('a secret of the system test').send(new InvokeCommand({ FunctionName: 'adder', Payload: Buffer.from('{"a":1,"b":2}') }))
  t.equal(StatusCode, 200)
  t.equal(Buffer.from(Payload ?? '').toString(), '{"sum":3}')
  await site.deploy('talker', 'export const handler = () => { console.warn("careful") }')
  const { LogResult } = await client('a secret of the system test').send(new InvokeCommand({ FunctionName: 'talker', LogType: 'Tail' }))
  t.match(Buffer.from(LogResult ?? '', 'base64').toString(), /\tWARN\tcareful\n/)
  const { EventStream } = await client('a secret of the system test').send(new InvokeWithResponseStreamCommand({ FunctionName: 'adder', Payload: Buffer.from('{"a":1,"b":2}'), LogType: 'Tail' }))
  const events: unknown[] = []
  for await (const { PayloadChunk, InvokeComplete } of EventStream ?? []) events.push(PayloadChunk === undefined ? Object.keys(InvokeComplete ?? {}) : Buffer.from(PayloadChunk.Payload ?? '').toString())
  t.same(events, ['{"sum":3}', ['LogResult']])
  await t.rejects(client('another secret').send(new InvokeCommand({ FunctionName: 'adder' })), { name: 'InvalidSignatureException' })
})

await t.test('nonsense from clients gets coded answers and disturbs nobody', async (t) => {
  const site = await startSite(t)
  await site.deploy('counter', COUNTER)
  t.match(JSON.parse((await call(site.pop, 'nobody')).body), { error: { code: 'ERR_FUNCTION_NOT_FOUND' } })
  await site.deploy('event', 'export const handler = () => 1')
  t.equal((await call(site.pop, 'event', { method: 'POST', body: new Uint8Array(7_000_000) })).status, 413)
  for (const head of ['GET /fn/counter/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n', 'POST /fn/counter/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc']) {
    t.match(await raw(site.pop.url, head), /^HTTP\/1\.1 400/)
  }
  for (const [name, source, code] of [['crlf', 'export default { fetch: () => { const r = new Response("x"); r.headers.set("x-a", "b"); return r } }', 200]] as const) {
    await site.deploy(name, source)
    t.equal((await call(site.pop, name)).status, code)
  }
  t.match(JSON.parse((await call(site.pop, 'counter')).body), { n: 1 })
})

function raw(url: string, text: string): Promise<string> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(Number(port), hostname, () => socket.write(text))
    socket.on('data', (chunk: Buffer) => (answer += chunk.toString()))
    socket.on('close', () => resolve(answer))
    socket.on('error', reject)
  })
}

function portOf(server: Server): number {
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('not listening')
  return address.port
}
