import t from 'tap'
import { afterFailure, chooseRegion, DEFAULT_REGION_POLICY, LatencyEstimate, type AttemptFacts, type RegionFacts } from '../../../shared/place/regions.ts'
import { seededRandom } from '../../../shared/random.ts'

const NEAR: RegionFacts = { inReach: true, position: 10, warm: false, latencyMs: 5, load: 0 }

function choose(required: number, regions: readonly Partial<RegionFacts>[], tried: readonly number[] = []): string {
  const choice = chooseRegion(required, regions.map((region) => ({ ...NEAR, ...region })), new Set(tried), DEFAULT_REGION_POLICY)
  return choice.kind === 'none' ? choice.because : `${choice.index} ${choice.by}`
}

t.test('when no region can be chosen it says why', async (t) => {
  t.equal(choose(10, []), 'unreachable')
  t.equal(choose(10, [{ inReach: false }, { inReach: false }]), 'unreachable')
  t.equal(choose(11, [{}, { inReach: false, position: 11 }]), 'behind')
  t.equal(choose(10, [{}, { inReach: false }], [0]), 'tried')
  t.equal(choose(10, [{ inReach: false }], [0]), 'tried')
})

t.test('a region without the current version is not chosen, however near, warm and idle it is; a single one is', async (t) => {
  t.equal(choose(11, [{ warm: true, latencyMs: 0 }, { position: 11, latencyMs: 400, load: 1 }]), '1 only')
  t.equal(choose(11, [{ warm: true, latencyMs: 0 }, { position: 11, latencyMs: 400, load: 1 }], [1]), 'tried')
  t.equal(choose(11, [{}]), '0 only')
})

t.test('stage by stage: warm, then near, then least load, then the order given', async (t) => {
  t.equal(choose(10, [{ latencyMs: 5 }, { latencyMs: 40, warm: true }]), '1 warm')
  t.equal(choose(10, [{ latencyMs: 5 }, { latencyMs: 56, warm: true }]), '0 latency', 'the trip costs more than the start')
  t.equal(choose(10, [{ latencyMs: 30, warm: true }, { latencyMs: 20, warm: true }, { latencyMs: 1 }]), '1 latency')
  t.equal(choose(10, [{ latencyMs: 100 }, { latencyMs: 5 }]), '1 latency')
  t.equal(choose(10, [{ latencyMs: 110, load: 0.5 }, { latencyMs: 100, load: 0.6 }]), '0 load')
  t.equal(choose(10, [{ latencyMs: 6.9, load: 0.5 }, { latencyMs: 5, load: 0.5 }]), '0 order')
  t.equal(choose(10, [{ latencyMs: 7.1 }, { latencyMs: 5 }]), '1 latency')
})

t.test('whatever the facts, who is chosen is in reach, current and not tried, and equal facts give equal choices', async (t) => {
  const random = seededRandom(7)
  for (let round = 0; round < 20_000; round++) {
    const regions = Array.from({ length: 2 + Math.floor(random.next() * 4) }, (): RegionFacts => ({
      inReach: random.next() < 0.8, position: Math.floor(random.next() * 4), warm: random.next() < 0.5, latencyMs: random.next() * 200, load: random.next(),
    }))
    const required = Math.floor(random.next() * 4)
    const tried = new Set(regions.flatMap((_, index) => (random.next() < 0.2 ? [index] : [])))
    const choice = chooseRegion(required, regions, tried, DEFAULT_REGION_POLICY)
    const eligible = regions.flatMap(({ inReach, position }, index) => (inReach && position >= required && !tried.has(index) ? [index] : []))
    if ((choice.kind === 'chosen') !== eligible.length > 0) t.fail(JSON.stringify({ regions, required, tried: [...tried], choice }))
    if (choice.kind === 'chosen' && !eligible.includes(choice.index)) t.fail(JSON.stringify({ regions, required, tried: [...tried], choice }))
    t.strictSame(chooseRegion(required, regions, tried, DEFAULT_REGION_POLICY), choice)
  }
})

t.test('what is tried elsewhere after a failure', async (t) => {
  const attempt = (change: Partial<AttemptFacts>): string => afterFailure({ code: 'ERR_REGION_LOST', heard: 'nothing', idempotent: false, bodyKept: true, remainingMs: 1_000, ...change })
  const table: readonly (readonly [Partial<AttemptFacts>, string])[] = [
    [{ heard: 'started' }, 'over'],
    [{ heard: 'head', idempotent: true }, 'over'],
    [{ remainingMs: 0 }, 'over'],
    [{ bodyKept: false }, 'body'],
    [{ heard: 'started', idempotent: true, bodyKept: false }, 'body'],
    // A region's own answers, full ones among them, are the answer.
    [{ code: 'ERR_QUEUE_FULL' }, 'over'],
    [{ code: 'ERR_NO_CAPACITY' }, 'over'],
    [{ code: 'ERR_ACCOUNT_LIMIT' }, 'over'],
    [{ code: 'ERR_FUNCTION_NOT_FOUND' }, 'over'],
    [{ code: 'ERR_INTERNAL' }, 'over'],
    [{ code: 'ERR_LINK_LOOP' }, 'over'],
    [{ code: 'ERR_CANCELED' }, 'over'],
    [{}, 'elsewhere'],
    [{ code: 'ERR_REGION_UNREACHABLE' }, 'elsewhere'],
    [{ code: 'ERR_REGION_TIMEOUT' }, 'elsewhere'],
    [{ code: 'ERR_DRAINING' }, 'elsewhere'],
    [{ code: 'ERR_ACCOUNT_ELSEWHERE' }, 'elsewhere'],
    [{ code: 'ERR_ACCOUNT_ELSEWHERE', bodyKept: false }, 'over'],
    [{ heard: 'started', idempotent: true }, 'elsewhere'],
  ]
  for (const [change, verdict] of table) t.equal(attempt(change), verdict, JSON.stringify(change))
})

t.test('latency: smoothed, worse after failures and while a ping has no answer, forgiven with time', async (t) => {
  const estimate = new LatencyEstimate()
  t.equal(estimate.valueAt(0), 1_000, 'unknown is far')
  estimate.sample(10)
  t.equal(estimate.valueAt(0), 10)
  estimate.sample(90)
  t.equal(estimate.valueAt(0), 20)
  t.equal(estimate.valueAt(0, 3_000), 3_000)
  estimate.failed(0)
  t.equal(estimate.valueAt(0), 270)
  t.equal(estimate.valueAt(10_000), 145)
  for (let failure = 0; failure < 100; failure++) estimate.failed(10_000)
  t.equal(estimate.valueAt(10_000), 2_020, 'bounded')
  t.equal(estimate.valueAt(1_000_000), 20)
})
