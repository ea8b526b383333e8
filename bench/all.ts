/** Every benchmark, in the order of the table. */
import type { Benchmark } from './harness/benchmark.ts'
import { density } from './density.ts'
import { hop } from './hop.ts'
import { httpEvent } from './http-event.ts'
import { httpJson } from './http-json.ts'
import { httpLatency } from './http-latency.ts'
import { memoryBudget } from './memory-budget.ts'
import { noisyNeighbour } from './noisy-neighbour.ts'
import { slowUpstream } from './slow-upstream.ts'
import { zipf } from './zipf.ts'

export const BENCHMARKS: readonly Benchmark[] = [httpJson, httpLatency, httpEvent, density, hop, noisyNeighbour, slowUpstream, zipf, memoryBudget]
