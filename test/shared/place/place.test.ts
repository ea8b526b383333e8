import t from 'tap'
import { DEFAULT_PLACE_POLICY, LOCAL, MeanEstimate, QuantileEstimate, place, queueWaitMs, type PlaceFacts } from '../../../shared/place/place.ts'

const READY: PlaceFacts = {
  hot: true, versionKnown: true, imageHere: true, capable: true, declaredCpuMs: 50, learnedCpuUs: 0, localUs: 0, regionUs: 0, trial: false, sensitivity: 'normal', inFlight: 0, inFlightMax: 10,
  regionInReach: true, waiting: 0, waitingMax: 10,
}

function reasonFor(change: Partial<PlaceFacts>): string {
  const decision = place({ ...READY, ...change }, DEFAULT_PLACE_POLICY)
  return decision.kind === 'local' ? 'local' : decision.reason
}

t.test('each missing condition has its reason, and the first in order wins', async (t) => {
  t.equal(reasonFor({}), 'local')
  t.equal(reasonFor({ inFlight: 10 }), 'capacity')
  t.equal(reasonFor({ imageHere: false }), 'no-image')
  t.equal(reasonFor({ versionKnown: false, imageHere: false }), 'version-unknown')
  t.equal(reasonFor({ hot: false }), 'not-hot')
  t.equal(reasonFor({ hot: false, versionKnown: false, imageHere: false }), 'not-hot')
  t.equal(reasonFor({ learnedCpuUs: 20_001 }), 'heavy')
  t.equal(reasonFor({ declaredCpuMs: 1001, hot: false }), 'heavy')
  t.equal(reasonFor({ capable: false, learnedCpuUs: 20_001, hot: false }), 'capability')
})

t.test('what takes longer here than in a region goes there, the sooner the more its users mind', async (t) => {
  const times = { localUs: 50_000, regionUs: 36_000 }
  t.equal(reasonFor({ ...times, sensitivity: 'low' }), 'local')
  t.equal(reasonFor(times), 'local')
  t.equal(reasonFor({ ...times, sensitivity: 'high' }), 'slow')
  t.equal(reasonFor({ localUs: 50_000, regionUs: 30_000 }), 'slow')
  t.equal(reasonFor({ localUs: 50_000, regionUs: 12_000, sensitivity: 'low' }), 'slow')
  t.equal(reasonFor({ localUs: 50_000, regionUs: 0 }), 'local', 'nothing is known of the region')
  t.equal(reasonFor({ localUs: 10_500, regionUs: 1_000 }), 'local', 'too little to mind')
  t.equal(reasonFor({ localUs: 50_000, regionUs: 30_000, trial: true }), 'local')
  t.equal(reasonFor({ localUs: 50_000, regionUs: 30_000, regionInReach: false }), 'local')
})

t.test('the last room is kept for those that mind the trip', async (t) => {
  t.equal(reasonFor({ sensitivity: 'low', inFlight: 4 }), 'local')
  t.equal(reasonFor({ sensitivity: 'low', inFlight: 5 }), 'capacity')
  t.equal(reasonFor({ inFlight: 9 }), 'local')
  t.equal(reasonFor({ waiting: 9 }), 'local')
  t.equal(reasonFor({ waitingMax: 0 }), 'local')
  t.equal(reasonFor({ waiting: 10 }), 'capacity')
  t.equal(reasonFor({ sensitivity: 'low', waiting: 5 }), 'capacity')
  t.equal(reasonFor({ waiting: 10, regionInReach: false }), 'local')
  t.equal(reasonFor({ waiting: 1, waitingMax: 0 }), 'capacity', 'nobody may wait')
})

t.test('how long one waits here: as long as the trip takes, within bounds', async (t) => {
  t.equal(queueWaitMs(12, 20), 12)
  t.equal(queueWaitMs(300, 20), 20)
  t.equal(queueWaitMs(0.5, 20), 5, 'a trip next door is not worth its work')
  t.equal(queueWaitMs(300, 0), 0)
})

t.test('a mean says nothing until there are enough samples, then follows', async (t) => {
  const mean = new MeanEstimate()
  for (let sample = 0; sample < 7; sample++) mean.record(100)
  t.equal(mean.value, 0)
  mean.record(100)
  t.equal(mean.value, 100)
  for (let sample = 0; sample < 100; sample++) mean.record(1_000)
  t.ok(mean.value > 990 && mean.value <= 1_000)
})

t.test('without a region, whatever can run here does', async (t) => {
  t.equal(reasonFor({ regionInReach: false, hot: false, inFlight: 10, learnedCpuUs: 1e6 }), 'local')
  t.equal(reasonFor({ regionInReach: false, imageHere: false }), 'no-image')
  t.equal(reasonFor({ regionInReach: false, capable: false }), 'capability')
  t.equal(reasonFor({ regionInReach: false, versionKnown: false }), 'version-unknown')
})

t.test('for every combination of facts: local only if it can run, forward only with a reason that holds', async (t) => {
  const booleans = [false, true]
  for (const hot of booleans) for (const versionKnown of booleans) for (const imageHere of booleans) for (const capable of booleans)
    for (const regionInReach of booleans) for (const inFlight of [0, 10]) for (const learnedCpuUs of [0, 1e6]) {
      const facts: PlaceFacts = { ...READY, hot, versionKnown, imageHere, capable, regionInReach, inFlight, learnedCpuUs }
      const decision = place(facts, DEFAULT_PLACE_POLICY)
      if (decision.kind === 'local') {
        t.ok(versionKnown && imageHere && capable, JSON.stringify(facts))
        if (regionInReach) t.ok(hot && inFlight === 0 && learnedCpuUs === 0, JSON.stringify(facts))
      } else {
        const holds = {
          capability: !capable, heavy: learnedCpuUs > 0, 'not-hot': !hot, 'version-unknown': !versionKnown, 'no-image': !imageHere, slow: false, capacity: inFlight === 10, limit: false, session: false,
        }
        t.ok(holds[decision.reason], `${decision.reason} ${JSON.stringify(facts)}`)
      }
    }
})

t.test('a decision is a shared object: none is made per call', async (t) => {
  t.equal(place(READY, DEFAULT_PLACE_POLICY), LOCAL)
  t.equal(place({ ...READY, hot: false }, DEFAULT_PLACE_POLICY), place({ ...READY, hot: false }, DEFAULT_PLACE_POLICY))
})

t.test('the quantile estimate comes near the true value and follows a change', async (t) => {
  const { seededRandom } = await import('../../../shared/random.ts')
  const random = seededRandom(7)
  const estimate = new QuantileEstimate()
  estimate.record(5000)
  for (let sample = 0; sample < 5000; sample++) estimate.record(random.next() * 1000)
  t.ok(estimate.value > 850 && estimate.value < 1050, String(estimate.value))
  for (let sample = 0; sample < 5000; sample++) estimate.record(random.next() * 100)
  t.ok(estimate.value > 80 && estimate.value < 120, String(estimate.value))
  const zero = new QuantileEstimate()
  for (let sample = 0; sample < 100; sample++) zero.record(0)
  t.equal(zero.value, 0)
})
