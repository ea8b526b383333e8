/** Nodes that share one registry, in this process: real stores and registries, a builder and sandboxes that are not. */
import { copyFileSync, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Content } from '../../region/content.ts'
import { openSharedRegistry } from '../../region/open-registry.ts'
import { Region } from '../../region/region.ts'
import type { SharedHousekeeping } from '../../region/shared-housekeeping.ts'
import type { SharedRegistry } from '../../region/shared-registry.ts'
import { devAuthenticator } from '../../shared/api/keys.ts'
import { systemClock } from '../../shared/clock.ts'
import type { Coordination } from '../../shared/coordination/types.ts'
import { silentLog, type Log } from '../../shared/log.ts'
import { audit } from '../../shared/store/audit.ts'
import { Keyring } from '../../shared/store/keyring.ts'
import { LmdbEnvironment } from '../../shared/store/lmdb-environment.ts'
import { ObjectStore } from '../../shared/store/object-store.ts'
import { ONE_COPY, SaltPolicy } from '../../shared/store/salts.ts'
import { FakeBuilder, FakeHost, handlerZip } from './fakes.ts'

export const ACCOUNT = '000000000000'

export interface Reply {
  readonly status: number
  readonly json: Record<string, unknown>
}

export interface SharedNode {
  readonly region: Region
  readonly registry: SharedRegistry
  readonly housekeeping: SharedHousekeeping
  readonly store: ObjectStore
  readonly host: FakeHost
  readonly builder: FakeBuilder
  readonly call: (method: string, path: string, body?: unknown) => Promise<Reply>
  /** What is wrong in store and registry. */
  audit(): string[]
  close(): Promise<void>
}

/** `folder` holds the keyring of all nodes and each node's data. */
export async function startSharedNode(folder: string, name: string, coordination: Coordination, log: Log = silentLog): Promise<SharedNode> {
  const path = join(folder, name)
  mkdirSync(path, { recursive: true })
  const common = join(folder, 'keyring.json')
  if (!existsSync(common)) Keyring.load(common)
  copyFileSync(common, join(path, 'keyring.json'))
  const clock = systemClock
  const environment = LmdbEnvironment.open({ path, diskReserveBytes: 0 })
  const keyring = Keyring.load(join(path, 'keyring.json'))
  const store = new ObjectStore({ environment, keyring, salts: new SaltPolicy(ONE_COPY), clock, log })
  const content = new Content(store)
  const opened = await openSharedRegistry({ environment, regionName: 'us-east-1', content, keyring, coordination, store, clock, log })
  const { registry, housekeeping, parts } = opened
  const host = new FakeHost()
  const builder = new FakeBuilder()
  const region = new Region({ ...parts, content, registry, builder, host, clock, log, authenticator: devAuthenticator, regionName: 'us-east-1', engineBuild: () => builder.engineBuild })
  opened.start()
  await region.start()
  // The system clock's timers do not keep a process alive; a server's sockets do.
  const keepAlive = setInterval(() => undefined, 1_000)
  return {
    region, registry, housekeeping, store, host, builder,
    async call(method, at, body = null) {
      const reply = await region.control({
        requestId: 'r', method, rawPath: `/2015-03-31/functions${at}`, headers: 'authorization\nAWS4-HMAC-SHA256 any', body: body === null ? new Uint8Array(0) : Buffer.from(JSON.stringify(body)), clientIp: '',
      })
      const text = Buffer.from(reply.body).toString()
      return { status: reply.status, json: text === '' ? {} : JSON.parse(text) as Record<string, unknown> }
    },
    audit: () => [...audit(store), ...registry.audit()],
    async close() {
      clearInterval(keepAlive)
      await region.drain(1_000)
      await opened.stop()
      await coordination.close()
      await environment.close()
    },
  }
}

export function zipText(text: string): string {
  return Buffer.from(handlerZip(`export const handler = ${JSON.stringify(text)}`)).toString('base64')
}

export function createBody(name: string, text = name): Record<string, unknown> {
  return { FunctionName: name, Code: { ZipFile: zipText(text) } }
}

/** What a node knows of a function, as one would compare it with another node's. */
export function describe({ registry }: SharedNode, name: string): string {
  const reader = registry.read(ACCOUNT, name)
  return JSON.stringify([reader.function(), reader.versions(0, 1_000), reader.aliases('', 1_000), registry.seqOf(ACCOUNT, name)])
}
