import t from 'tap'
import { probeBudget, ProbeSearch, probesFor, ProbeWeights } from '../../../shared/place/probe.ts'
import type { ProbeStep } from '../../../shared/place/probe.ts'
import { Reservations } from '../../../shared/place/reservations.ts'
import { seededRandom } from '../../../shared/random.ts'
import type { Random } from '../../../shared/random.ts'

const BUDGET = { probes: 3, timeMs: 300 }

function equal(count: number): number[] {
  return new Array<number>(count).fill(1)
}

function search(weights: readonly number[], random: Random, budget = BUDGET): ProbeSearch {
  return new ProbeSearch({ weights, budget, finalTimeoutMs: 1000, deadlineMs: 10_000, random })
}

interface Asked {
  readonly end: ProbeStep
  readonly asked: readonly { readonly index: number; readonly final: boolean }[]
  readonly tookMs: number
}

/** Runs a search; `answer` null: nothing comes, and the time passes. */
function run(weights: readonly number[], random: Random, answer: (index: number, final: boolean) => 'reserved' | 'none' | null, budget = BUDGET): Asked {
  const asked: { index: number; final: boolean }[] = []
  const probing = search(weights, random, budget)
  let nowMs = 0
  let step = probing.start(nowMs) as ProbeStep | null
  while (step?.kind === 'ask') {
    asked.push({ index: step.index, final: step.final })
    const said = answer(step.index, step.final)
    nowMs += said === null ? step.timeoutMs : 1
    step = probing.answered(step.attempt, said ?? 'unreachable', nowMs)
  }
  if (step === null) throw new Error('an answer in turn was taken for a late one')
  return { end: step, asked, tookMs: nowMs }
}

t.test('no manager is an immediate failure, and so is none that may be asked', async (t) => {
  const random = seededRandom(1)
  t.same(search([], random).start(0), { kind: 'failed', asked: 0 })
  t.same(search([0, -1], random).start(0), { kind: 'failed', asked: 0 })
})

t.test('without a budget, and with one manager, the first request is the final one', async (t) => {
  const random = seededRandom(1)
  t.match(search(equal(5), random, { probes: 0, timeMs: 0 }).start(0), { kind: 'ask', final: true, timeoutMs: 1000 })
  t.match(search([1], random).start(0), { kind: 'ask', index: 0, final: true })
})

t.test('all have one: the first question finds it, and nobody makes any', async (t) => {
  const { end, asked } = run(equal(20), seededRandom(1), () => 'reserved')
  t.match(end, { kind: 'reserved', asked: 1, final: false })
  t.match(asked, [{ final: false }])
})

t.test('none has one: exactly the budget of questions, then the final request, all to different managers', async (t) => {
  for (let seed = 0; seed < 200; seed++) {
    const { end, asked } = run(equal(20), seededRandom(seed), (_, final) => (final ? 'reserved' : 'none'))
    t.match(end, { kind: 'reserved', asked: 4, final: true })
    t.same(asked.map(({ final }) => final), [false, false, false, true])
    t.equal(new Set(asked.map(({ index }) => index)).size, 4)
  }
})

t.test('20 managers, one idle sandbox that comes back after each use: 4 of 20 of 2,000 requests hit, each miss provisions at the 4th', async (t) => {
  const random = seededRandom(42)
  const holder = 7
  let hits = 0
  for (let round = 0; round < 2000; round++) {
    let provisioned = 0
    const { end, asked } = run(equal(20), random, (index, final) => {
      if (index === holder) return 'reserved'
      if (final) provisioned++
      return final ? 'reserved' : 'none'
    })
    if (provisioned === 0) hits++
    else if (end.kind !== 'reserved' || asked.length !== 4 || new Set(asked.map(({ index }) => index)).size !== 4) t.fail(`round ${round} provisioned after ${asked.length}`)
  }
  t.ok(Math.abs(hits / 2000 - 4 / 20) < 0.03, String(hits / 2000))
})

t.test('hits are 1-(1-p)^k', async (t) => {
  const random = seededRandom(5)
  for (const idle of [2, 5, 10]) {
    let hits = 0
    for (let round = 0; round < 4000; round++) {
      const has = new Set<number>()
      while (has.size < idle) has.add(random.below(20))
      const { end } = run(equal(20), random, (index, final) => (final || has.has(index) ? 'reserved' : 'none'))
      if (end.kind === 'reserved' && has.has(end.index)) hits++
    }
    const expected = 1 - (1 - idle / 20) ** 4
    t.ok(Math.abs(hits / 4000 - expected) < 0.03, `${idle} of 20: ${hits / 4000}, by the formula ${expected.toFixed(3)}`)
  }
})

t.test('messages to 5 managers are lost: no search fails, and the time bound holds', async (t) => {
  const random = seededRandom(8)
  let longestMs = 0
  for (let round = 0; round < 2000; round++) {
    const { end, tookMs, asked } = run(equal(20), random, (index, final) => (index < 5 ? null : final ? 'reserved' : 'none'))
    if (end.kind !== 'reserved') t.fail(`round ${round}: ${end.kind}`)
    const silent = asked.filter(({ index, final }) => final && index < 5).length
    // Questions take their budget at most, each final request that nobody answers its timeout.
    if (tookMs > 300 + silent * 1000 + 1) t.fail(`${tookMs} ms with ${silent} silent final requests`)
    longestMs = Math.max(longestMs, tookMs)
  }
  t.ok(longestMs <= 300 + 5 * 1000 + 1, `${longestMs} ms at most`)
})

t.test('nothing is asked at the deadline', async (t) => {
  const { end, tookMs } = run(equal(100), seededRandom(8), () => null)
  t.equal(end.kind, 'failed')
  t.equal(tookMs, 10_000)
})

t.test('a failed final request is tried once more elsewhere, then the search has failed', async (t) => {
  const { end, asked } = run(equal(20), seededRandom(2), () => 'none')
  t.same(end, { kind: 'failed', asked: 5 })
  t.same(asked.map(({ final }) => final), [false, false, false, true, true])
  t.equal(new Set(asked.map(({ index }) => index)).size, 5)
  t.same(run([1], seededRandom(2), () => 'none').end, { kind: 'failed', asked: 1 })
})

t.test('late and double answers change nothing', async (t) => {
  const probing = search(equal(5), seededRandom(3))
  const first = probing.start(0)
  if (first.kind !== 'ask') throw new Error('nobody asked')
  const second = probing.answered(first.attempt, 'none', 100)
  t.match(second, { kind: 'ask', attempt: 2 })
  t.equal(probing.answered(first.attempt, 'reserved', 101), null, 'to be given back')
  t.match(probing.answered(2, 'reserved', 102), { kind: 'reserved' })
  t.equal(probing.answered(2, 'reserved', 103), null)
})

t.test('questions cost a fifth of what making one costs', async (t) => {
  t.equal(probesFor(1000, 200), 1)
  t.equal(probesFor(3, 200), 0, 'a restored image is cheaper than any question')
  t.equal(probesFor(3_000_000, 500), 3, 'a native guest is worth all of them')
  t.same(probeBudget(10_000, 1000), { probes: 2, timeMs: 2 })
  t.equal(probesFor(0, 0), 0)
})

t.test('two that race for one idle sandbox: exactly one gets it, and the answer to a repeated question is the same', async (t) => {
  const idle = ['s1']
  const reservations = new Reservations<string>((sandbox) => idle.push(sandbox))
  const take = (): string | null => idle.pop() ?? null
  t.same(['a', 'b', 'a'].map((id) => reservations.reserve(id, take, 0)), ['s1', null, 's1'])
  t.equal(reservations.claim('b', 1), null)
  t.equal(reservations.claim('a', 1), 's1')
  t.equal(reservations.claim('a', 1), null, 'one use')
  t.equal(reservations.reserve('a', () => 's2', 2), null, 'a question that arrives again after all is over gets nothing new')
  t.equal(reservations.heldCount, 0)
})

t.test('a reservation that nobody uses expires after 2 s and the sandbox is idle again', async (t) => {
  const idle = ['s1', 's2']
  const reservations = new Reservations<string>((sandbox) => idle.push(sandbox))
  const take = (): string | null => idle.pop() ?? null
  reservations.reserve('a', take, 0)
  reservations.reserve('b', take, 1000)
  t.equal(reservations.heldCount, 2)
  reservations.sweep(1999)
  t.same(idle, [])
  reservations.sweep(2000)
  t.same(idle, ['s2'])
  t.equal(reservations.claim('b', 3000), null, 'too late, whether or not it was swept')
  t.same(idle, ['s2', 's1'])
  reservations.reserve('c', take, 3000)
  reservations.release('c', 3001)
  reservations.release('c', 3001)
  t.equal(idle.length, 2)
  t.equal(reservations.heldCount, 0)
})

t.test('there are not endlessly many reservations, and their ids are forgotten', async (t) => {
  const reservations = new Reservations<number>(() => undefined)
  let made = 0
  while (reservations.reserve(`r${made}`, () => made, 0) !== null) made++
  t.equal(made, 10_000)
  reservations.sweep(2000)
  t.equal(reservations.reserve('x', () => 1, 2001), null, 'ended ones are remembered')
  t.equal(reservations.reserve('x', () => 1, 70_000), 1)
})

t.test('equal weights choose uniformly, and others in proportion', async (t) => {
  const random = seededRandom(9)
  const share = (weights: number[]): number[] => {
    const counts = weights.map(() => 0)
    for (let round = 0; round < 30_000; round++) {
      const step = search(weights, random).start(0)
      const index = step.kind === 'ask' ? step.index : 0
      counts[index] = (counts[index] ?? 0) + 1 / 30_000
    }
    return counts
  }
  for (const part of share(equal(4))) t.ok(Math.abs(part - 0.25) < 0.02)
  const [first = 0, second = 0, third = 0] = share([1, 0, 3])
  t.ok(Math.abs(first - 0.25) < 0.02)
  t.equal(second, 0)
  t.ok(Math.abs(third - 0.75) < 0.02)
})

t.test('managers that had one lately are asked more, and none is ever written off', async (t) => {
  const weights = new ProbeWeights()
  const managers = (...capacities: number[]): { id: string; capacity: number }[] => capacities.map((capacity, index) => ({ id: `m${index}`, capacity }))
  for (let round = 0; round < 100; round++) {
    weights.record('m0', 'hit')
    weights.record('m1', 'miss')
  }
  const [first = 0, second = 0, third = 0] = weights.weights(managers(10, 10, 0))
  t.ok(first > 9 && second > 0 && second < 1)
  t.equal(third, 0)
  for (let round = 0; round < 100; round++) weights.record('m1', 'hit')
  t.ok((weights.weights(managers(10, 10, 10))[1] ?? 0) > 9)
})
