/** Whom a host of a site asks, and what it makes of the answers; the other hosts are in memory. */
import t from 'tap'
import { parseProbeQuestion, PROBE_TOPIC, RELEASE_TOPIC, SiteSearch, type ProbeQuestion } from '../../pop/site-search.ts'
import { ManualClock, systemClock } from '../../shared/clock.ts'
import { Reservations } from '../../shared/place/reservations.ts'
import { seededRandom } from '../../shared/random.ts'
import { MemoryPeerGroup } from '../support/memory-peers.ts'
import { until } from '../shared/link/harness.ts'

// The system clock's timers do not keep a process alive; a server's sockets do.
const keepAlive = setInterval(() => undefined, 1_000)
t.teardown(() => clearInterval(keepAlive))

interface Host {
  readonly id: string
  /** Sandboxes that are free. */
  free: number
  readonly asked: ProbeQuestion[]
  readonly released: unknown[]
}

function site(count: number, tripMs = 10_000, seed = 1): { readonly group: MemoryPeerGroup; readonly hosts: Host[]; readonly search: SiteSearch; readonly another: () => SiteSearch } {
  const group = new MemoryPeerGroup()
  const hosts = Array.from({ length: count }, (_, index): Host => {
    const host: Host = { id: `h${index}`, free: 0, asked: [], released: [] }
    const reservations = new Reservations<number>(() => (host.free += 1))
    const peers = group.join(host.id, { capacity: 64 })
    peers.handle(PROBE_TOPIC, (_from, payload) => {
      const question = parseProbeQuestion(payload)
      if (question === null) throw new Error('no question')
      host.asked.push(question)
      return reservations.reserve(question.id, () => (host.free > 0 ? host.free-- : null), systemClock.monotonicMs()) !== null
    })
    peers.handle(RELEASE_TOPIC, (_from, payload) => {
      host.released.push(payload)
      reservations.release(String(payload), systemClock.monotonicMs())
      return null
    })
    return host
  })
  let frontends = 0
  const make = (): SiteSearch => new SiteSearch({ peers: group.join(`frontend-${frontends++}`, { capacity: 0 }), tripMs: () => tripMs, clock: systemClock, random: seededRandom(seed + frontends) })
  return { group, hosts, search: make(), another: make }
}

const find = (search: SiteSearch, deadlineMs = systemClock.monotonicMs() + 60_000): ReturnType<SiteSearch['find']> => search.find('a', 'f', null, deadlineMs)

t.test('the hit rate is what random asking gives: three pure questions and the look of the last', async (t) => {
  const { hosts, group } = site(20)
  const random = seededRandom(7)
  const peers = group.join('one', { capacity: 0 })
  const rounds = 1_000
  let hits = 0
  for (let round = 0; round < rounds; round += 1) {
    const holder = hosts[round % hosts.length]
    if (holder === undefined) continue
    holder.free = 1
    // What was learned in other rounds would tell it where to ask.
    if ((await find(new SiteSearch({ peers, tripMs: () => 10_000, clock: systemClock, random }))) !== null) hits += 1
    holder.free = 0
  }
  t.ok(Math.abs(hits / rounds - 4 / 20) < 0.03, `${hits} of ${rounds}`)
})

t.test('all have one: the first question finds it; none has: three pure questions, then a final one to yet another', async (t) => {
  const { hosts, search } = site(6)
  for (const host of hosts) host.free = 1
  t.ok(await find(search))
  t.equal(hosts.flatMap(({ asked }) => asked).length, 1)
  for (const host of hosts) {
    host.free = 0
    host.asked.length = 0
  }
  t.equal(await find(search), null)
  const asked = hosts.flatMap((host) => host.asked.map(({ final }) => ({ id: host.id, final })))
  t.same(asked.map(({ final }) => final).sort(), [false, false, false, true])
  t.equal(new Set(asked.map(({ id }) => id)).size, 4, 'nobody twice')
  t.match(search.counts, { existing: { none: 3 }, final: { none: 1 } })
})

t.test('two frontends race for one sandbox: exactly one gets it', async (t) => {
  const { hosts, another } = site(1)
  for (let round = 0; round < 50; round += 1) {
    const [host] = hosts
    if (host === undefined) return
    host.free = 1
    const found = await Promise.all([find(another()), find(another())])
    t.equal(found.filter((each) => each !== null).length, 1)
  }
})

t.test('hosts that answer nothing cost a part of the trip and no more, and are asked less', async (t) => {
  const { hosts, group, search } = site(4, 500)
  for (const { id } of hosts) group.unreachable.add(id)
  const startedAtMs = performance.now()
  t.equal(await find(search), null)
  t.ok(performance.now() - startedAtMs < 1_000)
  t.equal(hosts.flatMap(({ asked }) => asked).length, 0)
})

t.test('an answer that comes too late is given back', async (t) => {
  const group = new MemoryPeerGroup()
  const released: unknown[] = []
  const host = group.join('slow', { capacity: 64 })
  const { promise: gate, resolve: open } = Promise.withResolvers<boolean>()
  host.handle(PROBE_TOPIC, () => gate)
  host.handle(RELEASE_TOPIC, (_from, payload) => released.push(payload))
  const search = new SiteSearch({ peers: group.join('one', { capacity: 0 }), tripMs: () => 1_000, clock: systemClock, random: seededRandom(1) })
  t.equal(await find(search), null)
  t.equal(search.counts.late, 1)
  open(true)
  await until(() => released.length === 1, 'given back')
})

t.test('asking is worth it only where the region is far and somebody is there', (t) => {
  t.ok(site(3, 100).search.isWorthIt())
  t.notOk(site(3, 1).search.isWorthIt(), 'a region in the same rack')
  const alone = new SiteSearch({ peers: new MemoryPeerGroup().join('one'), tripMs: () => 1_000, clock: systemClock, random: seededRandom(1) })
  t.notOk(alone.isWorthIt())
  t.end()
})

t.test('what is no question is none', (t) => {
  const right = { id: 'x', account: 'a', functionName: 'f', qualifier: null, final: false }
  t.same(parseProbeQuestion(right), right)
  for (const wrong of [null, 'x', {}, { ...right, id: '' }, { ...right, id: 'x'.repeat(65) }, { ...right, final: 1 }, { ...right, account: 7 }, { ...right, qualifier: undefined }]) t.equal(parseProbeQuestion(wrong), null)
  t.end()
})

t.test('questions that were slow once are tried again, though nobody is asked meanwhile', async (t) => {
  const clock = new ManualClock()
  const group = new MemoryPeerGroup()
  let answersAfterMs = 9
  group.join('other', { capacity: 64 }).handle(PROBE_TOPIC, () => {
    clock.advance(answersAfterMs)
    return false
  })
  let tripMs = 10_000
  const search = new SiteSearch({ peers: group.join('this', { capacity: 0 }), tripMs: () => tripMs, clock, random: seededRandom(1) })
  for (let round = 0; round < 60; round += 1) await search.find('a', 'f', null, Number.POSITIVE_INFINITY)
  t.ok(search.probeUs > 8_000, `${search.probeUs} us`)
  tripMs = 20
  answersAfterMs = 0
  let calls = 0
  while (!search.isWorthIt() && calls < 1_000) calls += 1
  t.ok(calls > 10 && calls < 200, `${calls} calls`)
  await search.find('a', 'f', null, Number.POSITIVE_INFINITY)
  t.ok(search.isWorthIt())
})
