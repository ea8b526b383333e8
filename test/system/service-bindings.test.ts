/** Functions that call one another at a POP and at a region: real processes, real dispatchers. */
import { zipSync } from 'fflate'
import t from 'tap'
import { eventually } from '../support/dev-server.ts'
import { call, startSite } from '../support/site.ts'

const LEAF = `let n = 0
export default {
  async fetch(request) { console.log('leaf'); return Response.json({ n: ++n, url: request.url, body: await request.text() }) },
  label: 'leaf',
}
export const Named = { fetch: () => new Response('named') }`
const FRONT = 'export default { async fetch(request, env) { const path = new URL(request.url).pathname; const response = await env.LEAF.fetch("http://leaf" + path, { method: "POST", body: "of front" }); return Response.json({ status: response.status, leaf: await response.json() }) } }'
const BOUND = { Outpost: { Services: [{ Binding: 'LEAF', Service: 'leaf' }] } }

await t.test('a call by a binding runs wherever its function is hot: in the same POP also without a region', async (t) => {
  const site = await startSite(t)
  await site.deploy('front', FRONT, BOUND)
  t.match(await call(site.pop, 'front', { path: '/x' }), { status: 500 }, 'not there yet')
  await site.deploy('leaf', LEAF)
  const answer = { status: 200, leaf: { n: 1, url: 'http://leaf/x', body: 'of front' } }
  const cold = await call(site.pop, 'front', { path: '/x' })
  t.same(JSON.parse(cold.body), answer)
  await site.untilHot('front')
  t.same(JSON.parse((await call(site.pop, 'front', { path: '/x' })).body), answer, 'from the POP to wherever leaf is')
  await site.untilHot('leaf')
  await site.untilHot('front')
  await site.region.kill('SIGKILL')
  for (let times = 0; times < 20; times++) t.same(JSON.parse((await call(site.pop, 'front', { path: '/x' })).body), answer)
  const metrics = await (await fetch(`${site.pop.adminUrl}/metrics`)).text()
  t.match(metrics, /^pop_service_calls_total\{result="answered"\} [1-9]/m)
  await site.region.start()

  await t.test('an exception of the other function is the caller\'s, over the link too', async () => {
    await site.deploy('leaf', 'export default { fetch() { throw new RangeError("out of leaves") } }')
    await site.deploy('catcher', 'export default { async fetch(request, env) { try { return await env.LEAF.fetch(request) } catch (error) { return new Response(`${error.name}: ${error.message} ${error.remote}`) } } }', BOUND)
    await eventually(() => call(site.region, 'catcher'), ({ body }) => body === 'RangeError: out of leaves true')
    await eventually(() => call(site.pop, 'catcher'), ({ body, place }) => body === 'RangeError: out of leaves true' && place === 'pop')
  })

  await t.test('a hundred callers, chains and a function that calls itself, over POP and region', async (t) => {
    // Each says how its own call failed.
    const LOOP = 'export default { async fetch(request, env) { try { return await env.LEAF.fetch(request) } catch (error) { return new Response(`${error.code} ${error.message}`) } } }'
    const DEEP = /^ERR_SERVICE_DEPTH Service binding LEAF: functions call one another more than 16 deep/
    await site.deploy('deep', LOOP, { Outpost: { Services: [{ Binding: 'LEAF', Service: 'deep' }] } })
    t.match((await call(site.pop, 'deep')).body, DEEP)
    // One at the POP, the other at the region always: the depth goes with the call.
    await site.deploy('pong', LOOP, { Outpost: { Limits: { CpuMs: 5_000 }, Services: [{ Binding: 'LEAF', Service: 'ping' }] } })
    await site.deploy('ping', LOOP, { Outpost: { Services: [{ Binding: 'LEAF', Service: 'pong' }] } })
    await site.untilHot('ping')
    t.match(await call(site.pop, 'ping'), { place: 'pop', body: DEEP })
    await site.api('region').deleteFunction('pong')
    await eventually(() => call(site.pop, 'ping'), ({ body }) => /^ERR_FUNCTION_NOT_FOUND /.test(body))
    for (let step = 0; step < 8; step++) {
      const last = step === 7
      const source = last ? 'export default { fetch: async (request) => new Response(await request.text() + "!") }' : 'export default { fetch: (request, env) => env.NEXT.fetch(request) }'
      await site.deploy(`step${step}`, source, last ? { Timeout: 60 } : { Timeout: 60, Outpost: { Services: [{ Binding: 'NEXT', Service: `step${step + 1}` }] } })
    }
    const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => call(site.pop, 'step0', { method: 'POST', body: `${n}` })))
    t.same(answers.map(({ body }) => body), Array.from({ length: 100 }, (_, n) => `${n}!`))
  })
})

await t.test('bodies stream over the link both ways, and a caller at a POP that ends cancels the run at the region', async (t) => {
  const site = await startSite(t)
  // Declared to be heavy: it always runs at the region.
  const far = { Timeout: 30, Outpost: { Limits: { CpuMs: 5_000 } } }
  await site.deploy('sender', `export default { async fetch(request, env) {
    if (new URL(request.url).pathname === '/') return new Response('ready')
    let left = 12
    const body = new ReadableStream({ pull(c) { if (left-- > 0) c.enqueue(new Uint8Array(50_000).fill(left)); else c.close() } })
    let bytes = 0, sum = 0
    for await (const chunk of (await env.ECHO.fetch('http://x/', { method: 'POST', body })).body) { bytes += chunk.length; sum += chunk[0] >= 0 ? 0 : 1 }
    return Response.json({ bytes, sum })
  } }`, { Timeout: 30, Outpost: { Services: [{ Binding: 'ECHO', Service: 'echo' }] } })
  await site.deploy('echo', 'export default { fetch: (request) => new Response(request.body) }', far)
  const sent = async (): Promise<void> => void t.equal((await call(site.pop, 'sender', { path: '/go' })).body, JSON.stringify({ bytes: 600_000, sum: 0 }))
  await site.untilHot('sender')
  await sent()

  await site.deploy('ticker', `export default { async fetch() {
    console.log('begun')
    for (let tick = 0; tick < 400; tick++) { await new Promise((resolve) => setTimeout(resolve, 25)); console.log('tick ' + tick) }
    return new Response('never')
  } }`, far)
  await site.deploy('impatient', 'export default { async fetch(request, env) { try { return await env.SLOW.fetch(request, { signal: AbortSignal.timeout(1_000) }) } catch (error) { return new Response(error.name) } } }', { Timeout: 30, Outpost: { Services: [{ Binding: 'SLOW', Service: 'ticker' }] } })
  t.equal((await call(site.pop, 'impatient')).body, 'TimeoutError')
  const logs = async (): Promise<number> => (await site.api('region').logs('ticker', null)).Events.length
  let before = -1
  // It ticks forty times a second while it runs.
  await eventually(async () => {
    const last = before
    before = await logs()
    await new Promise((resolve) => setTimeout(resolve, 300))
    return before > 0 && last === before
  }, (still) => still, 8_000)
})

await t.test('a service that is not there is a warning of the publish, and a name that is taken or no function\'s is refused', async (t) => {
  const site = await startSite(t)
  const api = site.api('region')
  const zip = zipSync({ 'index.mjs': Buffer.from(FRONT) })
  const made = await api.createFunction('front', zip, BOUND, false)
  t.match(made.Outpost?.['Report'], { warnings: [], missingServices: [{ binding: 'LEAF', service: 'leaf' }] })
  t.match(made.Outpost?.['Services'], [{ Binding: 'LEAF', Service: 'leaf' }])
  await site.deploy('leaf', LEAF)
  t.same(((await api.updateCode('front', zip, false)).Outpost?.['Report'] as { warnings: unknown }).warnings, [])
  for (const [outpost, why] of [
    [{ Services: [{ Binding: 'X', Service: '000000000001:leaf' }] }, /Outpost\.Services\.0\.Service/],
    [{ Services: [{ Binding: 'X', Service: 'leaf' }], JsonVariables: { X: 1 } }, /X is a JSON variable and a service/],
    [{ Services: [{ Binding: 'X', Service: 'leaf' }, { Binding: 'X', Service: 'front' }] }, /X is a service and a service/],
    [{ Secrets: { X: 'hidden value' }, JsonVariables: { X: 1 } }, /X is a JSON variable and a secret/],
    [{ JsonVariables: { X: 'x'.repeat(20_000) } }, /JsonVariables: as JSON they may have/],
    [{ Services: Array.from({ length: 65 }, (_, n) => ({ Binding: `B${n}`, Service: 'leaf' })) }, /Outpost\.Services/],
  ] as const) await t.rejects(site.deploy('bad', LEAF, { Outpost: outpost }), why)
})

await t.test('named entrypoints and their props', async (t) => {
  const site = await startSite(t)
  await site.deploy('leaf', `import { WorkerEntrypoint } from 'cloudflare:workers'
    export class Named extends WorkerEntrypoint { fetch() { return Response.json(this.ctx.props) } }
    export default { fetch: () => new Response('one') }`)
  await site.deploy('front', 'export default { async fetch(request, env) { return new Response(await (await env[new URL(request.url).pathname.slice(1)].fetch(request)).text()) } }', {
    Outpost: { Services: [{ Binding: 'NAMED', Service: 'leaf', Entrypoint: 'Named', Props: { tier: [1, 2] } }, { Binding: 'PLAIN', Service: 'leaf' }] },
  })
  t.equal((await call(site.pop, 'front', { path: '/NAMED' })).body, '{"tier":[1,2]}')
  t.equal((await call(site.pop, 'front', { path: '/PLAIN' })).body, 'one')
})
