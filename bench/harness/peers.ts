/** Starting the parties of a comparison, each warmed up, with the one Outpost function a benchmark is about. */
import { fixture, type FixtureName } from './fixtures.ts'
import type { BenchmarkContext } from './benchmark.ts'
import { OUTPOST_DEFAULTS, type Outpost, type OutpostOptions } from '../servers/outpost.ts'
import { startBareUws } from '../servers/bare-uws.ts'
import { startWorkerd } from '../servers/workerd.ts'
import type { Server, Target } from '../servers/server.ts'
import { runWrk, type Check } from '../load/wrk.ts'

export type PeerName = 'outpost' | 'workerd' | 'bareUws'

export interface Peer {
  readonly server: Server
  readonly target: Target
  /** Outpost starts every request anew, so its counter must read 1; the others count on. */
  readonly check: Check
}

/** An Outpost with this fixture deployed and hot. */
export async function startOutpostWith(context: BenchmarkContext, name: FixtureName, options: Partial<OutpostOptions> = {}): Promise<{ outpost: Outpost; peer: Peer }> {
  context.progress(`starting Outpost with ${name}`)
  const outpost = await context.startOutpost(context.scope, { ...OUTPOST_DEFAULTS, ...options })
  await outpost.deploy({ name, source: fixture(name), cpuMs: null })
  await outpost.untilHot(name, 30_000)
  // Region and builder count too: they are server processes, and must cost nothing when idle.
  const server = { ...outpost.pop, pids: [...outpost.pop.pids, ...outpost.region.pids] }
  return { outpost, peer: { server, target: outpost.pop.target(name), check: 'fresh' } }
}

export async function startWorkerdWith(context: BenchmarkContext, name: FixtureName): Promise<Peer> {
  context.progress(`starting workerd with ${name}`)
  const server = await startWorkerd(context.scope, [fixture(name)])
  return { server, target: server.target(), check: 'any' }
}

export async function startBareUwsPeer(context: BenchmarkContext): Promise<Peer> {
  context.progress('starting bare uWebSockets.js')
  const server = await startBareUws(context.scope)
  return { server, target: server.target(), check: 'any' }
}

/** Compilers warm, pools filled, GC heaps at their working size. */
export async function warmUp(context: BenchmarkContext, peers: readonly Peer[]): Promise<void> {
  if (context.quick) return
  for (const peer of peers) {
    context.progress(`warming up ${peer.server.name}`)
    await runWrk(context.scope, peer.target, { connections: 32, durationS: 3, check: peer.check })
  }
}
