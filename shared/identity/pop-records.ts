/**
 * The peers that a region knows by their keys, and which functions each POP may have: one document for each name in the
 * bucket `pops`. This file is what is written there and how it is changed; region/pop-directory.ts is what a region makes of it.
 *
 * D1  A key is good for one name. `add` refuses a key that another name has.
 * D2  A key that was revoked stays known as such under its name, so that its holder can be told, and so that it is not
 *     registered again by mistake. REVOKED_KEYS_MAX of them are kept, the newest.
 * D3  Every change is a compare-and-set, tried again when somebody else was faster.
 */
import { z } from 'zod'
import type { Documents } from '../coordination/types.ts'
import { CodedError } from '../errors.ts'
import { POP_GRANTS_MAX, POPS_MAX, REVOKED_KEYS_MAX } from '../limits.ts'
import { parseFingerprint, type Fingerprint } from './fingerprint.ts'

export const POPS_BUCKET = 'pops'
/** Any account, any function. */
export const ANY = '*'

export interface Grant {
  /** Twelve digits, or ANY. */
  readonly account: string
  /** Or ANY. */
  readonly functionName: string
}

export const PEER_ROLES = ['pop', 'region'] as const

export interface PopRecord {
  readonly name: string
  readonly role: (typeof PEER_ROLES)[number]
  /** Null: the last one was revoked. */
  readonly fingerprint: Fingerprint | null
  /** Newest last. */
  readonly revoked: readonly Fingerprint[]
  readonly grants: readonly Grant[]
}

/** What the hello of a link may name and a key of a document may be. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/
const CHANGE_ATTEMPTS_MAX = 8

const fingerprint = z.custom<Fingerprint>((value) => typeof value === 'string' && parseFingerprint(value) === value)
const recordSchema = z.strictObject({
  format: z.literal(1),
  role: z.enum(PEER_ROLES),
  fingerprint: fingerprint.nullable(),
  revoked: z.array(fingerprint).max(REVOKED_KEYS_MAX),
  grants: z.array(z.strictObject({ account: z.string().max(64), functionName: z.string().max(256) })).max(POP_GRANTS_MAX),
})

/** Null for bytes that are no record. */
export function readPopRecord(name: string, value: Uint8Array): PopRecord | null {
  try {
    const { role, fingerprint: current, revoked, grants } = recordSchema.parse(JSON.parse(Buffer.from(value).toString('utf8')))
    return { name, role, fingerprint: current, revoked, grants }
  } catch {
    // Whatever it is, nobody is let in by it; the caller says so.
    return null
  }
}

function encode({ role, fingerprint: current, revoked, grants }: PopRecord): Uint8Array {
  return Buffer.from(JSON.stringify({ format: 1, role, fingerprint: current, revoked, grants }))
}

export class PopRecords {
  readonly #documents: Documents

  constructor(documents: Documents) {
    this.#documents = documents
  }

  /** By name. */
  async list(): Promise<PopRecord[]> {
    const records = new Map<string, PopRecord>()
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const watch = this.#documents.watch({
      onDocument(name, value) {
        const record = value === null ? null : readPopRecord(name, value)
        if (record === null) records.delete(name)
        else records.set(name, record)
      },
      onCurrent: () => resolve(undefined),
    })
    try {
      await promise
    } finally {
      watch.stop()
    }
    return [...records.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** D1, D2. A name whose key was revoked may get a new one, and begins without grants. Throws ERR_CONFLICT, ERR_QUOTA, ERR_PARAMETER. */
  async add(name: string, key: Fingerprint, role: PopRecord['role']): Promise<PopRecord> {
    if (!NAME.test(name)) throw new CodedError('ERR_PARAMETER', [`${JSON.stringify(name)} is no name for a POP: 1 to 64 letters, digits, - and _`])
    const others = await this.list()
    if (others.length >= POPS_MAX) throw new CodedError('ERR_QUOTA', [POPS_MAX, 'registered POPs'])
    for (const other of others) {
      if (other.revoked.includes(key)) throw new CodedError('ERR_CONFLICT', [`this key was revoked as that of ${other.name}: let the POP make another one`])
      if (other.fingerprint === key && other.name !== name) throw new CodedError('ERR_CONFLICT', [`this key is registered as that of ${other.name}`])
    }
    return this.#change(name, (before) => {
      if (before === null) return { name, role, fingerprint: key, revoked: [], grants: [] }
      if (before.fingerprint === key && before.role === role) return before
      if (before.fingerprint !== null) throw new CodedError('ERR_CONFLICT', [`${name} is registered with another key or role: revoke it first`])
      return { ...before, role, fingerprint: key, grants: [] }
    })
  }

  /** Throws ERR_RESOURCE_NOT_FOUND. Revoking again changes nothing. */
  revoke(name: string): Promise<PopRecord> {
    return this.#change(name, (before) => {
      const record = present(name, before)
      if (record.fingerprint === null) return record
      return { ...record, fingerprint: null, revoked: [...record.revoked, record.fingerprint].slice(-REVOKED_KEYS_MAX), grants: [] }
    })
  }

  /** Throws ERR_RESOURCE_NOT_FOUND, ERR_QUOTA, ERR_PARAMETER. */
  grant(name: string, grant: Grant): Promise<PopRecord> {
    if (grant.account === ANY && grant.functionName !== ANY) return Promise.reject(new CodedError('ERR_PARAMETER', [`the account ${ANY} goes with the function ${ANY} only`]))
    return this.#change(name, (before) => {
      const record = present(name, before)
      if (record.fingerprint === null) throw new CodedError('ERR_PARAMETER', [`the key of ${name} is revoked: register another one first`])
      if (record.role !== 'pop') throw new CodedError('ERR_PARAMETER', [`${name} is a ${record.role}: only POPs have grants`])
      if (record.grants.some((other) => sameGrant(other, grant))) return record
      if (record.grants.length >= POP_GRANTS_MAX) throw new CodedError('ERR_QUOTA', [POP_GRANTS_MAX, 'grants of one POP'])
      return { ...record, grants: [...record.grants, grant] }
    })
  }

  /** Takes back that very grant: one for ANY function is not narrowed by taking back one function. Throws ERR_RESOURCE_NOT_FOUND. */
  ungrant(name: string, grant: Grant): Promise<PopRecord> {
    return this.#change(name, (before) => {
      const record = present(name, before)
      const grants = record.grants.filter((other) => !sameGrant(other, grant))
      if (grants.length === record.grants.length) throw new CodedError('ERR_RESOURCE_NOT_FOUND', [`${name} has no grant of ${grant.account}/${grant.functionName}; it has: ${describeGrants(record.grants)}`])
      return { ...record, grants }
    })
  }

  /** D3. */
  async #change(name: string, decide: (before: PopRecord | null) => PopRecord): Promise<PopRecord> {
    for (let attempt = 1; ; attempt += 1) {
      const found = await this.#documents.get(name)
      const before = found === null ? null : readPopRecord(name, found.value)
      if (found !== null && before === null) throw new CodedError('ERR_CONFLICT', [`what is registered as ${name} cannot be read`])
      const after = decide(before)
      if (after === before) return after
      try {
        await this.#documents.update(name, encode(after), found?.revision ?? 0)
        return after
      } catch (error) {
        if (attempt === CHANGE_ATTEMPTS_MAX || !(error instanceof CodedError) || error.code !== 'ERR_COORDINATION_CONFLICT') throw error
      }
    }
  }
}

export function describeGrants(grants: readonly Grant[]): string {
  return grants.length === 0 ? 'none' : grants.map(({ account, functionName }) => `${account}/${functionName}`).join(', ')
}

function present(name: string, record: PopRecord | null): PopRecord {
  if (record === null) throw new CodedError('ERR_RESOURCE_NOT_FOUND', [`No POP is registered as ${name}`])
  return record
}

function sameGrant(a: Grant, b: Grant): boolean {
  return a.account === b.account && a.functionName === b.functionName
}
