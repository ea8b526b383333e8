/** Functions that call one another at a POP and at a region: real processes, real dispatchers. */
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
    await site.deploy('deep', 'export default { fetch: (request, env) => env.LEAF.fetch(request) }', { Outpost: { Services: [{ Binding: 'LEAF', Service: 'deep' }] } })
    const deep = await call(site.pop, 'deep')
    t.match(deep.body, /ERR_FUNCTION_EXCEPTION/)
    for (let step = 0; step < 8; step++) {
      const last = step === 7
      const source = last ? 'export default { fetch: async (request) => new Response(await request.text() + "!") }' : 'export default { fetch: (request, env) => env.NEXT.fetch(request) }'
      await site.deploy(`step${step}`, source, last ? {} : { Outpost: { Services: [{ Binding: 'NEXT', Service: `step${step + 1}` }] } })
    }
    const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => call(site.pop, 'step0', { method: 'POST', body: `${n}` })))
    t.same(answers.map(({ body }) => body), Array.from({ length: 100 }, (_, n) => `${n}!`))
  })
})

await t.test('versions, named entrypoints and their props; only functions of the same account', async (t) => {
  const site = await startSite(t)
  await site.deploy('leaf', `import { WorkerEntrypoint } from 'cloudflare:workers'
    export class Named extends WorkerEntrypoint { fetch() { return Response.json(this.ctx.props) } }
    export default { fetch: () => new Response('one') }`)
  await site.deploy('front', 'export default { async fetch(request, env) { return new Response(await (await env[new URL(request.url).pathname.slice(1)].fetch(request)).text()) } }', {
    Outpost: { Services: [{ Binding: 'NAMED', Service: 'leaf', Entrypoint: 'Named', Props: { tier: [1, 2] } }, { Binding: 'PLAIN', Service: 'leaf' }] },
  })
  t.equal((await call(site.pop, 'front', { path: '/NAMED' })).body, '{"tier":[1,2]}')
  t.equal((await call(site.pop, 'front', { path: '/PLAIN' })).body, 'one')
  await t.rejects(site.deploy('bad', LEAF, { Outpost: { Services: [{ Binding: 'X', Service: '000000000001:leaf' }] } }), /Outpost\.Services\.0\.Service/)
  await t.rejects(site.deploy('bad', LEAF, { Environment: { Variables: { X: 'y' } }, Outpost: { Services: [{ Binding: 'X', Service: 'leaf' }] } }), /X is a variable and a service/)
})
