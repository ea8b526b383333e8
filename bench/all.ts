/** Every benchmark, in the order of the specification's table. */
import type { Benchmark } from './harness/benchmark.ts'
import { density } from './density.ts'
import { engineSlowdown } from './engine-slowdown.ts'
import { guestTime } from './guest-time.ts'
import { honoHello } from './hono-hello.ts'
import { honoImage } from './hono-image.ts'
import { hop } from './hop.ts'
import { httpEvent } from './http-event.ts'
import { httpJson } from './http-json.ts'
import { httpLatency } from './http-latency.ts'
import { memoryBudget } from './memory-budget.ts'
import { noisyNeighbour } from './noisy-neighbour.ts'
import { pull } from './pull.ts'
import { resetCost } from './reset-cost.ts'
import { storeRead } from './store-read.ts'
import { simCold } from './sim/cold-share.ts'
import { simHotSet } from './sim/hot-set.ts'
import { simProbe } from './sim/probe.ts'
import { simLimits } from './sim/limit-growth.ts'
import { simRing } from './sim/ring-load.ts'
import { slowUpstream } from './slow-upstream.ts'
import { store } from './store.ts'
import { streamedBody } from './streamed-body.ts'
import { zipf } from './zipf.ts'

export const BENCHMARKS: readonly Benchmark[] = [
  httpJson, httpLatency, httpEvent, guestTime, resetCost, honoImage, honoHello, engineSlowdown, density, hop, noisyNeighbour, slowUpstream, zipf, memoryBudget, streamedBody, store, storeRead, pull,
  simHotSet, simProbe, simRing, simLimits, simCold,
]
