/** A region as a process has it: store, registry, builder, sandboxes, links and front door, wired by constructor. */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { devAuthenticator, type KeysFile, parseKeys } from '../shared/api/keys.ts'
import { SigV4Authenticator } from '../shared/api/sigv4.ts'
import type { Clock } from '../shared/clock.ts'
import type { RegionConfig } from '../shared/config.ts'
import { openCoordination } from '../shared/coordination/open.ts'
import type { Coordination } from '../shared/coordination/types.ts'
import { CodedError, toCodedError } from '../shared/errors.ts'
import { GC_GRACE_MS, GC_PERIOD_MS, SCRUB_BYTES_PER_SECOND, SCRUB_PAUSE_MS } from '../shared/limits.ts'
import { FunctionLogLines } from '../shared/function-logs/function-log-lines.ts'
import { FrontDoor } from '../shared/http/front-door.ts'
import { frontOptions } from '../shared/http/front-options.ts'
import type { ControlCall } from '../shared/http/types.ts'
import { dialTls, dialWebSocket } from '../shared/link/dial.ts'
import { LinkClient } from '../shared/link/link-client.ts'
import { TopicTable } from '../shared/link/topics.ts'
import { linkUrl } from '../shared/link/link-url.ts'
import { regionDial } from '../shared/link/region-dial.ts'
import type { Log } from '../shared/log.ts'
import { ProcessImageBuilder } from '../shared/microvm/process-builder.ts'
import { systemRandom } from '../shared/random.ts'
import { parseFingerprint } from '../shared/identity/fingerprint.ts'
import { LINK_KEY_FILE, loadLinkKeyPair, type LinkKeyPair } from '../shared/identity/key-pair.ts'
import { POPS_BUCKET } from '../shared/identity/pop-records.ts'
import { createSessionTable } from '../shared/sessions/create-table.ts'
import { registerSessionMetrics } from '../shared/sessions/metrics.ts'
import { Keyring } from '../shared/store/keyring.ts'
import { LmdbEnvironment } from '../shared/store/lmdb-environment.ts'
import { ObjectStore } from '../shared/store/object-store.ts'
import { makePopKeys } from '../shared/store/pop-keys.ts'
import { Repairer, Scrubber } from '../shared/store/repair.ts'
import { Collector } from '../shared/store/roots.ts'
import { type SaltOptions, SaltPolicy } from '../shared/store/salts.ts'
import { createSandboxHost, DEFAULT_QUEUE_MAX, DEFAULT_SLOTS } from '../shared/worker/create-host.ts'
import { registerServiceMetrics } from '../shared/worker/service-metrics.ts'
import { Content } from './content.ts'
import { Housekeeping } from './housekeeping.ts'
import { registerLimitMetrics } from './limits/metrics.ts'
import { RegionLimits } from './limits/region-limits.ts'
import { acceptsToken, loadRegionKeys, openRegionLinks } from './links.ts'
import { registerLinkMetrics, registerRegionMetrics } from './metrics.ts'
import { RegionNodes, type RegionNodesOptions } from './nodes.ts'
import { PopDirectory } from './pop-directory.ts'
import { Region } from './region.ts'
import { openRegistry } from './open-registry.ts'

export interface StartedRegion {
  readonly port: number
  readonly adminPort: number | null
  stop(drainTimeoutMs: number): Promise<void>
}

const HOUR_MS = 3_600_000

export async function startRegion(config: RegionConfig, { clock, log, workers, onHangup }: { readonly clock: Clock; readonly log: Log; readonly workers: number; readonly onHangup: (listener: () => void) => void }): Promise<StartedRegion> {
  const { regionName } = config
  const accessKeys = readKeys(config)
  const authenticator = accessKeys === NO_KEYS ? devAuthenticator : new SigV4Authenticator({ keys: accessKeys, clock })
  const front = frontOptions(config)
  const keys = loadRegionKeys(config)
  const peer = makePeer(config, clock, log)
  const coordination = await openCoordination(config, { clock, log })
  const environment = LmdbEnvironment.open({ path: join(config.dataDir, 'store') })
  const keyring = Keyring.load(config.keyringFile ?? join(config.dataDir, 'keyring.json'))
  const salts = new SaltPolicy(saltOptionsOf(config))
  const store = new ObjectStore({ environment, keyring, salts, isolateAccounts: config.isolateAccounts, clock, log })
  const content = new Content(store)
  const { registry, ...opened } = await openRegistry({ environment, regionName, content, keyring, coordination, store, clock, log })
  const collector = new Collector({ store, live: () => registry.liveObjects(), clock, log, graceMs: GC_GRACE_MS })
  const repairer = new Repairer({ store, log, peer })
  const scrubber = new Scrubber({ store, clock, log, bytesPerSecond: SCRUB_BYTES_PER_SECOND, pauseMs: SCRUB_PAUSE_MS })
  const housekeeping = new Housekeeping({ collector, scrubber, repairer, clock, log, gcPeriodMs: GC_PERIOD_MS })
  const builder = new ProcessImageBuilder({ clock, log: log.child('builder') })
  builder.warm()
  const logLines = new FunctionLogLines({ tier: 'region', clock, log })
  const host = await createSandboxHost({
    workers, slots: DEFAULT_SLOTS, memoryMib: config.memoryMib, queueMax: DEFAULT_QUEUE_MAX, clock, log,
    siteName: config.regionName, egressAllowed: config.egressAllow, ownPorts: [config.port, config.adminPort ?? 0],
    onLogLine: (build, requestId, level, text) => logLines.add({ account: build.account, functionName: build.functionName, version: build.version, requestId, level, text }),
    onException: (build, requestId, exception) => logLines.addException(build, requestId, exception),
  })
  const topics = new TopicTable()
  const nodes = coordination.kind === 'embedded' ? null : makeNodes(config, keys, coordination, { topics, registry, clock, log })
  const directory = await PopDirectory.open({ documents: await coordination.documents(POPS_BUCKET), unregisteredMayHaveAll: acceptsToken(config), log })
  const limits = await RegionLimits.open({
    coordination, host, clock, random: systemRandom, log,
    nodes: nodes === null ? null : { peers: nodes.peers, group: nodes.managers },
    allows: (popId, account, functionName) => region.mayHave(popId, account, functionName),
    defaultConcurrency: config.accountConcurrency, concurrencyOf: (account) => accessKeys.concurrencyOf(account),
  })
  limits.answer(topics)
  const sessions = createSessionTable({
    // What is on the disk of a node that comes back may have gone on elsewhere.
    ...config, dataDir: nodes === null ? config.dataDir : null, place: { kind: 'region' }, clock, log,
    keys: { current: (account) => keyring.sessionKey(account, 'region'), of: (account, version) => keyring.sessionKey(account, 'region', version) },
    buildOf: ({ account, functionName }, key) => registry.buildOf(account, functionName, key),
  })
  nodes?.own(sessions)
  const region = new Region({
    ...opened.parts, admission: limits.admission, accounts: limits.book, grants: directory, nodes: nodes?.router ?? null, topics, sessions, popSessionKey: (account) => keyring.sessionKey(account, 'pop'),
    content, registry, builder, host, clock, log, authenticator, regionName, engineBuild: () => host.engineBuild,
  })
  host.services.attach(region)
  opened.start()
  await region.start()
  peer?.start()
  housekeeping.start()
  // What cannot be taken back now is looked at again at the next start. A registry that follows others' may not know everything yet.
  if (coordination.kind === 'embedded') void limits.book.forget((account, name) => registry.read(account, name).function() !== null).catch((error: unknown) => log.warn('reservations of deleted functions could not be taken back', { code: toCodedError(error).code }))
  const dispatcher = logLines.atRegion(region, { authenticate: (call) => region.authenticate(call), exists: (account, name) => registry.read(account, name).function() !== null })
  const links = await openRegionLinks({
    config, keys, regionId: regionName, memberId: () => nodes?.peers.self ?? regionName, directory, registry, region,
    handler: { ...region.links, control: (_popId, call) => dispatcher.control(call) }, clock, log,
    ...(nodes === null ? {} : { wrapIdentity: (identity) => nodes.identity(identity) }),
  })
  const door = new FrontDoor({
    tier: 'region', mode: config.dev ? 'dev' : 'production', dispatcher, clock, log, host: config.host, port: config.port, adminPort: config.adminPort, ...front,
    awsRegion: regionName, attach: (app) => links.server.attach(app),
    invokeAuth: config.dev ? { kind: 'any' } : { kind: 'verify', verify: (call) => accountOf(region, call) },
  })
  registerLinkMetrics(door.registry, links, directory)
  registerRegionMetrics(door.registry, { store, collector, scrubber, popReports: region.popReports, nodes })
  registerLimitMetrics(door.registry, limits)
  registerSessionMetrics(door.registry, 'region', sessions)
  registerServiceMetrics(door.registry, 'region', host.services)
  const { port, adminPort } = await door.listen()
  if (front.tls !== null) onHangup(() => door.reloadCertificate())
  await nodes?.start(region, addressOf(config, links.listener?.port ?? port))
  return {
    port, adminPort,
    async stop(drainTimeoutMs) {
      // Calls go elsewhere from here on by themselves; those that still come here are answered.
      await nodes?.drain(drainTimeoutMs)
      await Promise.all([door.drain(drainTimeoutMs), links.drain(drainTimeoutMs)])
      await region.drain(drainTimeoutMs)
      await limits.resign()
      limits.close()
      links.close()
      directory.close()
      await door.close()
      await nodes?.leave()
      await opened.stop()
      await coordination.close()
      peer?.close()
      await Promise.all([host.close(), builder.close(), housekeeping.stop()])
      await environment.close()
    },
  }
}

/** The other nodes of this region, by what the group knows of them: its key and the address of its link port, if it has one. */
function makeNodes({ regionName, peerToken, port }: RegionConfig, keys: LinkKeyPair | null, coordination: Coordination, parts: Pick<RegionNodesOptions, 'topics' | 'registry' | 'clock' | 'log'>): RegionNodes {
  if (peerToken === null && keys === null) throw new CodedError('ERR_CONFIG', ['linkPort (--link-port) or peerToken (--peer-token or OUTPOST_PEER_TOKEN): nodes of one region know each other by their keys, or on loopback by the token'])
  const { clock, log } = parts
  const { publicKey } = makePopKeys()
  return new RegionNodes({
    ...parts, random: systemRandom, coordination, regionName, capacity: DEFAULT_SLOTS, fingerprint: keys?.fingerprint ?? null,
    newName: () => `${hostname()}-${port}-${randomBytes(4).toString('hex')}`.replaceAll(/[^A-Za-z0-9._-]/g, '-').slice(-64),
    makeLink({ memberId, info }, self) {
      const key = info.fingerprint === null ? null : parseFingerprint(info.fingerprint)
      // A node with a key shows the token to nobody, whatever the group says of a member.
      const tls = keys === null ? null : dialTls({ keys, trust: { kind: 'pinned', fingerprints: key === null ? [] : [key] } })
      return new LinkClient({
        url: linkUrl(`${tls === null ? 'http' : 'https'}://${info.address}`), token: tls === null ? (peerToken ?? '') : '', dial: tls ?? dialWebSocket,
        popId: self, publicKey, role: 'node', expects: memberId, clock, random: systemRandom, log,
      })
    },
  })
}

/** Of this node's links. */
function addressOf({ advertise, host }: RegionConfig, port: number): string {
  if (advertise !== null) return advertise
  if (host === '0.0.0.0' || host === '::') throw new CodedError('ERR_CONFIG', ['advertise (--advertise or OUTPOST_REGION_ADVERTISE): must say where other nodes reach this one, which listens everywhere'])
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

/** The link to another region, asked for what is damaged here. */
function makePeer({ peerUrl, peerToken, peerFingerprints, dataDir, port }: RegionConfig, clock: Clock, log: Log): LinkClient | null {
  if (peerUrl === null) return null
  const way = regionDial({ url: peerUrl, fingerprints: peerFingerprints, caFile: null, token: peerToken, keys: () => loadLinkKeyPair(join(dataDir, LINK_KEY_FILE)) })
  // Nothing is wrapped for a region: it has the keys to what it lost.
  return new LinkClient({ url: linkUrl(peerUrl), ...way, popId: `${hostname()}-${port}`, publicKey: makePopKeys().publicKey, role: 'region', clock, random: systemRandom, log: log.child('peer') })
}

function saltOptionsOf({ copiesBy: by, copies, copiesEpochHours, copiesZones, copiesZone }: RegionConfig): SaltOptions {
  if (by === 'epoch') return { by, copies, epochMs: copiesEpochHours * HOUR_MS }
  if (by === 'location') return { by, zones: [...copiesZones], zone: copiesZone ?? '' }
  return { by, copies }
}

/** In development any key will do. */
const NO_KEYS: KeysFile = { lookup: () => null, concurrencyOf: () => null }

function readKeys(config: RegionConfig): KeysFile {
  if (config.dev) return NO_KEYS
  if (config.keysFile === null) throw new CodedError('ERR_CONFIG', ['keysFile (--keys or OUTPOST_REGION_KEYS): a region that is not a development server needs access keys'])
  let text: string
  try {
    text = readFileSync(config.keysFile, 'utf8')
  } catch (error) {
    throw new CodedError('ERR_CONFIG', [`keysFile (--keys or OUTPOST_REGION_KEYS): ${config.keysFile} cannot be read: ${toCodedError(error).message}`])
  }
  return parseKeys(text)
}

function accountOf(region: Region, call: ControlCall): string | CodedError {
  try {
    return region.authenticate(call)
  } catch (error) {
    return toCodedError(error)
  }
}
