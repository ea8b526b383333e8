import t from 'tap'
import { ProbeWeights, nextFinal, probe } from '../../../shared/place/probe.ts'
import { seededRandom } from '../../../shared/random.ts'

function equal(count: number): number[] {
  return new Array<number>(count).fill(1)
}

t.test('no manager is an answer, and so is none that may be asked', async (t) => {
  const random = seededRandom(1)
  t.same(probe([], { tryReserve: () => true }, { probes: 3, random }), { kind: 'none' })
  t.same(probe([0, -1], { tryReserve: () => true }, { probes: 3, random }), { kind: 'none' })
  t.equal(nextFinal([1], [0], random), null)
})

t.test('without a budget, and with one manager, the first request is the final one', async (t) => {
  const random = seededRandom(1)
  const tryReserve = (): boolean => t.fail('asked')
  t.match(probe(equal(5), { tryReserve }, { probes: 0, random }), { kind: 'final', probes: 0 })
  t.same(probe([1], { tryReserve }, { probes: 3, random }), { kind: 'final', index: 0, probes: 0 })
})

t.test('the first that has one is taken', async (t) => {
  const result = probe(equal(5), { tryReserve: () => true }, { probes: 3, random: seededRandom(1) })
  t.match(result, { kind: 'reserved', probes: 1 })
})

t.test('when none has one: exactly the budget of questions, then a final request, all to different managers', async (t) => {
  for (let seed = 0; seed < 200; seed++) {
    const asked: number[] = []
    const result = probe(equal(20), { tryReserve: (index) => { asked.push(index); return false } }, { probes: 3, random: seededRandom(seed) })
    t.equal(result.kind, 'final')
    if (result.kind === 'final') asked.push(result.index)
    t.equal(asked.length, 4)
    t.equal(new Set(asked).size, 4)
  }
})

t.test('one idle sandbox among 20 managers is found by 3 questions and the last look in 4 of 20 requests', async (t) => {
  const random = seededRandom(42)
  let hits = 0
  const rounds = 20_000
  for (let round = 0; round < rounds; round++) {
    const holder = random.below(20)
    const result = probe(equal(20), { tryReserve: (index) => index === holder }, { probes: 3, random })
    if (result.kind === 'reserved' || (result.kind === 'final' && result.index === holder)) hits++
  }
  t.ok(Math.abs(hits / rounds - 4 / 20) < 0.01, String(hits / rounds))
})

t.test('two that race for one idle sandbox: exactly one gets it', async (t) => {
  let idle = 1
  const tryReserve = (): boolean => idle-- > 0
  const random = seededRandom(3)
  const results = [probe(equal(2), { tryReserve }, { probes: 1, random }), probe(equal(2), { tryReserve }, { probes: 1, random })]
  t.equal(results.filter(({ kind }) => kind === 'reserved').length, 1)
})

t.test('equal weights choose uniformly, and others in proportion', async (t) => {
  const random = seededRandom(9)
  const share = (weights: number[]): number[] => {
    const counts = weights.map(() => 0)
    for (let round = 0; round < 30_000; round++) {
      const index = nextFinal(weights, [], random) ?? 0
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
  const weights = new ProbeWeights(3)
  for (let round = 0; round < 100; round++) {
    weights.record(0, 'hit')
    weights.record(1, 'miss')
  }
  const [first = 0, second = 0, third = 0] = weights.weights([10, 10, 0])
  t.ok(first > 9 && second > 0 && second < 1)
  t.equal(third, 0)
  for (let round = 0; round < 100; round++) weights.record(1, 'hit')
  t.ok((weights.weights([10, 10, 10])[1] ?? 0) > 9)
})
