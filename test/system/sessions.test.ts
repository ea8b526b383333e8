/** Sessions from outside: real POP and region, real clients, machines that keep their memory. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { eventually } from '../support/dev-server.ts'
import { call, type Called, startSite, type Site, type Tier } from '../support/site.ts'

const SESSIONS = { Cookie: 'sid', Header: 'x-session', IdleSeconds: 120, MaxAgeSeconds: 300 }
const COUNTER = `let n = 0; const seen = []
export default { async fetch(request) {
  const { pathname, searchParams } = new URL(request.url)
  if (pathname === '/plain') return Response.json({ n: ++n })
  n++
  if (searchParams.has('wait')) await new Promise((resolve) => setTimeout(resolve, Number(searchParams.get('wait'))))
  seen.push(searchParams.get('mark'))
  if (pathname === '/throw') throw new Error('on purpose')
  if (pathname === '/spin') for (;;);
  if (pathname === '/grow') globalThis.kept = Array.from({ length: 6000 }, () => crypto.getRandomValues(new Uint8Array(1024)))
  return Response.json({ n, seen, id: request.headers.get('x-outpost-session') }, pathname === '/close' ? { headers: { 'x-outpost-session': 'close' } } : {})
} }`

interface Seen extends Called {
  readonly n: number
  readonly id: string | null
  readonly state: string | null
  readonly cookie: string | null
}

async function ask(tier: Tier, name: string, path: string, headers: Record<string, string> = {}, init: RequestInit = {}): Promise<Seen> {
  const answer = await call(tier, name, { path, headers, ...init })
  const parsed = answer.status === 200 ? (JSON.parse(answer.body) as { n: number }) : { n: -1 }
  return { ...answer, n: parsed.n, id: answer.headers.get('x-outpost-session'), state: answer.headers.get('x-outpost-session-state'), cookie: answer.headers.get('set-cookie') }
}

async function siteWithCounter(t: Test, options: Parameters<typeof startSite>[1] = {}): Promise<Site> {
  const site = await startSite(t, options)
  await site.deploy('counter', COUNTER, { Outpost: { Sessions: SESSIONS, Limits: { CpuMs: 500 } } })
  return site
}

/** Until the POP itself begins the sessions of new clients. */
async function untilHere(site: Site): Promise<void> {
  await eventually(() => ask(site.pop, 'counter', '/'), ({ place, id }) => place === 'pop' && id?.startsWith('p') === true)
}

for (const where of ['region', 'pop'] as const) await t.test(`at the ${where}: a session counts up, others and plain requests do not see it`, async (t) => {
  const site = await siteWithCounter(t)
  if (where === 'pop') await untilHere(site)
  const tier = site[where]
  const first = await ask(tier, 'counter', '/')
  t.equal(first.state, 'new')
  t.match(first.id, where === 'pop' ? /^psite-1\.[\w-]{22}$/ : /^r\.[\w-]{22}$/)
  t.match(first.cookie, /^sid=[^;]+; Path=\/; Max-Age=300; HttpOnly; SameSite=Lax$/)
  const cookie = `other=1; sid=${first.id ?? ''}`
  for (let n = 2; n <= 10; n++) {
    const next = await ask(tier, 'counter', '/', { cookie })
    t.same([next.n, next.state, next.id, next.cookie, next.headers.get('x-outpost-start')], [n, 'resumed', first.id, null, 'resumed'])
    t.equal((JSON.parse(next.body) as { id: string }).id, first.id, 'the function knows its session')
    t.equal((await ask(tier, 'counter', '/')).n, 1, 'without an id a session of its own')
  }
  t.equal((await ask(tier, 'counter', '/', { 'x-session': 'new' })).n, 1)
  t.equal((await ask(tier, 'counter', '/', { 'x-session': first.id ?? '' })).n, 11, 'the header brings it as well')

  await t.test('50 sessions in turn and at once never mix', async (t) => {
    const ids = await Promise.all(Array.from({ length: 50 }, async (_, index) => (await ask(tier, 'counter', `/?mark=${index}`)).id ?? ''))
    t.equal(new Set(ids).size, 50)
    for (let round = 2; round <= 4; round++) {
      const answers = await Promise.all(ids.map((id, index) => ask(tier, 'counter', `/?mark=${index}`, { cookie: `sid=${id}` })))
      for (const [index, answer] of answers.entries()) t.same([answer.n, (JSON.parse(answer.body) as { seen: string[] }).seen], [round, Array.from({ length: round }, () => String(index))])
    }
  })

  await t.test('20 requests of one session at once are served one after the other, in the order in which they came', async (t) => {
    const { id } = await ask(tier, 'counter', '/')
    const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => ask(tier, 'counter', `/?wait=5&mark=${index}`, { cookie: `sid=${id ?? ''}` })))
    t.same(answers.map(({ n }) => n).sort((a, b) => a - b), Array.from({ length: 20 }, (_, index) => index + 2))
    const last = JSON.parse((await ask(tier, 'counter', '/', { cookie: `sid=${id ?? ''}` })).body) as { seen: (string | null)[] }
    t.equal(new Set(last.seen.slice(1, 21)).size, 20)
  })

  await t.test('more than may wait are refused with a code', async (t) => {
    const { id } = await ask(tier, 'counter', '/')
    const answers = await Promise.all(Array.from({ length: 90 }, () => ask(tier, 'counter', '/?wait=30', { cookie: `sid=${id ?? ''}` })))
    const refused = answers.filter(({ status }) => status === 429)
    t.ok(refused.length >= 20 && refused.length < 50, `${refused.length} refused`)
    t.match(JSON.parse(refused[0]?.body ?? '{}'), { error: { code: 'ERR_SESSION_BUSY' } })
    t.equal((await ask(tier, 'counter', '/', { cookie: `sid=${id ?? ''}` })).n, 92 - refused.length)
  })

  await t.test('an exception keeps the memory; a limit ends the session and says so; a client that leaves leaves no trace', async (t) => {
    const { id } = await ask(tier, 'counter', '/')
    const cookie = `sid=${id ?? ''}`
    const thrown = await ask(tier, 'counter', '/throw', { cookie })
    t.same([thrown.status, thrown.state, thrown.id], [500, 'resumed', id])
    t.equal((await ask(tier, 'counter', '/', { cookie })).n, 3)
    const controller = new AbortController()
    const gone = ask(tier, 'counter', '/?wait=20000', { cookie }, { signal: controller.signal }).catch(() => null)
    setTimeout(() => controller.abort(), 100)
    await gone
    t.equal((await ask(tier, 'counter', '/', { cookie })).n, 4)
    const stopped = await ask(tier, 'counter', '/spin', { cookie })
    t.same([stopped.status, stopped.state], [503, 'ended; reason=stopped'])
    t.match(stopped.cookie, /^sid=; Path=\/; Max-Age=0/)
    const anew = await ask(tier, 'counter', '/', { cookie })
    t.same([anew.n, anew.state], [1, 'new; reason=stopped'])
    t.not(anew.id, id)
  })

  await t.test('a session ends when the function or the client says so, or its machine outgrows what is kept', async (t) => {
    const first = await ask(tier, 'counter', '/')
    const closed = await ask(tier, 'counter', '/close', { cookie: `sid=${first.id ?? ''}` })
    t.same([closed.n, closed.state], [2, 'ended; reason=closed'])
    t.same([(await ask(tier, 'counter', '/', { cookie: `sid=${first.id ?? ''}` })).state], ['new; reason=closed'])
    const second = await ask(tier, 'counter', '/')
    const deleted = await ask(tier, 'counter', '/.well-known/outpost/session', { cookie: `sid=${second.id ?? ''}` }, { method: 'DELETE' })
    t.same([deleted.status, deleted.state], [204, 'ended; reason=closed'])
    t.equal((await ask(tier, 'counter', '/', { cookie: `sid=${second.id ?? ''}` })).n, 1)
    const third = await ask(tier, 'counter', '/grow')
    t.equal(third.status, 200)
    t.equal((await ask(tier, 'counter', '/', { cookie: `sid=${third.id ?? ''}` })).state, 'new; reason=too-large')
  })

  await t.test('an id that nobody knows is not taken over; what is no id is refused', async (t) => {
    const made = `${where === 'pop' ? 'psite-1' : 'r'}.AAAAAAAAAAAAAAAAAAAAAA`
    const unknown = await ask(tier, 'counter', '/', { cookie: `sid=${made}` })
    t.equal(unknown.state, 'new; reason=unknown')
    t.not(unknown.id, made)
    t.equal((await ask(tier, 'counter', '/', { cookie: 'sid=chosen' })).state, 'new')
    const bad = await ask(tier, 'counter', '/', { 'x-session': 'x'.repeat(129) })
    t.equal(bad.status, 400)
    t.match(JSON.parse(bad.body), { error: { code: 'ERR_SESSION_ID' } })
  })
})

await t.test('ids that clients choose, and those of the region, live in the region at every POP', async (t) => {
  const site = await siteWithCounter(t)
  await untilHere(site)
  const first = await ask(site.pop, 'counter', '/', { 'x-session': 'cart/42' })
  t.same([first.n, first.state, first.place], [1, 'new; reason=unknown', 'region; reason=session'])
  t.equal((await ask(site.region, 'counter', '/', { 'x-session': 'cart/42' })).n, 2)
  t.equal((await ask(site.pop, 'counter', '/', { 'x-session': 'cart/42' })).n, 3)
  const minted = await ask(site.region, 'counter', '/')
  const through = await ask(site.pop, 'counter', '/', { cookie: `sid=${minted.id ?? ''}` })
  t.same([through.n, through.state, through.place], [2, 'resumed', 'region; reason=session'])
  const { id } = await ask(site.pop, 'counter', '/')
  const moved = await ask(site.region, 'counter', '/', { cookie: `sid=${id ?? ''}` })
  t.same([moved.n, moved.state], [1, 'new; reason=moved'], 'a POP keeps its own')
})

await t.test('a restart of the region continues its sessions from sealed files; a new version ends them', async (t) => {
  const site = await siteWithCounter(t)
  const marker = 'a-marker-that-no-disk-may-show'
  const sessions = await Promise.all(Array.from({ length: 5 }, (_, index) => ask(site.region, 'counter', `/?mark=${marker}-${index}`)))
  await site.region.kill('SIGTERM')
  const folder = join(site.regionData, 'sessions')
  const files = readdirSync(folder)
  t.ok(files.length >= 5, `${files.length} files`)
  for (const file of files) {
    const bytes = readFileSync(join(folder, file))
    t.equal(bytes.includes(marker), false)
    t.equal(bytes.includes(Buffer.from(marker, 'utf16le')), false)
    for (const { id } of sessions) t.equal(bytes.includes(id ?? '?') || file.includes(id ?? '?'), false)
  }
  await site.region.start()
  for (const { id } of sessions) {
    const resumed = await ask(site.region, 'counter', '/', { cookie: `sid=${id ?? ''}` })
    t.same([resumed.n, resumed.state], [2, 'resumed'])
  }
  t.equal(readdirSync(folder).length, files.length - 5, 'a file is gone before its session goes on')
  await site.deploy('counter', COUNTER.replace('let n = 0', 'let n = 100'), { Outpost: { Sessions: SESSIONS } })
  const replaced = await ask(site.region, 'counter', '/', { cookie: `sid=${sessions[0]?.id ?? ''}` })
  t.same([replaced.n, replaced.state], [101, 'new; reason=replaced'])
})
