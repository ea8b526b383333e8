/**
 * Regions and POPs as real processes with production settings, each at a host of its own, with a network between them that
 * a test can make slow or break (wan.ts). They know each other by their keys. The client is the test itself, the host `here`.
 *
 *   here --- pop --- region         (any host can talk to any other; every line can be set by itself)
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { zipSync } from 'fflate'
import type { Test } from 'tap'
import { ApiClient, type ConfigurationMembers } from '../../shared/cli/api-client.ts'
import { deployFunction } from '../../shared/cli/deployment.ts'
import { BIN, runHere, start, type StartedProcess } from './cli.ts'
import { eventually } from './dev-server.ts'
import { LINK_KEY_FILE, loadLinkKeyPair } from '../../shared/identity/key-pair.ts'
import { call, registerPop, type Called, type Tier } from './site.ts'
import { findTool, needTool } from './tools.ts'
import { needWan, type Wan } from './wan.ts'

const KEY = { accessKeyId: 'network-test', secretAccessKey: 'a secret of the network test' }
const PORTS = { pop: 8787, region: 8788 } as const
/** A region's link port is this much above its own. */
const LINK_PORT_ABOVE = 10_000
const ADMIN_PORT = 9787
const NATS_PORT = 4222

export interface NetTier extends Tier {
  readonly host: string
  readonly pid: () => number
  /** Memory that the process has now, bytes. */
  residentBytes(): number
  /** What the admin port says, asked at the host itself. */
  metrics(): Promise<string>
}

export interface TierOptions {
  readonly argv?: readonly string[]
  /** Its calendar is this much off, s. */
  readonly clockShiftS?: number
  /** Of the tier's own if not given, so that several can be at one host. */
  readonly port?: number
}

export interface Net {
  readonly wan: Wan
  /** A file or folder of this network's, gone with the test. */
  path(name: string): string
  region(host: string, options?: TierOptions): Promise<NetTier>
  /** `regions`: where it is told that they are, registered there. */
  pop(host: string, regions: Tier | readonly Tier[], options?: TierOptions): Promise<NetTier>
  /** A NATS server with JetStream; it can be killed and started again. Null after the test was skipped for want of it: return then. */
  nats(host: string): Promise<NetTier | null>
  /** Any other process at a host; ends with the test. */
  process(host: string, command: readonly string[], env?: Readonly<Record<string, string>>): StartedProcess
}

/** Null after the test was skipped: return then. */
export async function startNet(t: Test, hosts: readonly string[]): Promise<Net | null> {
  const wan = await needWan(t, ['here', ...hosts])
  if (wan === null) return null
  const folder = mkdtempSync(join(tmpdir(), 'outpost-net-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const path = (name: string): string => join(folder, name)
  const keysFile = path('keys.json')
  writeFileSync(keysFile, JSON.stringify({ keys: [{ accessKeyId: KEY.accessKeyId, secret: KEY.secretAccessKey, account: '000000000000' }] }))
  const folderOf = (kind: 'region' | 'pop', host: string, options: TierOptions): string => path(`${kind}-${host}-${options.port ?? ''}`)
  /** Data folders by address: a POP is registered at the region that it is told of. */
  const regions = new Map<string, string>()
  let registering: Promise<unknown> = Promise.resolve()
  const tier = async (kind: 'region' | 'pop', host: string, argv: readonly string[], options: TierOptions): Promise<NetTier> => {
    const data = folderOf(kind, host, options)
    mkdirSync(data, { recursive: true })
    const port = options.port ?? PORTS[kind]
    const command = [process.execPath, BIN, kind, '--host', wan.address(host), '--port', String(port), '--admin-port', String(ADMIN_PORT + port - PORTS[kind]), '--data', data, ...argv, ...(options.argv ?? [])]
    return startTier(t, { wan, kind, host, command, port, ready: '"message":"ready"', env: options.clockShiftS === undefined ? {} : shiftedClock(folder, options.clockShiftS) })
  }
  return {
    wan, path,
    async region(host, options = {}) {
      const region = await tier('region', host, ['--keys', keysFile, '--link-port', String((options.port ?? PORTS.region) + LINK_PORT_ABOVE)], options)
      regions.set(region.url, folderOf('region', host, options))
      return region
    },
    async pop(host, among, options = {}) {
      const data = folderOf('pop', host, options)
      mkdirSync(data)
      const fingerprints: string[] = []
      const ways: string[] = []
      for (const region of 'url' in among ? [among] : among) {
        const regionData = regions.get(region.url)
        if (regionData === undefined) throw new Error(`${region.url} is no region of this network`)
        // One at a time: a process must not open the same folder twice.
        registering = registering.then(() => registerPop((...argv) => runHere(['region', 'pop', ...argv, '--data', regionData]), `${host}-${options.port ?? PORTS.pop}`, data))
        await registering
        const link = new URL(region.url)
        link.protocol = 'https:'
        link.port = String(Number(link.port) + LINK_PORT_ABOVE)
        ways.push('--region', link.href)
        fingerprints.push(loadLinkKeyPair(join(regionData, LINK_KEY_FILE)).fingerprint)
      }
      return tier('pop', host, [...ways, '--region-fingerprint', fingerprints.join(',')], options)
    },
    async nats(host) {
      const server = needTool(t, 'nats-server', 'nats-server')
      if (server === null) return null
      const command = [server, '--addr', wan.address(host), '--port', String(NATS_PORT), '--jetstream', '--store_dir', path('nats')]
      return startTier(t, { wan, kind: 'nats', host, command, port: NATS_PORT, ready: 'Server is ready', env: {} })
    },
    process(host, command, env = {}) {
      const [file, ...argv] = wan.at(host, command)
      const started = start(file, argv, { env })
      t.teardown(() => end(started, 'SIGKILL'))
      return started
    },
  }
}

export interface NetSite {
  readonly net: Net
  readonly wan: Wan
  readonly region: NetTier
  readonly pop: NetTier
  readonly api: (through: 'region' | 'pop') => ApiClient
  deploy(name: string, source: string, members?: ConfigurationMembers): Promise<void>
  /** Calls until the POP itself answers. */
  untilHot(name: string): Promise<void>
}

/** One POP and one region. Null after the test was skipped: return then. */
export async function startNetSite(t: Test, options: { readonly pop?: TierOptions; readonly region?: TierOptions } = {}): Promise<NetSite | null> {
  const net = await startNet(t, ['pop', 'region'])
  if (net === null) return null
  const region = await net.region('region', options.region)
  const pop = await net.pop('pop', region, options.pop)
  return {
    net, region, pop,
    wan: net.wan,
    api: (through) => apiOf(through === 'pop' ? pop : region),
    deploy: (name, source, members) => deploy(region, name, source, members),
    untilHot: (name) => untilHot(pop, name),
  }
}

export function apiOf(tier: Tier): ApiClient {
  return new ApiClient(new URL(tier.url), KEY)
}

export async function deploy(region: Tier, name: string, source: string, members: ConfigurationMembers = {}): Promise<void> {
  await deployFunction(apiOf(region), { name, zip: zipSync({ 'index.mjs': Buffer.from(source) }), members, publish: false, alias: null })
}

export async function untilHot(pop: Tier, name: string): Promise<void> {
  await eventually(() => call(pop, name), ({ place }) => place === 'pop')
}

/** The code of an answer that is an error, else null. */
export function codeOf({ status, body }: Called): string | null {
  if (status < 400) return null
  try {
    const { error } = JSON.parse(body) as { readonly error?: { readonly code?: string } }
    return error?.code ?? null
  } catch {
    return null
  }
}

interface TierStart {
  readonly wan: Wan
  readonly kind: 'region' | 'pop' | 'nats'
  readonly host: string
  readonly command: readonly string[]
  readonly port: number
  /** What it says on stderr when it is ready. */
  readonly ready: string
  readonly env: Readonly<Record<string, string>>
}

async function startTier(t: Test, { wan, kind, host, command, port, ready, env }: TierStart): Promise<NetTier> {
  let running: StartedProcess | null = null
  const current = (): StartedProcess => {
    if (running === null) throw new Error(`the ${kind} at ${host} does not run`)
    return running
  }
  const pid = (): number => current().child.pid ?? 0
  const made: NetTier = {
    host, pid,
    url: `${kind === 'nats' ? 'nats' : 'http'}://${wan.address(host)}:${port}`,
    process: current,
    kill: (signal) => end(current(), signal),
    async start() {
      const [file, ...argv] = wan.at(host, command)
      running = start(file, argv, { env })
      await running.untilErr(ready)
    },
    residentBytes() {
      const [, pages = '0'] = readFileSync(`/proc/${pid()}/statm`, 'utf8').split(' ')
      return Number(pages) * 4096
    },
    async metrics() {
      if (kind === 'nats') throw new Error('a NATS server has no metrics here')
      const admin = `http://127.0.0.1:${ADMIN_PORT + port - PORTS[kind]}/metrics`
      const [file, ...argv] = wan.at(host, [process.execPath, '-e', `fetch(${JSON.stringify(admin)}).then(async (answer) => process.stdout.write(await answer.text()))`])
      const { ended } = start(file, argv)
      return (await ended).out
    },
  }
  await made.start()
  t.teardown(() => end(current(), 'SIGKILL'))
  return made
}

async function end({ child, ended }: StartedProcess, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
  child.kill(signal)
  await ended
}

/** gcc is there: the lines are made with it. */
function shiftedClock(folder: string, seconds: number): Readonly<Record<string, string>> {
  const library = join(folder, 'shift-clock.so')
  execFileSync(findTool('gcc') ?? 'gcc', ['-O1', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', '-o', library, fileURLToPath(new URL('shift-clock.c', import.meta.url)), '-ldl'], { stdio: ['ignore', 'ignore', 'inherit'] })
  return { LD_PRELOAD: library, CLOCK_SHIFT_S: String(seconds) }
}
