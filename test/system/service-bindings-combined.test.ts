/** Service bindings together with sessions, with secrets and variables, and with what a POP was granted: real processes. */
import t from 'tap'
import { eventually } from '../support/dev-server.ts'
import { call, startSite, type Called, type Site, type Tier } from '../support/site.ts'

const SESSIONS = { Cookie: 'sid', Header: 'x-session' }
const FRONT = `let n = 0
export default { async fetch(request, env) {
  const url = new URL(request.url)
  const service = env[url.searchParams.get('to') ?? 'BACK']
  const headers = url.searchParams.has('id') ? { 'x-session': url.searchParams.get('id') } : {}
  n++
  const response = await (url.pathname === '/forward' ? service.fetch(request) : service.fetch('http://back' + url.pathname, { headers }))
  // As a proxy would, with all that it says.
  if (url.searchParams.has('pass')) return response
  return Response.json({ n, id: request.headers.get('x-outpost-session'), back: await response.json(), backId: response.headers.get('x-outpost-session'), backState: response.headers.get('x-outpost-session-state'), cookie: response.headers.get('set-cookie') })
} }`
const BACK = `let m = 0
export default { fetch(request) {
  const close = new URL(request.url).pathname === '/close' ? { headers: { 'x-outpost-session': 'close' } } : {}
  return Response.json({ m: ++m, id: request.headers.get('x-outpost-session'), cookie: request.headers.get('cookie') }, close)
} }`

interface Nested {
  readonly status: number
  readonly place: string | null
  readonly state: string | null
  readonly n: number
  readonly id: string
  readonly back: { readonly m: number; readonly id: string | null; readonly cookie: string | null }
  readonly backId: string | null
  readonly backState: string | null
  readonly cookie: string | null
}

async function ask(at: Tier, path: string, headers: Record<string, string>): Promise<Nested> {
  const answer = await call(at, 'front', { path, headers })
  const told = JSON.parse(answer.body) as Omit<Nested, 'status' | 'place' | 'state'>
  return { ...told, status: answer.status, place: answer.place, state: answer.headers.get('x-outpost-session-state') }
}

async function siteWithSessions(): Promise<Site> {
  const site = await startSite(t)
  await site.deploy('back', BACK, { Outpost: { Sessions: SESSIONS } })
  await site.deploy('plain', BACK)
  await site.deploy('front', FRONT, { Outpost: { Sessions: SESSIONS, Services: [{ Binding: 'BACK', Service: 'back' }, { Binding: 'PLAIN', Service: 'plain' }] } })
  return site
}

const site = await siteWithSessions()
const codeOf = ({ body }: Called): string | null => (JSON.parse(body) as { error?: { code: string } }).error?.code ?? null

for (const where of ['region', 'pop'] as const) await t.test(`at the ${where}: a session is its function's alone, and goes nowhere with a call by a binding`, async (t) => {
  const tier = site[where]
  if (where === 'pop') for (const name of ['front', 'back', 'plain']) await eventually(() => call(site.pop, name), ({ place }) => place === 'pop')
  const first = await ask(tier, '/', {})
  t.match(first, { status: 200, state: 'new', n: 1, back: { m: 1, cookie: null }, backState: 'new', cookie: /^sid=/ })
  const { id } = first
  const headers = { cookie: `sid=${id}` }
  t.equal(first.back.id, first.backId, 'the other function knows its own session, and the caller is told of it')
  t.not(first.backId, id)

  let n = 1
  const next = async (path: string): Promise<Nested> => {
    const told = await ask(tier, path, headers)
    t.match(told, { status: 200, state: 'resumed', n: ++n, id }, path)
    return told
  }
  t.match(await next('/'), { back: { m: 1, cookie: null }, backState: 'new' }, 'another call of the same session begins another one there')
  t.match(await next('/?to=PLAIN'), { back: { m: 1, id: null, cookie: null }, backId: null, backState: null, cookie: null })
  t.match(await next('/?to=PLAIN'), { back: { m: 1 } }, 'nor is there anything of a machine')

  await t.test('what the caller passes on is an id like any other: it names a session of the other function', async (t) => {
    const forwarded = await next('/forward')
    t.match(forwarded, { back: { m: 1, cookie: `sid=${id}` }, backState: /^new; reason=/ }, 'an id that was made for the caller is nobody\'s there')
    t.not(forwarded.backId, id)
    t.match(await next('/forward'), { back: { m: 1 } })
    const name = `cart-${where}`
    for (let m = 1; m <= 3; m++) t.match(await next(`/?id=${name}`), { back: { m, id: name }, backId: name, backState: m === 1 ? 'new; reason=unknown' : 'resumed' })
    t.match(await ask(tier, '/forward', { 'x-session': name }), { n: 1, state: 'new; reason=unknown', id: name, back: { m: 4, id: name }, backState: 'resumed' }, 'the same name at both: two sessions')
  })

  await t.test('one that the other function closes is not the caller\'s, also if its answer is passed on as it is', async (t) => {
    const name = `closed-${where}`
    await next(`/?id=${name}`)
    const passed = await call(tier, 'front', { path: `/close?id=${name}&pass`, headers })
    n++
    t.match([passed.status, passed.headers.get('x-outpost-session'), passed.headers.get('x-outpost-session-state')], [200, id, 'resumed'])
    t.match(JSON.parse(passed.body), { m: 2 })
    t.match(await next(`/?id=${name}`), { back: { m: 1 }, backState: 'new; reason=closed' })
  })
})

await t.test('variables and secrets are those of the function that runs, never its caller\'s', async (t) => {
  const show = 'export default { async fetch(request, env, ctx) { const own = { NAME: env.NAME, TOKEN: env.TOKEN, ONLY: env.ONLY ?? null, keys: Object.keys(env).sort(), props: ctx.props ?? null, process: globalThis.process === undefined }; return env.INNER === undefined ? Response.json(own) : Response.json({ own, inner: await (await env.INNER.fetch(request)).json() }) } }'
  const settings = (name: string, more: object): object => ({ Environment: { Variables: { NAME: `name of ${name}`, [`VAR_${name}`]: 'x' } }, Outpost: { Secrets: { TOKEN: `secret of ${name}`, [`SECRET_${name}`]: 'only here' }, ...more } })
  await site.deploy('inner', show, settings('inner', {}))
  await site.deploy('outer', show, settings('outer', { Services: [{ Binding: 'INNER', Service: 'inner', Props: { from: 'outer' } }] }))
  const expected = {
    own: { NAME: 'name of outer', TOKEN: 'secret of outer', ONLY: null, keys: ['INNER', 'NAME', 'SECRET_outer', 'TOKEN', 'VAR_outer'] },
    inner: { NAME: 'name of inner', TOKEN: 'secret of inner', ONLY: null, keys: ['NAME', 'SECRET_inner', 'TOKEN', 'VAR_inner'], props: { from: 'outer' } },
  }
  t.match(JSON.parse((await call(site.region, 'outer')).body), expected)
  for (const name of ['inner', 'outer']) await site.untilHot(name)
  for (let times = 0; times < 20; times++) {
    const answers = await Promise.all([call(site.pop, 'outer'), call(site.pop, 'inner')])
    t.same(answers.map(({ place }) => place), ['pop', 'pop'])
    t.match(JSON.parse(answers[0].body), expected)
    t.match(JSON.parse(answers[1].body), { ...expected.inner, props: {} })
  }
})

await t.test('a POP that was granted the caller alone: what it calls runs in the region, wherever the caller runs, and nothing else does', async (t) => {
  const granted = await startSite(t, { identity: 'key' })
  const ok = async (...argv: readonly string[]): Promise<void> => {
    const { code, err } = await granted.pops(...argv)
    t.equal(code, 0, err)
  }
  await ok('grant', 'pop-1', '--account', '000000000000', '--function', 'caller')
  await ok('ungrant', 'pop-1', '--account', '*', '--function', '*')
  await granted.deploy('hidden', 'export default { async fetch(request) { return Response.json({ of: "hidden", body: await request.text() }) } }')
  await granted.deploy('other', 'export default { fetch: () => new Response("other") }')
  await granted.deploy('caller', 'export default { fetch: (request, env) => env.HIDDEN.fetch("http://hidden/", { method: "POST", body: "from the caller" }) }', { Outpost: { Services: [{ Binding: 'HIDDEN', Service: 'hidden' }] } })
  const answer = '{"of":"hidden","body":"from the caller"}'
  t.match(await call(granted.pop, 'caller'), { status: 200, body: answer, place: /^region/ })
  await granted.untilHot('caller')
  for (let times = 0; times < 20; times++) t.match(await call(granted.pop, 'caller'), { status: 200, body: answer, place: 'pop' })
  for (const name of ['hidden', 'other']) {
    const refused = await call(granted.pop, name)
    t.same([refused.status, codeOf(refused)], [403, 'ERR_LINK_IDENTITY'])
  }
  const metrics = await (await fetch(`${granted.pop.adminUrl}/metrics`)).text()
  t.match(metrics, /^pop_hot_set_functions_count 1$/m, 'the other function is not brought here')
  await ok('ungrant', 'pop-1', '--account', '000000000000', '--function', 'caller')
  // For a moment it runs on at the POP, and finds that nothing is run for it any more.
  await eventually(() => call(granted.pop, 'caller'), ({ status }) => status === 403)
})
