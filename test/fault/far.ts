/** A POP far from its region, as its clients see it: what the tests of this folder ask again and again. */
import { setTimeout as sleep } from 'node:timers/promises'
import { look, type Callers, type Seen } from '../support/callers.ts'
import { eventually } from '../support/dev-server.ts'
import type { NetSite } from '../support/net-site.ts'

/** What the machine itself may add to anything here: a worker that is woken late on two busy cores. */
export const BUSY_MS = 400
/** A call at the POP that touches no network, p50. */
export const HOT_MS = 40
export function answering(text: string): string {
  return `export default { fetch: () => new Response(${JSON.stringify(text)}) }`
}

export async function calls(site: NetSite, name: string, count: number): Promise<Seen[]> {
  const seen: Seen[] = []
  for (let times = 0; times < count; times += 1) seen.push(await look(site.pop, name))
  return seen
}

export async function setLine(site: NetSite, rttMs: number, loss = 0): Promise<void> {
  await site.wan.between('pop', 'region', { delayMs: rttMs / 2, loss, seed: 4 })
}

/** Calls until the POP answers by itself; ms from the first call. */
export async function untilHotMs(site: NetSite, name: string): Promise<{ readonly tookMs: number; readonly seen: readonly Seen[] }> {
  const startedAtMs = performance.now()
  const seen: Seen[] = []
  for (;;) {
    const latest = await look(site.pop, name)
    seen.push(latest)
    if (latest.place === 'pop' || seen.length === 1_000) return { tookMs: latest.atMs - startedAtMs, seen }
    await sleep(5)
  }
}

/** Calls one after the other from the publish's acknowledgement on; ms until the first answer of the new version came. */
export async function untilSeenMs(site: NetSite, name: string, text: string): Promise<{ readonly tookMs: number; readonly seen: readonly Seen[] }> {
  const startedAtMs = performance.now()
  const seen: Seen[] = []
  for (;;) {
    const latest = await look(site.pop, name)
    seen.push(latest)
    if (latest.body === text || seen.length === 1_000) return { tookMs: latest.atMs + latest.tookMs - startedAtMs, seen }
  }
}

/** Slots of an account that a region has just granted count for ten seconds until the POP has confirmed them, which it does once a second. */
export async function untilConfirmed(hot: Callers): Promise<void> {
  await eventually(async () => performance.now() - (hot.seen[0]?.atMs ?? Infinity), (ms) => ms > 2_500)
}
