/** Sessions of a POP site of several hosts, from outside: real processes over NATS. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { zipSync } from 'fflate'
import t from 'tap'
import { deployFunction } from '../../shared/cli/deployment.ts'
import { eventually } from '../support/dev-server.ts'
import { startNats } from '../support/nats.ts'
import { metric } from '../support/region-nodes.ts'
import { call, freePort, tier, writeKeys, type AdminTier } from '../support/site.ts'

const COUNTER = 'let n = 0; export default { async fetch(request) { await new Promise((resolve) => setTimeout(resolve, 5)); return new Response(`${++n} ${await request.text()}`) } }'
const HEADER = 'x-session'
const SESSIONS = 12

t.setTimeout(240_000)
const nats = await startNats(t)
if (nats === null) process.exit(0)
const directory = t.testdir({})
const keysFile = join(directory, 'keys.json')
const apiOf = writeKeys(keysFile)
const folder = (name: string): string => {
  mkdirSync(join(directory, name))
  return join(directory, name)
}
const region = await tier(t, 'region', await freePort(), ['--data', folder('region'), '--keys', keysFile, '--token', 'site', '--workers', '1', '--memory', '256'])
const host = async (name: string): Promise<AdminTier> =>
  tier(t, 'pop', await freePort(), ['--data', folder(name), '--region', region.url, '--token', 'site', '--nats', nats.url, '--site', 'here', '--workers', '1', '--memory', '128', '--hot-min-requests', '3'])
const [a, b, c] = await Promise.all(['a', 'b', 'c'].map(host)) as [AdminTier, AdminTier, AdminTier]
await untilSite([a, b, c])
await deployFunction(apiOf(region.url), { name: 'counted', zip: zipSync({ 'index.mjs': Buffer.from(COUNTER) }), members: { Outpost: { Sessions: { Header: HEADER } } }, publish: false, alias: null })

interface Told {
  readonly status: number
  readonly body: string
  readonly place: string | null
  readonly id: string
  readonly state: string | null
  readonly node: string | null
}

async function ask(at: AdminTier, id: string, body = ''): Promise<Told> {
  const { status, body: text, place, headers } = await call(at, 'counted', { method: 'POST', body, headers: { [HEADER]: id } })
  return { status, body: text, place, id: headers.get('x-outpost-session') ?? '', state: headers.get('x-outpost-session-state'), node: headers.get('x-outpost-node') }
}

/** Until all are linked up and have the same ring: whose a session is may move before. */
async function untilSite(hosts: readonly AdminTier[]): Promise<void> {
  for (const each of hosts) {
    await eventually(() => metric(each, 'pop_site_hosts_count'), (count) => count === hosts.length - 1, 60_000)
    await eventually(() => metric(each, 'pop_ring_members_count'), (count) => count === hosts.length, 60_000)
  }
}

/** Sessions of the site, begun at this host: those that began in the region, as long as it has no image, are not counted. */
async function begin(at: AdminTier, count: number): Promise<string[]> {
  const ids: string[] = []
  await eventually(async () => {
    const told = await ask(at, 'new')
    if (told.id.startsWith('phere.')) ids.push(told.id)
    return ids.length
  }, (length) => length >= count, 60_000)
  return ids
}

await t.test('a session goes on at whichever host its requests come to, and has one owner', async (t) => {
  const [id = ''] = await begin(a, 1)
  // B has never heard of the function.
  t.match(await ask(b, id, 'x'), { status: 200, body: '2 x', place: 'pop; reason=session', id, state: 'resumed', node: String })
  t.match(await ask(a, id), { body: '3 ', place: 'pop', id, state: 'resumed', node: null })
  const together = await Promise.all(Array.from({ length: 10 }, (_, index) => ask(index % 2 === 0 ? a : b, id)))
  t.same(together.map(({ body }) => Number(body)).sort((x, y) => x - y), [4, 5, 6, 7, 8, 9, 10, 11, 12, 13], 'each request sees what one before it has left')
  t.ok(together.every(({ state }) => state === 'resumed'))
})

await t.test('what is not ours, or nobody has, begins anew', async (t) => {
  const unknown = `phere.${'A'.repeat(22)}`
  for (const at of [a, b]) {
    const told = await ask(at, unknown)
    t.match(told, { status: 200, body: '1 ', state: 'new; reason=unknown' })
    t.not(told.id, unknown)
    t.match(await ask(at, `pelsewhere.${'A'.repeat(22)}`), { status: 200, body: '1 ', state: 'new; reason=moved' })
  }
  t.match(await ask(b, 'chosen'), { status: 200, body: '1 ', place: /^region; reason=/, id: 'chosen' })
})

await t.test('sessions of a host that is drained move to another and go on, and no request fails', async (t) => {
  const ids = await begin(a, SESSIONS)
  const uses = new Map(ids.map((id) => [id, 1]))
  const wrong: string[] = []
  let going = true
  const client = async (): Promise<void> => {
    for (let round = 0; going; round += 1) {
      for (const id of ids) {
        const next = (uses.get(id) ?? 0) + 1
        const { status, body, state } = await ask(b, id)
        if (status !== 200 || Number(body) !== next || state !== 'resumed') wrong.push(`${status} ${body} ${String(state)} instead of ${next}`)
        uses.set(id, next)
      }
    }
  }
  const running = client()
  await a.kill('SIGTERM')
  t.equal((await a.process().ended).code, 0)
  await untilSite([b, c])
  going = false
  await running
  t.same(wrong, [])
  const owners = new Set<string | null>()
  for (const id of ids) {
    const told = await ask(b, id)
    t.match(told, { status: 200, body: `${(uses.get(id) ?? 0) + 1} `, place: /^pop/, id, state: 'resumed' })
    owners.add(told.node)
  }
  t.equal(owners.size, 2, 'they have gone to both of the others, of which one had never heard of the function')
})

await t.test('sessions of a host that is killed begin anew and say so, the others go on', async (t) => {
  await a.start()
  await untilSite([a, b, c])
  const [lost, kept] = [await begin(a, SESSIONS), await begin(b, SESSIONS)]
  for (const id of lost) t.match(await ask(b, id), { body: '2 ', state: 'resumed' })
  await a.kill('SIGKILL')
  const [anew, same] = await Promise.all([Promise.all(lost.map((id) => ask(b, id))), Promise.all(kept.map((id) => ask(b, id)))])
  for (const { status, body, state } of anew) t.match({ status, body, state }, { status: 200, body: '1 ', state: /^new; reason=/ })
  for (const { status, body, state } of same) t.match({ status, body, state }, { status: 200, body: '2 ', state: 'resumed' })
})
