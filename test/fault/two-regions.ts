/**
 * A POP with two regions, one near and one far, as real processes with lines between them. Each region has a registry of
 * its own here, so what is deployed is deployed to both, in the same order: then their change numbers agree.
 */
import type { Test } from 'tap'
import { look, startCallers, type Callers, type Seen } from '../support/callers.ts'
import { eventually } from '../support/dev-server.ts'
import { deploy, startNet, type Net, type NetTier } from '../support/net-site.ts'
import { answering } from './far.ts'

/** A trip to the far region and back; to the near one 10 ms. */
export const FAR_MS = 300
const COLD = 40
const SLOW = 'export default { async fetch() { await new Promise((r) => setTimeout(r, 60_000)) } }'
const BRIEF = 'export default { async fetch() { await new Promise((r) => setTimeout(r, 300)); return new Response("brief") } }'

export interface Place {
  readonly net: Net
  readonly pop: NetTier
  readonly near: NetTier
  readonly far: NetTier
  /** Calls functions that are never hot, until told to stop. */
  cold(t: Test, count?: number): Callers
}

export async function startPlace(t: Test): Promise<Place | null> {
  const net = await startNet(t, ['pop', 'near', 'far'])
  if (net === null) return null
  const small = { argv: ['--workers', '1', '--memory', '256'] }
  const [near, far] = await Promise.all([net.region('near', small), net.region('far', small)])
  for (const region of [near, far]) {
    await deploy(region, 'hot', answering('hot'))
    await deploy(region, 'slow', SLOW, { Timeout: 60 })
    await deploy(region, 'brief', BRIEF, { Outpost: { Limits: { CpuMs: 5_000 } } })
    for (let index = 0; index < COLD; index += 1) await deploy(region, `cold${index}`, answering('cold'))
  }
  await net.wan.between('pop', 'near', { delayMs: 5 })
  await net.wan.between('pop', 'far', { delayMs: FAR_MS / 2 })
  const pop = await net.pop('pop', [near, far], { argv: ['--workers', '1', '--memory', '256', '--hot-min-requests', '1000'] })
  await eventually(() => look(pop, 'cold0'), ({ status }) => status === 200)
  let next = 0
  await untilLinked(pop)
  await untilMeasured(pop)
  return { net, pop, near, far, cold: (test, count = 2) => startCallers(test, () => [pop, `cold${next++ % COLD}`], { count, pauseMs: 20 }) }
}

export function after(seen: readonly Seen[], atMs: number): readonly Seen[] {
  return seen.filter((call) => call.atMs >= atMs)
}

/** Until the POP has a link to both. */
export async function untilLinked(pop: NetTier): Promise<void> {
  await eventually(async () => valuesOf(await pop.metrics(), 'pop_regions_open'), (open) => open.length === 2 && open.every((value) => value === 1))
}

/** What it has not measured counts as a second. */
async function untilMeasured(pop: NetTier): Promise<void> {
  await eventually(async () => valuesOf(await pop.metrics(), 'pop_regions_latency_ms'), (trips) => trips.length === 2 && trips.every((ms) => ms < 900))
}

function valuesOf(metrics: string, name: string): number[] {
  return [...metrics.matchAll(new RegExp(`^${name}\\{.*\\} (.*)$`, 'gm'))].map(([, value]) => Number(value))
}
