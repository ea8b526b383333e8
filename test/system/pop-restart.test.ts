/** Sessions of a POP over its restarts, from outside: real processes, real clients. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../support/dev-server.ts'
import { call, startSite, type Site } from '../support/site.ts'

const SESSIONS = { Cookie: 'sid', Header: 'x-session', IdleSeconds: 120, MaxAgeSeconds: 300 }
const COUNTER = 'let n = 0; const seen = []; export default { async fetch(request) { seen.push(await request.text()); return Response.json({ n: ++n, seen }) } }'
const MARKER = 'a-marker-that-no-disk-may-show'

interface Told {
  readonly status: number
  readonly n: number
  readonly seen: readonly string[]
  readonly id: string
  readonly state: string | null
  readonly place: string | null
  readonly start: string | null
}

async function ask(site: Site, id: string | null, body = ''): Promise<Told> {
  const { status, body: text, headers, place } = await call(site.pop, 'counter', { method: 'POST', body, headers: id === null ? {} : { cookie: `other=1; sid=${id}` } })
  const { n, seen } = status === 200 ? (JSON.parse(text) as { n: number; seen: string[] }) : { n: -1, seen: [text] }
  return { status, n, seen, id: headers.get('x-outpost-session') ?? '', state: headers.get('x-outpost-session-state'), place, start: headers.get('x-outpost-start') }
}

/** Sessions that the POP itself has begun, each with its own mark. */
async function begin(site: Site, count: number): Promise<readonly Told[]> {
  const begun: Told[] = []
  // Some begin in the region, as long as the function is not hot here or no slot is at hand.
  await eventually(async () => {
    const told = await ask(site, null, `${MARKER}-${begun.length}`)
    if (told.id.startsWith('psite-1.')) begun.push(told)
    return begun.length
  }, (length) => length === count, 30_000)
  return begun
}

const site = await startSite(t)
const folder = join(site.popData, 'sessions')
await site.deploy('counter', COUNTER, { Outpost: { Sessions: SESSIONS } })

await t.test('after SIGTERM the first requests of all go on with their sessions: nothing has to be hot again before them', async (t) => {
  const begun = await begin(site, 6)
  await site.pop.kill('SIGTERM')
  const files = readdirSync(folder)
  t.ok(files.length >= 6, `${files.length} files`)
  for (const file of files) {
    const bytes = readFileSync(join(folder, file))
    t.equal(bytes.includes(MARKER), false)
    for (const { id } of begun) t.equal(bytes.includes(id) || file.includes(id), false)
  }
  await site.pop.start()
  // Two of each at once: the second one waits for its turn like any other.
  const answers = await Promise.all(begun.flatMap(({ id }, index) => [ask(site, id, `again-${index}`), ask(site, id, `again-${index}`)]))
  for (const [index, { id }] of begun.entries()) {
    const both = answers.slice(2 * index, 2 * index + 2).sort((a, b) => a.n - b.n)
    t.match(both, [{ n: 2, id, state: 'resumed', place: 'pop', start: 'resumed' }, { n: 3, id, state: 'resumed', place: 'pop' }])
    t.same(both[1]?.seen, [`${MARKER}-${index}`, `again-${index}`, `again-${index}`])
  }
  t.equal(readdirSync(folder).length, files.length - 6, 'a file is gone before its session goes on')
  t.match(await ask(site, `psite-1.${'A'.repeat(22)}`), { status: 200, n: 1, state: /^new; reason=/ }, 'an id that nobody knows is nobody\'s')
})

await t.test('a function that has changed while its POP was away: its sessions begin anew and are told so', async (t) => {
  const [first, second] = await begin(site, 2)
  await site.pop.kill('SIGTERM')
  await site.deploy('counter', COUNTER.replace('let n = 0', 'let n = 100'), { Outpost: { Sessions: SESSIONS } })
  await site.pop.start()
  const anew = await ask(site, first?.id ?? '')
  t.match(anew, { status: 200, n: 101, state: 'new; reason=replaced' })
  t.match(await ask(site, anew.id), { n: 102, state: 'resumed' })
  await site.api('region').deleteFunction('counter')
  await eventually(() => ask(site, anew.id), ({ status }) => status === 404)
  t.equal((await ask(site, second?.id ?? '')).status, 404)
  await site.deploy('counter', COUNTER, { Outpost: { Sessions: SESSIONS } })
})

await t.test('after SIGKILL they begin anew and are told so', async (t) => {
  const begun = await begin(site, 4)
  await site.pop.kill('SIGKILL')
  await site.pop.start()
  for (const told of await Promise.all(begun.map(({ id }) => ask(site, id)))) {
    t.match(told, { status: 200, n: 1, state: /^new; reason=(moved|unknown)$/ })
    t.notOk(begun.some(({ id }) => id === told.id))
  }
})
