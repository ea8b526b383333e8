/** A POP as a process has it: sandboxes, disk, link and front door, wired by constructor. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Clock } from '../shared/clock.ts'
import type { PopConfig } from '../shared/config.ts'
import { CodedError } from '../shared/errors.ts'
import { LINK_KEY_FILE, loadLinkKeyPair, type LinkKeyPair } from '../shared/identity/key-pair.ts'
import { openNats } from '../shared/coordination/open.ts'
import { FunctionLogLines } from '../shared/function-logs/function-log-lines.ts'
import { frontOptions } from '../shared/http/front-options.ts'
import { LinkClient } from '../shared/link/link-client.ts'
import { linkUrl } from '../shared/link/link-url.ts'
import { regionDial } from '../shared/link/region-dial.ts'
import { MIB } from '../shared/limits.ts'
import type { Log } from '../shared/log.ts'
import { systemRandom } from '../shared/random.ts'
import { loadPopKeys } from '../shared/store/pop-keys.ts'
import { registerServiceMetrics } from '../shared/worker/service-metrics.ts'
import { createSandboxHost, DEFAULT_QUEUE_MAX, DEFAULT_SLOTS } from '../shared/worker/create-host.ts'
import { DiskCache } from './disk-cache.ts'
import { registerSiteMetrics } from './metrics.ts'
import { Pop } from './pop.ts'
import { Site } from './site.ts'

export interface StartedPop {
  readonly port: number
  readonly adminPort: number | null
  stop(drainTimeoutMs: number): Promise<void>
}

/** Waiting machines are parked, so what a POP can have under way is bounded by memory long before this. */
const LOCAL_IN_FLIGHT_MAX = 8_000
const ACCOUNT_IN_FLIGHT_MAX = 10_000

export async function startPop(config: PopConfig, { clock, log, workers, onHangup }: { readonly clock: Clock; readonly log: Log; readonly workers: number; readonly onHangup: (listener: () => void) => void }): Promise<StartedPop> {
  const front = frontOptions(config)
  // Without a data folder images are kept as long as the process.
  const temporary = config.dataDir === null ? mkdtempSync(join(tmpdir(), 'outpost-pop-')) : null
  const folder = config.dataDir ?? temporary ?? ''
  const keys = loadPopKeys(join(folder, 'pop-key.json'))
  const coordination = openNats(config, { clock, log })
  const dials = config.regionUrls.map((url) => regionDial({ url, fingerprints: config.regionFingerprints, caFile: config.regionCaFile, token: config.token, keys: () => linkKeys(config) }))
  const disk = await DiskCache.open({ path: join(folder, 'cache'), clock, log })
  const logLines = new FunctionLogLines({ tier: 'pop', clock, log })
  const host = await createSandboxHost({
    workers, slots: DEFAULT_SLOTS, memoryMib: config.memoryMib, queueMax: DEFAULT_QUEUE_MAX, clock, log,
    siteName: config.site, egressAllowed: config.egressAllow, ownPorts: [config.port, config.adminPort ?? 0],
    onLogLine: (build, requestId, level, text) => logLines.add({ account: build.account, functionName: build.functionName, version: build.version, requestId, level, text }),
    onException: (build, requestId, exception) => logLines.addException(build, requestId, exception),
  })
  const pop = new Pop({
    host, disk, keys, clock, random: systemRandom, log,
    regions: config.regionUrls.map((url) => new URL(url).host),
    connect: (index, { holds, onRtt }) => new LinkClient({ url: linkUrl(config.regionUrls[index] ?? ''), token: '', ...dials[index], popId: `${hostname()}-${config.port}`, publicKey: keys.publicKey, clock, random: systemRandom, log, holds, onRtt }),
    http: { mode: config.dev ? 'dev' : 'production', host: config.host, port: config.port, adminPort: config.adminPort, scheduledPaths: config.dev || config.testScheduled, ...front },
    wrapDispatcher: (inner) => logLines.atPop(inner),
    slots: 'leased', accountInFlightMax: ACCOUNT_IN_FLIGHT_MAX, localInFlightMax: LOCAL_IN_FLIGHT_MAX,
    area: config.area, queueWaitMaxMs: config.queueWaitMaxMs,
    // What lies on the disk of one of several hosts may have gone on elsewhere.
    sessions: { ...config, dataDir: coordination === null ? config.dataDir : null, place: { kind: 'site', site: config.site } },
    admitCount: config.hotMinRequests, staleMaxMs: config.staleMaxMs,
    // Images may take what the arena has: half of the budget.
    hotSetBytes: (config.memoryMib / 2) * MIB,
  })
  const site = coordination === null ? null : new Site({
    coordination, siteName: config.site, keys: loadLinkKeyPair(join(folder, LINK_KEY_FILE)), publicKey: keys.publicKey, host: config.host, advertise: config.advertise, capacity: DEFAULT_SLOTS,
    newName: () => `${hostname()}-${config.port}-${randomBytes(4).toString('hex')}`.replaceAll(/[^A-Za-z0-9._-]/g, '-').slice(-64),
    tripMs: () => pop.tripMs, sessions: pop.sessionParts, clock, random: systemRandom, log,
  }, pop.dispatcher)
  if (site !== null) registerSiteMetrics(pop.registry, site, pop.dispatcher)
  host.services.attach(pop.dispatcher)
  registerServiceMetrics(pop.registry, 'pop', host.services)
  const { port, adminPort } = await pop.start()
  await site?.start()
  if (front.tls !== null) onHangup(() => pop.frontDoor.reloadCertificate())
  return {
    port, adminPort,
    async stop(drainTimeoutMs) {
      await site?.drain(drainTimeoutMs)
      await pop.drain(drainTimeoutMs)
      await pop.close()
      await site?.close()
      await coordination?.close()
      if (temporary !== null) rmSync(temporary, { recursive: true, force: true })
    },
  }
}

function linkKeys({ dataDir }: PopConfig): LinkKeyPair {
  if (dataDir === null) throw new CodedError('ERR_CONFIG', ['dataDir (--data or OUTPOST_POP_DATA): must be given with an https: region, which knows this POP by the key that is kept there'])
  return loadLinkKeyPair(join(dataDir, LINK_KEY_FILE))
}
