/**
 * A region and a POP as real processes with production settings, for tests of the whole. Each can be killed and started again.
 * They know each other by the token, or by their keys over mutual TLS.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { zipSync } from 'fflate'
import type { Test } from 'tap'
import { ApiClient, type ConfigurationMembers } from '../../shared/cli/api-client.ts'
import { deployFunction } from '../../shared/cli/deployment.ts'
import { LINK_KEY_FILE, loadLinkKeyPair } from '../../shared/identity/key-pair.ts'
import { BIN, runHere, start, type Ran, type StartedProcess } from './cli.ts'
import { eventually } from './dev-server.ts'

const KEY = { accessKeyId: 'system-test', secretAccessKey: 'a secret of the system test' }

export interface Tier {
  readonly url: string
  process(): StartedProcess
  /** Waits until the process is gone. */
  kill(signal: 'SIGKILL' | 'SIGTERM'): Promise<void>
  /** `more`: options beside its own, the last of equal ones counts, for this start. */
  start(more?: readonly string[]): Promise<void>
}

/** With the address of health and metrics. */
export interface AdminTier extends Tier {
  readonly adminUrl: string
}

export interface Site {
  readonly region: AdminTier
  readonly pop: AdminTier
  /** Signs for the region; through the POP when told so. */
  readonly api: (through: 'region' | 'pop') => ApiClient
  deploy(name: string, source: string, members?: ConfigurationMembers): Promise<void>
  /** Calls until the POP itself answers. */
  untilHot(name: string): Promise<void>
  /** `outpost region pop ...` beside the region. */
  readonly pops: (...argv: readonly string[]) => Promise<Ran>
  /** Folder of the POP's data. */
  readonly popData: string
  /** Folder of the region's. */
  readonly regionData: string
}

/** Keys of the account that tests deploy to, as a file, and a client that signs with them. */
export function writeKeys(file: string): (url: string) => ApiClient {
  writeFileSync(file, JSON.stringify({ keys: [{ accessKeyId: KEY.accessKeyId, secret: KEY.secretAccessKey, account: '000000000000' }] }))
  return (url) => new ApiClient(new URL(url), KEY)
}

export interface SiteOptions {
  readonly pop?: readonly string[]
  readonly region?: readonly string[]
  /** Default `token`. `key`: the POP is registered as `pop-1` and granted everything; `stranger`: it is not registered. */
  readonly identity?: 'token' | 'key' | 'stranger'
}

export async function startSite(t: Test, options: SiteOptions = {}): Promise<Site> {
  const directory = t.testdir({})
  const keysFile = join(directory, 'keys.json')
  writeFileSync(keysFile, JSON.stringify({ keys: [{ accessKeyId: KEY.accessKeyId, secret: KEY.secretAccessKey, account: '000000000000' }] }))
  const { identity = 'token' } = options
  const [regionData, popData] = [folder(directory, 'region'), folder(directory, 'pop')]
  const linkPort = await freePort()
  const byKey = identity === 'token' ? [] : ['--link-port', String(linkPort)]
  const region = await tier(t, 'region', await freePort(), ['--data', regionData, '--keys', keysFile, '--token', 'site', ...byKey, ...(options.region ?? [])])
  const pops = (...argv: readonly string[]): Promise<Ran> => runHere(['region', 'pop', ...argv, '--data', regionData])
  if (identity === 'key') await registerPop(pops, 'pop-1', popData)
  const way = identity === 'token' ? ['--region', region.url] : ['--region', `https://127.0.0.1:${linkPort}`, '--region-fingerprint', loadLinkKeyPair(join(regionData, LINK_KEY_FILE)).fingerprint]
  const pop = await tier(t, 'pop', await freePort(), ['--data', popData, '--token', 'site', ...way, ...(options.pop ?? [])], identity === 'stranger' ? '/healthz' : '/readyz')
  const api = (through: 'region' | 'pop'): ApiClient => new ApiClient(new URL(through === 'pop' ? pop.url : region.url), KEY)
  return {
    region, pop, api, pops, popData, regionData,
    async deploy(name, source, members = {}) {
      await deployFunction(api('region'), { name, zip: zipSync({ 'index.mjs': Buffer.from(source) }), members, publish: false, alias: null })
    },
    async untilHot(name) {
      await eventually(() => call(pop, name), ({ place }) => place === 'pop')
    },
  }
}

/** Registers the key in a POP's data folder and grants it everything. */
export async function registerPop(pops: Site['pops'], name: string, popData: string): Promise<void> {
  for (const argv of [['add', name, '--fingerprint', loadLinkKeyPair(join(popData, LINK_KEY_FILE)).fingerprint], ['grant', name, '--account', '*', '--function', '*']]) {
    const { code, err } = await pops(...argv)
    if (code !== 0) throw new Error(err)
  }
}

export interface Called {
  readonly status: number
  readonly body: string
  readonly place: string | null
  readonly headers: Headers
}

export async function call({ url }: Tier, name: string, init: RequestInit & { readonly path?: string } = {}): Promise<Called> {
  const response = await fetch(`${url}/fn/${name}${init.path ?? '/'}`, init)
  return { status: response.status, body: await response.text(), place: response.headers.get('x-outpost-place'), headers: response.headers }
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => (typeof address === 'object' && address !== null ? resolve(address.port) : reject(new Error('no port'))))
    })
  })
}

export async function tier(t: Test, name: 'region' | 'pop', port: number, argv: readonly string[], ready = '/readyz'): Promise<AdminTier> {
  const adminPort = await freePort()
  let running: StartedProcess | null = null
  const url = `http://127.0.0.1:${port}`
  const current = (): StartedProcess => {
    if (running === null) throw new Error(`the ${name} does not run`)
    return running
  }
  const made: AdminTier = {
    url,
    adminUrl: `http://127.0.0.1:${adminPort}`,
    process: current,
    async kill(signal) {
      current().child.kill(signal)
      await current().ended
    },
    async start(more = []) {
      running = start(process.execPath, [BIN, name, '--port', String(port), '--admin-port', String(adminPort), ...argv, ...more])
      const { ended } = running
      const failed = ended.then(({ err }) => Promise.reject(new Error(`the ${name} ended: ${err}`)))
      // Nobody may wait for it any more when the process ends later.
      failed.catch(() => undefined)
      await Promise.race([failed, eventually(() => fetch(`http://127.0.0.1:${adminPort}${ready}`), ({ ok }) => ok, 60_000)])
    },
  }
  await made.start()
  t.teardown(() => made.kill('SIGKILL'))
  return made
}

function folder(directory: string, name: string): string {
  const path = join(directory, name)
  mkdirSync(path)
  return path
}
