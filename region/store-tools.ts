/** A region's data without the region: for the command line, which looks after a store at rest. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../shared/clock.ts'
import { CodedError } from '../shared/errors.ts'
import type { Log } from '../shared/log.ts'
import { Keyring } from '../shared/store/keyring.ts'
import { LmdbEnvironment } from '../shared/store/lmdb-environment.ts'
import { ObjectStore } from '../shared/store/object-store.ts'
import { Collector } from '../shared/store/roots.ts'
import { SaltPolicy } from '../shared/store/salts.ts'
import { Content } from './content.ts'
import { Registry } from './registry.ts'

export { exportRegion, importRegion, type TransferProgress, type TransferResult } from './transfer.ts'
export { auditSteps } from '../shared/store/audit.ts'

export interface StoreToolsOptions {
  readonly dataDir: string
  readonly keyringFile: string | null
  readonly copies: number
  readonly clock: Clock
  readonly log: Log
  /** Whether an empty folder is an error. */
  readonly mustExist: boolean
}

export interface StoreTools {
  readonly environment: LmdbEnvironment
  readonly keyring: Keyring
  readonly keyringPath: string
  readonly store: ObjectStore
  readonly registry: Registry
  /** Without a grace: nobody reads a store at rest. */
  readonly collector: Collector
  close(): Promise<void>
}

/** Throws ERR_STORE_FAILED, ERR_STORE_KEY. */
export function openStoreTools({ dataDir, keyringFile, copies, clock, log, mustExist }: StoreToolsOptions): StoreTools {
  const keyringPath = keyringFile ?? join(dataDir, 'keyring.json')
  if (mustExist && !existsSync(join(dataDir, 'store'))) throw new CodedError('ERR_STORE_FAILED', [`there is no store in ${dataDir}; name the region's data directory with --data`])
  // One that was made just now would open nothing that was sealed before.
  if (!existsSync(keyringPath)) throw new CodedError('ERR_STORE_KEY', [keyringPath, 'it is not there; name the region\'s keyring with --keyring'])
  const environment = LmdbEnvironment.open({ path: join(dataDir, 'store') })
  const keyring = Keyring.load(keyringPath)
  const store = new ObjectStore({ environment, keyring, salts: new SaltPolicy({ by: 'user', copies }), clock, log })
  const registry = new Registry({ environment, regionName: 'us-east-1', content: new Content(store), keyring, log })
  const collector = new Collector({ store, live: () => registry.liveObjects(), clock, log, graceMs: 0 })
  return { environment, keyring, keyringPath, store, registry, collector, close: () => environment.close() }
}
