/** Objects and stores for tests. */
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ManualClock } from '../../../shared/clock.ts'
import { CodedError, toCodedError } from '../../../shared/errors.ts'
import { silentLog } from '../../../shared/log.ts'
import { Keyring } from '../../../shared/store/keyring.ts'
import { LmdbEnvironment, type Table } from '../../../shared/store/lmdb-environment.ts'
import { ObjectStore, type ObjectStoreOptions } from '../../../shared/store/object-store.ts'
import { ONE_COPY, SaltPolicy } from '../../../shared/store/salts.ts'
import type { OpenObject } from '../../../shared/store/object-store.ts'
import { parseObjectId } from '../../../shared/store/sealed-manifest.ts'
import type { ObjectKey } from '../../../shared/store/object-tables.ts'
import type { ObjectId, PlainObject, SealedBlockId } from '../../../shared/store/types.ts'

export const ALICE = '111111111111'
export const BOB = '222222222222'
export const PIECE_BYTES = 4096

export interface Teardown {
  teardown(undo: () => void | Promise<void>): unknown
}

/** Content that follows from `seed`; an empty seed gives zeros. */
export function piece(seed: string, bytes = PIECE_BYTES): Uint8Array {
  const content = Buffer.alloc(bytes)
  if (seed !== '') for (let offset = 0; offset < bytes; offset += 32) createHash('sha256').update(`${seed}/${offset}`).digest().copy(content, offset)
  return content
}

export function objectOf(seeds: readonly string[], name = ''): PlainObject {
  const pieces = seeds.map((seed) => piece(seed))
  const head = Buffer.from(`head of ${name}`)
  const objectId = parseObjectId(createHash('sha256').update(head).update(Buffer.concat(pieces)).digest('hex'))
  return { objectId, kind: 'image', parentId: null, head, pieces }
}

/** Everything in an object, or null. */
export function contentOf(object: OpenObject | null): Buffer | null {
  if (object === null) return null
  return Buffer.concat([object.head, ...object.pieceBytes.map((_bytes, index) => object.piece(index))])
}

export function plainContent(object: PlainObject): Buffer {
  return Buffer.concat([object.head, ...object.pieces])
}

export function tempFolder(test: Teardown): string {
  const path = mkdtempSync(join(tmpdir(), 'outpost-store-'))
  test.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

export interface TestStore {
  readonly store: ObjectStore
  readonly environment: LmdbEnvironment
  readonly clock: ManualClock
  readonly keyring: Keyring
  readonly path: string
}

export function openObjectStore(path: string, options: Partial<ObjectStoreOptions> = {}): TestStore {
  const environment = LmdbEnvironment.open({ path, diskReserveBytes: 0 })
  const clock = new ManualClock()
  const keyring = options.keyring ?? Keyring.inMemory()
  const store = new ObjectStore({ environment, keyring, salts: new SaltPolicy(ONE_COPY), clock, log: silentLog, ...options })
  return { store, environment, clock, keyring, path }
}

export function makeStore(test: Teardown, options: Partial<ObjectStoreOptions> = {}): TestStore {
  const made = openObjectStore(tempFolder(test), options)
  test.teardown(() => made.environment.close())
  return made
}

export async function codeOf(action: () => unknown): Promise<string> {
  try {
    await action()
    return 'none'
  } catch (error) {
    return toCodedError(error).code
  }
}

export function failureOf(action: () => unknown): string {
  try {
    action()
    return 'none'
  } catch (error) {
    return `${toCodedError(error).code} ${toCodedError(error).message}`
  }
}

export function blockIds(store: ObjectStore): SealedBlockId[] {
  return store.tables.blocksAfter(null, 1_000_000)
}

/** Changes one byte of a stored block, or removes it. */
export async function damageBlock({ environment }: Pick<TestStore, 'environment'>, id: string, how: 'flip' | 'remove' = 'flip'): Promise<void> {
  const raw = environment.table<Buffer>('sealedBlocks', 'binary')
  const key = Buffer.from(id, 'hex')
  const bytes = Buffer.from(raw.getBinary(key) ?? Buffer.alloc(0))
  bytes[17] = (bytes[17] ?? 0) ^ 1
  await environment.write({ kind: 'removes' }, () => {
    if (how === 'flip') void raw.put(key, bytes)
    else void raw.remove(key)
  })
}

export function storedBytes({ environment }: TestStore): Buffer {
  const parts: Buffer[] = []
  for (const name of ['objects', 'objectRoots', 'sealedBlocks', 'blockRoots', 'copies']) {
    for (const { key, value } of environment.table<Buffer>(name, 'binary').getRange()) parts.push(key, Buffer.from(value))
  }
  return Buffer.concat(parts)
}

/** Names objects, as a registry does: in transactions of the same environment. */
export class Names {
  readonly #made: Pick<TestStore, 'store' | 'environment'>
  readonly #table: Table<string>

  constructor(made: Pick<TestStore, 'store' | 'environment'>) {
    this.#made = made
    this.#table = made.environment.table('names', 'ordered')
  }

  /** What a name stands for, or null. */
  read(name: string): ObjectKey | null {
    const value = this.#table.getBinary(name)
    return value === undefined ? null : (JSON.parse(value.toString()) as ObjectKey)
  }

  async commit(name: string, account: string, objectId: ObjectId): Promise<void> {
    await this.#made.environment.write({ kind: 'removes' }, () => {
      if (!this.#made.store.claimInTransaction(account, objectId)) throw new CodedError('ERR_STORE_FAILED', ['it is gone'])
      void this.#table.put(name, Buffer.from(JSON.stringify({ account, objectId })))
    })
  }

  async remove(name: string): Promise<void> {
    await this.#made.environment.write({ kind: 'removes' }, () => void this.#table.remove(name))
  }

  /** Reads one name at a time, as records that change meanwhile are read. */
  *live(): Generator<ObjectKey> {
    for (let after = ''; ;) {
      const next = [...this.#table.getRange({ start: after, limit: 2 })].find(({ key }) => key !== after)
      if (next === undefined) return
      after = next.key
      yield JSON.parse(next.value.toString()) as ObjectKey
    }
  }
}

/** The objects that writers of crash tests store, by number: they share pieces with each other. */
export function crashObject(index: number): PlainObject {
  const known = crashObjects.get(index)
  if (known !== undefined) return known
  const seeds = [`common ${index % 2}`, `few ${index % 5}`, '', `own ${index}`, `own ${index} more`]
  const object = { ...objectOf(seeds, `${index}`), pieces: seeds.map((seed) => piece(seed, 16_384)) }
  crashObjects.set(index, object)
  return object
}
const crashObjects = new Map<number, PlainObject>()

/** The keyring that crash tests use on both sides of the crash. */
export function keyringAt(folder: string): Keyring {
  return Keyring.load(join(folder, 'keyring.json'))
}
