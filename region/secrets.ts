/**
 * Secrets of functions: sets of values that versions name, sealed under the account's key and bound to their place, so
 * that neither the disk nor another account's key opens them.
 *
 * A row: [account, name, secretsId] -> number of versions that name it (4 bytes, little endian), sealed JSON. A set goes
 * with the last version that names it. Methods that write must run inside a transaction.
 */
import { CodedError, toCodedError } from '../shared/errors.ts'
import { keyVersionOf, type Keyring } from '../shared/store/keyring.ts'
import type { LmdbEnvironment, Table } from '../shared/store/lmdb-environment.ts'

export type Secrets = Readonly<Record<string, string>>
type SecretsKey = [account: string, name: string, secretsId: string]

export interface StoredSecrets {
  readonly refs: number
  readonly sealed: Uint8Array
}

const REFS_BYTES = 4
/** Sorts after every id. */
const AFTER_ALL = '\uffff'

export class SecretsTable {
  readonly #environment: LmdbEnvironment
  readonly #table: Table<SecretsKey>
  readonly #keyring: Keyring

  constructor(environment: LmdbEnvironment, keyring: Keyring) {
    this.#environment = environment
    this.#table = environment.table('secrets', 'ordered')
    this.#keyring = keyring
  }

  /** Throws ERR_STORE_FAILED if they are missing, ERR_STORE_KEY if they were sealed with another keyring. */
  read(...key: SecretsKey): Secrets {
    const stored = this.#row(key)
    if (stored === null) throw new CodedError('ERR_STORE_FAILED', [`secrets of ${key[1]} are missing`])
    return this.#open(key, stored)
  }

  /** Inside a transaction: as many versions more, or fewer, name a set. `values` is what a new one holds. */
  count(key: SecretsKey, delta: number, values: Secrets | null): void {
    const before = this.#row(key)
    const refs = (before?.refs ?? 0) + delta
    if (refs === 0) {
      void this.#table.remove(key)
      return
    }
    const sealed = before?.sealed ?? (values === null ? null : this.#seal(key, values))
    if (sealed === null) throw new CodedError('ERR_STORE_FAILED', [`secrets of ${key[1]} are missing`])
    this.#put(key, { refs, sealed })
  }

  /** All sets of a function, sealed, by their id. */
  rowsOf(account: string, name: string): Map<string, StoredSecrets> {
    const range = this.#table.getRange({ start: [account, name, ''], end: [account, name, AFTER_ALL] })
    return new Map([...range].map(({ key: [, , id], value }) => {
      const { refs, sealed } = decodeRow(value)
      return [id, { refs, sealed: Uint8Array.from(sealed) }]
    }))
  }

  /** Inside a transaction: the sets of a function become these. */
  putRows(account: string, name: string, rows: ReadonlyMap<string, StoredSecrets>): void {
    for (const id of this.rowsOf(account, name).keys()) if (!rows.has(id)) void this.#table.remove([account, name, id])
    for (const [id, row] of rows) this.#put([account, name, id], row)
  }

  /** Seals all anew that were sealed with an older version of the keyring. Returns how many. */
  async reseal(): Promise<number> {
    const isOld = ({ sealed }: StoredSecrets): boolean => keyVersionOf(sealed) !== this.#keyring.activeVersion
    const old = [...this.#table.getRange()].filter(({ value }) => isOld(decodeRow(value))).map(({ key }) => key)
    for (const key of old) {
      await this.#environment.write({ kind: 'removes' }, () => {
        const stored = this.#row(key)
        if (stored !== null && isOld(stored)) this.#put(key, { refs: stored.refs, sealed: this.#seal(key, this.#open(key, stored)) })
      })
    }
    return old.length
  }

  /** `named`: how many versions name each set, by its key as JSON. Returns what is wrong, one line each. */
  audit(named: ReadonlyMap<string, number>): string[] {
    const problems: string[] = []
    let sets = 0
    for (const { key, value } of this.#table.getRange()) {
      sets += 1
      const name = JSON.stringify(key)
      const stored = decodeRow(value)
      if (named.get(name) !== stored.refs) problems.push(`secrets ${name}: counted ${stored.refs}, named ${named.get(name) ?? 0}`)
      try {
        this.#open(key, stored)
      } catch (error) {
        problems.push(`secrets ${name}: ${toCodedError(error).message}`)
      }
    }
    if (sets !== named.size) problems.push(`${sets} sets of secrets, ${named.size} named`)
    return problems
  }

  #row(key: SecretsKey): StoredSecrets | null {
    const stored = this.#table.getBinary(key)
    return stored === undefined ? null : decodeRow(stored)
  }

  #put(key: SecretsKey, { refs, sealed }: StoredSecrets): void {
    const head = Buffer.alloc(REFS_BYTES)
    head.writeUInt32LE(refs)
    void this.#table.put(key, Buffer.concat([head, sealed]))
  }

  #seal([account, ...place]: SecretsKey, values: Secrets): Uint8Array {
    return this.#keyring.seal(account, purposeOf(place), Buffer.from(JSON.stringify(values)))
  }

  #open([account, ...place]: SecretsKey, { sealed }: StoredSecrets): Secrets {
    return JSON.parse(Buffer.from(this.#keyring.open(account, purposeOf(place), sealed)).toString()) as Secrets
  }
}

function decodeRow(stored: Uint8Array): StoredSecrets {
  const row = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength)
  return { refs: row.readUInt32LE(0), sealed: row.subarray(REFS_BYTES) }
}

function purposeOf(place: readonly string[]): string {
  return `the secrets ${place.join('/')}`
}
