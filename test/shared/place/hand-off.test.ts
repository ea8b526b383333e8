/** Hand-off over a network without faults: what it costs, what it keeps, what it gives up. Faults are in test/sim/. */
import t from 'tap'
import { firstRing, nextRing, Ring, ringKey, rollback } from '../../../shared/place/ring.ts'
import type { KeyKind, RingDocument, RingMember } from '../../../shared/place/ring.ts'
import { SimMember } from '../../sim/member.ts'
import type { SimAnswer } from '../../sim/member.ts'
import { SimProcess, World } from '../../sim/world.ts'

const SETTLED: ReadonlySet<number> = new Set()
const BUDGET_MS = 3_000

function names(prefix: string, count: number): RingMember[] {
  return Array.from({ length: count }, (_, index) => ({ id: `${prefix}${index}`, weight: 1 }))
}

/** Members that know a ring at once, and die when told to. */
class Fleet {
  readonly world = new World(1)
  readonly members = new Map<string, SimMember>()
  readonly owners = new Map<string, string>()
  readonly #runMs: number
  ring: Ring
  #requests = 0

  constructor(document: RingDocument, runMs = 5) {
    this.#runMs = runMs
    this.ring = new Ring(document)
    for (const { id } of document.members) this.add(id)
  }

  add(id: string): SimMember {
    return new SimMember(this.world, this.members, new SimProcess(this.world, id, 1), { ring: this.ring, leases: { holds: () => true, isOver: (member) => this.member(member).process.crashed }, runMs: () => this.#runMs })
  }

  member(id: string): SimMember {
    const member = this.members.get(id)
    if (member === undefined) throw new Error(`no member ${id}`)
    return member
  }

  publish(document: RingDocument): void {
    this.ring = new Ring(document)
    for (const { id } of document.members) if (!this.members.has(id)) this.add(id)
    for (const member of this.members.values()) if (!member.process.crashed) member.ringChanged(this.ring)
  }

  kill(id: string): void {
    this.member(id).process.crash()
  }

  /** To `owner`, else to the first owner by the newest ring. */
  ask(key: string, kind: KeyKind, options: { owner?: string; ring?: Ring; fresh?: boolean } = {}): { answer: SimAnswer | null; tookMs: number } {
    const result: { answer: SimAnswer | null; tookMs: number } = { answer: null, tookMs: -1 }
    const ring = options.ring ?? this.ring
    const owner = options.owner ?? ring.owners(key, kind)[0] ?? ''
    const startMs = this.world.nowMs
    this.member(owner).request({ requestId: `r${++this.#requests}`, key, kind, ring: { version: ring.version, predecessors: ring.predecessors(key, owner, kind) }, fresh: options.fresh ?? false }, BUDGET_MS, (answer) => {
      result.answer = answer
      result.tookMs = this.world.nowMs - startMs
    })
    return result
  }

  run(forMs: number): void {
    this.world.runUntil(this.world.nowMs + forMs)
  }

  sent(kind: string): number {
    return [...this.members.values()].reduce((sum, { sent }) => sum + (sent.get(kind) ?? 0), 0)
  }

  holders(key: string): string[] {
    return [...this.members.values()].filter((member) => member.ownsNow(key)).map(({ id }) => id)
  }
}

function served({ answer }: { answer: SimAnswer | null }): Extract<SimAnswer, { kind: 'served' }> {
  if (answer?.kind !== 'served') throw new Error(`not served: ${JSON.stringify(answer)}`)
  return answer
}

const functions = Array.from({ length: 500 }, (_, index) => ringKey('acc', `f${index}`))

/** Each key has one warm instance at its owner. */
function warm(fleet: Fleet): Map<string, string> {
  return new Map(functions.map((key, index) => {
    fleet.member(fleet.ring.owners(key, 'pool')[0] ?? '').seed(key, `i${index}`, fleet.ring.version)
    return [key, `i${index}`]
  }))
}

t.test('14 (a): a fresh set of 10 serves 500 warm functions by the same instances, one fetch each, a second replay costs none', async (t) => {
  const fleet = new Fleet(firstRing(names('old', 10)))
  const instances = warm(fleet)
  fleet.publish(nextRing(fleet.ring.document, { members: names('new', 10) }, SETTLED))
  const replay = (): number => {
    const answers = functions.map((key) => [key, fleet.ask(key, 'pool')] as const)
    fleet.run(BUDGET_MS)
    return answers.filter(([key, result]) => served(result).itemId === instances.get(key)).length
  }
  const same = replay()
  t.ok(same >= 475, `${same} of 500 by the same instance`)
  t.ok(fleet.sent('take') <= 500, `${fleet.sent('take')} fetches`)
  const before = fleet.sent('take')
  t.equal(replay(), same)
  t.equal(fleet.sent('take'), before)
  t.equal([...fleet.members.values()].filter(({ id }) => id.startsWith('old')).reduce((sum, { handOff }) => sum + handOff.itemCount(), 0), 0, 'the old ones are rid of everything')
})

t.test('14 (b): half of the old ones killed: no request fails, only their keys go cold; after a rollback the instances are back', async (t) => {
  const fleet = new Fleet(firstRing(names('old', 10)))
  const instances = warm(fleet)
  const homes = new Map(functions.map((key) => [key, fleet.ring.owners(key, 'pool')[0] ?? '']))
  const killed = new Set(['old0', 'old2', 'old4', 'old6', 'old8'])
  for (const id of killed) fleet.kill(id)
  fleet.publish(nextRing(fleet.ring.document, { members: names('new', 10) }, SETTLED))
  const half = functions.slice(0, 250)
  const answers = half.map((key) => [key, fleet.ask(key, 'pool')] as const)
  fleet.run(BUDGET_MS)
  for (const [key, result] of answers) {
    const cold = killed.has(homes.get(key) ?? '')
    if ((served(result).itemId === instances.get(key)) === cold) t.fail(`${key} ${cold ? 'lives on' : 'went cold'}`)
    // Nobody waits for the dead longer than 50 ms.
    if (result.tookMs > 50 + 5 + 4) t.fail(`${key} took ${result.tookMs} ms`)
  }
  const failed = fleet.ring.document
  fleet.publish(rollback(failed, SETTLED))
  t.same(fleet.ring.document.members, names('old', 10))
  // The dead are gone from the ring with the next version, as the leader would have it.
  fleet.publish(nextRing(fleet.ring.document, { members: names('old', 10).filter(({ id }) => !killed.has(id)) }, SETTLED))
  const now = new Map(answers.map(([key, result]) => [key, served(result).itemId]))
  const again = half.map((key) => [key, fleet.ask(key, 'pool')] as const)
  fleet.run(BUDGET_MS)
  const kept = again.filter(([key, result]) => served(result).itemId === now.get(key)).length
  t.ok(kept >= 238, `${kept} of 250 by the same instance after the rollback`)
})

t.test('15 (a): 2 to 4 managers for a key with 40 instances: 40 parallel requests use all of them, 10 at each manager', async (t) => {
  const key = functions[0] ?? ''
  for (const [title, next] of [['a fresh set', names('new', 8)], ['the same fleet', names('old', 8)]] as const) {
    const fleet = new Fleet(firstRing(names('old', 8), { managersPerKey: 2 }))
    const before = fleet.ring.owners(key, 'pool')
    for (let index = 0; index < 40; index++) fleet.member(before[index % 2] ?? '').seed(key, `i${index}`, 1)
    fleet.publish(nextRing(fleet.ring.document, { members: next, attributes: { managersPerKey: 4 } }, SETTLED))
    const owners = fleet.ring.owners(key, 'pool')
    t.equal(owners.length, 4)
    const results = Array.from({ length: 40 }, (_, index) => fleet.ask(key, 'pool', { owner: owners[index % 4] ?? '' }))
    fleet.run(BUDGET_MS)
    const answers = results.map(served)
    t.equal(new Set(answers.map(({ itemId }) => itemId)).size, 40, title)
    t.ok(answers.every(({ state }) => state !== 'new'), `${title}: none is new`)
    for (const owner of owners) t.equal(answers.filter(({ by }) => by === owner).length, 10)
    const held = [...fleet.members.values()].flatMap(({ ledger }) => ledger.of(key).map(({ id }) => id))
    t.equal(held.length, new Set(held).size, 'no instance is owned twice')
  }
})

t.test('15 (b): 4 to 1: one manager collects from four in one round trip; one down, the other three are used; 0 is rejected', async (t) => {
  const key = functions[1] ?? ''
  for (const down of [0, 1]) {
    const fleet = new Fleet(firstRing(names('old', 8), { managersPerKey: 4 }), 200)
    const before = fleet.ring.owners(key, 'pool')
    before.forEach((owner, index) => {
      for (let copy = 0; copy < 5; copy++) fleet.member(owner).seed(key, `i${index}.${copy}`, 1)
    })
    if (down === 1) fleet.kill(before[2] ?? '')
    const version = fleet.ring.version
    t.throws(() => nextRing(fleet.ring.document, { attributes: { managersPerKey: 0 } }, SETTLED), { code: 'ERR_RING_REFUSED' })
    t.equal(fleet.ring.version, version)
    fleet.publish(nextRing(fleet.ring.document, { members: names('new', 8), attributes: { managersPerKey: 1 } }, SETTLED))
    const results = Array.from({ length: 20 }, () => fleet.ask(key, 'pool'))
    fleet.run(BUDGET_MS)
    const answers = results.map(served)
    const used = answers.filter(({ state }) => state !== 'new').map(({ itemId }) => itemId)
    t.equal(new Set(used).size, used.length)
    t.equal(used.length, down === 1 ? 15 : 20, `${down} down`)
    const roundTripMs = 2 * 2
    const slowest = Math.max(...results.filter(({ answer }) => served({ answer }).state !== 'new').map(({ tookMs }) => tookMs))
    t.ok(slowest <= roundTripMs + 200, `${slowest} ms with one round trip of ${roundTripMs} ms and a run of 200 ms`)
    t.ok(results.every(({ tookMs }) => tookMs <= 50 + 200), 'nobody waits longer than 50 ms for the one that is down')
  }
})

t.test('late answers still bring instances: they are idle stock', async (t) => {
  const key = functions[2] ?? ''
  const fleet = new Fleet(firstRing(names('old', 3)))
  fleet.member(fleet.ring.owners(key, 'pool')[0] ?? '').seed(key, 'i0', 1)
  fleet.publish(nextRing(fleet.ring.document, { members: names('new', 3) }, SETTLED))
  fleet.world.faults = { ...fleet.world.faults, delayMs: 400 }
  const first = fleet.ask(key, 'pool')
  fleet.run(2_000)
  t.match(served(first), { state: 'new' })
  t.ok(first.tookMs < 50 + 5 + 1)
  const both = [fleet.ask(key, 'pool'), fleet.ask(key, 'pool')]
  fleet.run(2_000)
  t.ok(both.map(served).some(({ itemId }) => itemId === 'i0'))
})

t.test('a session moves with its memory: to a new owner, off a member that leaves, and back', async (t) => {
  const fleet = new Fleet(firstRing(names('m', 3)))
  const sessions = Array.from({ length: 60 }, (_, index) => ringKey('acc', 'f', `s${index}`))
  const round = (count: number): void => {
    const answers = sessions.map((key) => fleet.ask(key, 'single'))
    fleet.run(BUDGET_MS)
    for (const answer of answers) if (served(answer).count !== count) t.fail(`count ${served(answer).count} instead of ${count}`)
    for (const key of sessions) if (fleet.holders(key).length !== 1) t.fail(`${key} is at ${fleet.holders(key).join(' ')}`)
  }
  round(1)
  fleet.publish(nextRing(fleet.ring.document, { members: names('m', 5) }, SETTLED))
  round(2)
  // Nobody asks for anything: the one that leaves gets rid of all by itself.
  fleet.publish(nextRing(fleet.ring.document, { members: names('m', 5).filter(({ id }) => id !== 'm1') }, SETTLED))
  fleet.run(2_000)
  t.equal(fleet.member('m1').handOff.itemCount(), 0)
  round(3)
  fleet.publish(rollback(fleet.ring.document, SETTLED))
  round(4)
  fleet.run(2_000)
  for (const member of fleet.members.values()) t.ok(member.handOff.heldVersions().every((version) => version === fleet.ring.version))
})

t.test('a busy session is handed over when its run has ended, and the one that waits gets it', async (t) => {
  const fleet = new Fleet(firstRing(names('m', 1)), 300)
  const key = ringKey('acc', 'f', 'busy')
  const first = fleet.ask(key, 'single')
  fleet.run(20)
  fleet.publish(nextRing(fleet.ring.document, { members: names('n', 1) }, SETTLED))
  const second = fleet.ask(key, 'single')
  fleet.run(100)
  t.same([first.answer, second.answer], [null, null])
  t.same(fleet.holders(key), ['m0'])
  fleet.run(BUDGET_MS)
  t.match([served(first), served(second)], [{ by: 'm0', count: 1 }, { by: 'n0', count: 2, state: 'moved' }])
  t.ok(second.tookMs < 300 + 300 + 50, `${second.tookMs} ms`)
})

t.test('mixed versions: an older request is served by who holds the state, else told of the newer ring', async (t) => {
  const fleet = new Fleet(firstRing(names('m', 1)))
  const before = fleet.ring
  const key = ringKey('acc', 'f', 'mixed')
  fleet.ask(key, 'single')
  fleet.run(100)
  const next = nextRing(before.document, { members: names('n', 1) }, SETTLED)
  // m0 has not heard of it yet.
  fleet.add('n0')
  fleet.member('n0').ringChanged(new Ring(next))
  const old = fleet.ask(key, 'single', { owner: 'm0' })
  fleet.run(100)
  t.match(served(old), { state: 'held', count: 2 })
  fleet.ring = new Ring(next)
  const moved = fleet.ask(key, 'single', { owner: 'n0' })
  fleet.run(100)
  t.match(served(moved), { state: 'moved', count: 3 })
  const late = fleet.ask(key, 'single', { owner: 'm0', ring: before })
  fleet.run(10)
  t.equal(late.answer, null, 'it has heard of version 2 and waits for it')
  fleet.member('m0').ringChanged(fleet.ring)
  t.match(late.answer, { kind: 'failed', code: 'ERR_RING_MOVED', ringVersion: 2 })
})

t.test('nothing is begun anew while a predecessor may still have the state; once its lease is over it is', async (t) => {
  const fleet = new Fleet(firstRing(names('m', 1)))
  const key = ringKey('acc', 'f', 'lost')
  fleet.ask(key, 'single')
  fleet.run(100)
  fleet.publish(nextRing(fleet.ring.document, { members: names('n', 1) }, SETTLED))
  fleet.world.cut('m0', 'n0')
  const waits = fleet.ask(key, 'single')
  fleet.run(BUDGET_MS + 100)
  t.match(waits.answer, { kind: 'failed', code: 'ERR_HAND_OFF_TIMEOUT' })
  fleet.kill('m0')
  const anew = fleet.ask(key, 'single')
  fleet.run(BUDGET_MS)
  t.match(served(anew), { state: 'new', count: 1 })
})

t.test('a key made for its request asks nobody', async (t) => {
  const fleet = new Fleet(nextRing(firstRing(names('m', 1)), { members: names('n', 1) }, SETTLED))
  const result = fleet.ask(ringKey('acc', 'f', 'minted'), 'single', { fresh: true })
  fleet.run(100)
  t.match(served(result), { state: 'new' })
  t.equal(fleet.sent('take'), 0)
})

t.test('requests for one session wait for each other, and not endlessly many', async (t) => {
  const fleet = new Fleet(firstRing(names('m', 1)), 10)
  const key = ringKey('acc', 'f', 'queue')
  const results = Array.from({ length: 66 }, () => fleet.ask(key, 'single'))
  fleet.run(BUDGET_MS)
  t.same(results.slice(0, 65).map((result) => served(result).count), Array.from({ length: 65 }, (_, index) => index + 1))
  t.match(results[65]?.answer, { kind: 'failed', code: 'ERR_QUEUE_FULL' })
})
