/**
 * Outpost as a user runs it: a region and a POP, each a process of its own with production settings, functions deployed
 * through the Lambda-compatible API, requests sent to web endpoints.
 */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { zipSync } from 'fflate'
import { Child } from '../harness/child.ts'
import type { Scope } from '../harness/scope.ts'
import { DEV_ACCOUNT } from '../../shared/api/keys.ts'
import { ApiClient } from '../../shared/cli/api-client.ts'
import { deployFunction } from '../../shared/cli/deployment.ts'
import { freePort, LOOPBACK, urlOf, type Server } from './server.ts'

export interface OutpostOptions {
  /** `--memory`, MiB; null for the default. */
  readonly popMemoryMib: number | null
  readonly regionMemoryMib: number | null
  /** `host:port` of private addresses that functions may fetch from. */
  readonly egressAllowed: readonly string[]
}

export const OUTPOST_DEFAULTS: OutpostOptions = { popMemoryMib: null, regionMemoryMib: null, egressAllowed: [] }

export interface Deployment {
  readonly name: string
  /** One self-contained ES module. */
  readonly source: string
  /** CPU limit of one invocation, ms; null for the default. */
  readonly cpuMs: number | null
}

export interface Outpost {
  /** `target('NAME')` is that function's web endpoint. */
  readonly pop: Server
  readonly region: Server
  /** Resolves once the function is published at the region. */
  deploy(deployment: Deployment): Promise<void>
  /** Calls the function until the POP itself answers. Rejects after `timeoutMs`. */
  untilHot(name: string, timeoutMs: number): Promise<void>
  stop(): Promise<void>
}

export type StartOutpost = (scope: Scope, options: OutpostOptions) => Promise<Outpost>

const CLI = fileURLToPath(new URL('../../shared/cli/main.ts', import.meta.url))
const START_TIMEOUT_MS = 60_000
const KEY = { accessKeyId: 'bench', secretAccessKey: randomBytes(24).toString('hex') }

export const startOutpost: StartOutpost = async (scope, options) => {
  const directory = scope.temporaryDirectory('outpost-bench-')
  const keysFile = join(directory, 'keys.json')
  writeFileSync(keysFile, JSON.stringify({ keys: [{ accessKeyId: KEY.accessKeyId, secret: KEY.secretAccessKey, account: DEV_ACCOUNT }] }), { mode: 0o600 })

  const token = randomBytes(24).toString('hex')
  const memory = (mib: number | null): string[] => (mib === null ? [] : ['--memory', String(mib)])
  const egress = options.egressAllowed.length === 0 ? [] : ['--egress-allow', options.egressAllowed.join(',')]
  const region = await startTier(scope, 'region', token, ['--data', join(directory, 'region'), '--keys', keysFile, '--account-concurrency', '100000', ...memory(options.regionMemoryMib), ...egress])
  const pop = await startTier(scope, 'pop', token, ['--data', join(directory, 'pop'), '--region', `http://${LOOPBACK}:${region.target().port}`, ...memory(options.popMemoryMib), ...egress])
  const api = new ApiClient(new URL(`http://${LOOPBACK}:${region.target().port}`), KEY)
  return {
    pop,
    region,
    async deploy({ name, source, cpuMs }) {
      const zip = zipSync({ 'index.mjs': Buffer.from(source) })
      await deployFunction(api, { name, zip, members: cpuMs === null ? {} : { Outpost: { Limits: { CpuMs: cpuMs } } }, publish: false, alias: null })
    },
    async untilHot(name, timeoutMs) {
      const startedAtMs = performance.now()
      for (;;) {
        const response = await fetch(urlOf(pop.target(name)))
        const body = await response.text()
        if (response.headers.get('x-outpost-place') === 'pop') return
        if (performance.now() - startedAtMs > timeoutMs) throw new Error(`${name} did not become hot: ${response.status} ${response.headers.get('x-outpost-place') ?? ''} ${body.slice(0, 300)}`)
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    },
    async stop() {
      await pop.stop()
      await region.stop()
    },
  }
}

async function startTier(scope: Scope, tier: 'region' | 'pop', token: string, options: readonly string[]): Promise<Server> {
  const [port, adminPort] = [await freePort(), await freePort()]
  const child = await Child.start(scope, {
    command: process.execPath,
    args: ['--disable-warning=ExperimentalWarning', CLI, tier, '--port', String(port), '--admin-port', String(adminPort), '--token', token, '--drain-timeout', '2000', ...options],
  })
  const isReady = (): Promise<boolean> => fetch(`http://${LOOPBACK}:${adminPort}/readyz`).then((response) => response.status === 200, () => false)
  await child.until(isReady, START_TIMEOUT_MS, 'readiness')
  return {
    name: tier === 'pop' ? 'outpost' : 'outpost region',
    pids: [child.pid],
    target: (name = '') => ({ host: LOOPBACK, port, path: `/fn/${name}/` }),
    stop: () => child.stop(),
  }
}
