/**
 * The ring document: who serves which key, as one value that is published and read as a whole. A version has members
 * with weights and attributes about the use of resources; the document has the newest version and three older
 * ones or so, from whose members state still moves (system 14 and 15). Pure: documents in, documents and places out.
 *
 * R1  Equal documents give equal places in every process: points come from hashes of member ids, never from chance.
 * R2  A member that joins or leaves moves only the keys that it gets or had.
 * R3  A document that cannot be right is refused before any ring is made of it. Unknown attributes are ignored.
 * R4  A version is dropped only when no live member may hold state that was placed by it (`neededVersions`): whoever
 *     looks for state asks the owners of every version in the document, and nobody else can have any. So a version that is needed
 *     outlives later ones that are not: else a new owner that dies could keep the ring from ever changing again.
 *
 * The ring itself is npm `consistent-hash`. It would place points at random and hash names into 24 bits that cluster
 * for similar names; both are decided here instead: points are 29 bits of SHA-256 of the member's id, and the name that it is given
 * for a key is three characters that its hash maps to exactly the 24 bits we want.
 */
import { createHash } from 'node:crypto'
import ConsistentHash from 'consistent-hash'
import { z } from 'zod'
import { CodedError } from '../errors.ts'
import { RING_FLEET_MAX, RING_MEMBERS_MAX, RING_PREVIOUS_HELD_MAX, RING_PREVIOUS_MAX, RING_WEIGHT_MAX } from '../limits.ts'

export interface RingMember {
  readonly id: string
  /** Share of the keys relative to the others, 1 to RING_WEIGHT_MAX. */
  readonly weight: number
}

export interface RingAttributes {
  /** Members that serve one key without state. At most as many as there are; fewer are taken when some are lost. */
  readonly managersPerKey: number
  /** Executions of one account that one member grants at once (system 13). */
  readonly perManagerShare: number
  /** Executions that all members together hold for one account at once. */
  readonly maxLive: number
}

/** One version of the ring: membership and attributes are never mixed between versions. */
export interface RingVersion {
  readonly version: number
  /** By id, ascending. */
  readonly members: readonly RingMember[]
  readonly attributes: RingAttributes
}

export interface RingDocument extends RingVersion {
  /** Newest first: RING_PREVIOUS_MAX, more if state lies by them, RING_PREVIOUS_HELD_MAX at most. */
  readonly previous: readonly RingVersion[]
  /** What this version replaced, however long ago: what a rollback goes back to. Nobody looks for state by it. */
  readonly replaced: Pick<RingVersion, 'members' | 'attributes'> | null
}

/** What is left out stays as it is. */
export interface RingChange {
  readonly members?: readonly RingMember[]
  readonly attributes?: Readonly<Record<string, unknown>>
}

/** `single`: state that only one member may hold (a session). `pool`: any of `managersPerKey` members may serve it. */
export type KeyKind = 'single' | 'pool'

export const DEFAULT_RING_ATTRIBUTES: RingAttributes = { managersPerKey: 1, perManagerShare: 1000, maxLive: 10_000 }

const count = z.int().min(1).max(RING_FLEET_MAX)
/** Unknown attributes are dropped; see R3. */
const attributesSchema = z.object({ managersPerKey: z.int().min(1).max(RING_MEMBERS_MAX), perManagerShare: count, maxLive: count })
const memberSchema = z.strictObject({ id: z.string().regex(/^[\x21-\x7e]{1,128}$/), weight: z.int().min(1).max(RING_WEIGHT_MAX) })
const versionShape = { version: z.int().min(1), members: z.array(memberSchema).max(RING_MEMBERS_MAX), attributes: attributesSchema }
const documentSchema = z.strictObject({ ...versionShape, replaced: z.strictObject({ members: versionShape.members, attributes: attributesSchema }).nullable(), previous: z.array(z.strictObject(versionShape)).max(RING_PREVIOUS_HELD_MAX) })

/** The first version. Throws ERR_RING_REFUSED. */
export function firstRing(members: readonly RingMember[], attributes: Readonly<Record<string, unknown>> = {}): RingDocument {
  const changed = { ...DEFAULT_RING_ATTRIBUTES, ...attributes }
  return checked({ version: 1, members: sorted(members), attributes: changed, previous: [], replaced: null }, changed.managersPerKey > DEFAULT_RING_ATTRIBUTES.managersPerKey)
}

/** What a member says about versions. Both may be late: what it has taken up since lies by versions from `ring` on. */
export interface RingWord {
  /** The newest version that it knows; 0: none. */
  readonly ring: number
  /** Versions by which it holds something (`HandOff.heldVersions`). */
  readonly held: readonly number[]
}

/**
 * Version n+1, linked to what it replaces. `needed`: of `neededVersions`. Throws ERR_RING_REFUSED for what cannot be
 * right, ERR_RING_UNSETTLED if more versions would have to stay than there is room for: try again when state has moved.
 */
export function nextRing(document: RingDocument, change: RingChange, needed: ReadonlySet<number>): RingDocument {
  return linked(document, change, needed, change.attributes !== undefined)
}

function linked(document: RingDocument, change: RingChange, needed: ReadonlySet<number>, withinFleet: boolean): RingDocument {
  const { version, members, attributes: before, previous } = document
  const candidates: RingVersion[] = [{ version, members, attributes: before }, ...previous]
  let others = RING_PREVIOUS_MAX - candidates.filter((candidate) => needed.has(candidate.version)).length
  const kept = candidates.filter((candidate) => needed.has(candidate.version) || others-- > 0)
  if (kept.length > RING_PREVIOUS_HELD_MAX) throw new CodedError('ERR_RING_UNSETTLED', [kept.at(-1)?.version ?? 0])
  const attributes = { ...before, ...change.attributes }
  return checked({ version: version + 1, members: sorted(change.members ?? members), attributes, previous: kept, replaced: { members, attributes: before } }, withinFleet)
}

/** Makes the version before the newest current again, under a new number: state then flows back from the failed one. */
export function rollback(document: RingDocument, needed: ReadonlySet<number>): RingDocument {
  const before = document.replaced
  if (before === null) throw new CodedError('ERR_RING_REFUSED', ['there is no version before this one'])
  return linked(document, { members: before.members, attributes: { ...before.attributes } }, needed, false)
}

/** The same version without those that nobody needs; null if nothing changes. */
export function retire(document: RingDocument, needed: ReadonlySet<number>): RingDocument | null {
  const previous = document.previous.filter(({ version }) => needed.has(version))
  return previous.length === document.previous.length ? null : { ...document, previous }
}

/**
 * Versions of the document by which state may lie anywhere (R4): of all members of all versions what each has said last, unless its
 * lease is certainly over. Of one that has not said anything nothing is known, so all are needed.
 */
export function neededVersions(document: RingDocument, said: (memberId: string) => RingWord | null, isOver: (memberId: string) => boolean): ReadonlySet<number> {
  const versions = [document, ...document.previous]
  const needed = new Set<number>()
  for (const id of new Set(versions.flatMap(({ members }) => members.map((member) => member.id)))) {
    if (isOver(id)) continue
    const word = said(id) ?? { ring: 1, held: [] }
    for (const { version } of versions) if (version >= Math.max(1, word.ring) || word.held.includes(version)) needed.add(version)
  }
  return needed
}

export function isNewer(document: RingDocument, than: RingDocument | null): boolean {
  if (than === null || document.version !== than.version) return document.version > (than?.version ?? 0)
  return document.previous.length < than.previous.length
}

export function serializeRing(document: RingDocument): Uint8Array {
  return Buffer.from(JSON.stringify(document))
}

/** Throws ERR_RING_REFUSED for anything but a whole document. */
export function parseRing(bytes: Uint8Array): RingDocument {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch {
    throw new CodedError('ERR_RING_REFUSED', ['it is not JSON'])
  }
  return checked(value, false)
}

/** `withinFleet`: somebody has just chosen `managersPerKey`. Otherwise members may have been lost since. */
function checked(value: unknown, withinFleet: boolean): RingDocument {
  const parsed = documentSchema.safeParse(value)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new CodedError('ERR_RING_REFUSED', [`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not a ring'}`])
  }
  const document = parsed.data
  let below = Infinity
  for (const { version, members } of [document, ...document.previous]) {
    if (version >= below) throw new CodedError('ERR_RING_REFUSED', ['versions must fall'])
    below = version
    members.forEach(({ id }, index) => {
      const before = members[index - 1]
      if (before !== undefined && before.id >= id) throw new CodedError('ERR_RING_REFUSED', [`member ${id} is there twice or out of order`])
    })
  }
  if (withinFleet && document.attributes.managersPerKey > document.members.length) throw new CodedError('ERR_RING_REFUSED', [`managersPerKey ${document.attributes.managersPerKey} is more than the ${document.members.length} members`])
  return document
}

function sorted(members: readonly RingMember[]): RingMember[] {
  return members.map(({ id, weight }) => ({ id, weight })).sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
}

/** A key on the ring. Parts may hold anything: they cannot run into each other. */
export function ringKey(account: string, functionName: string, session: string | null = null): string {
  return JSON.stringify(session === null ? [account, functionName] : [account, functionName, session])
}

/** Points of a member of weight 1. A member's share is then within about a tenth of what its weight says. */
const POINTS_PER_WEIGHT = 128
const POINT_BITS = 29
const RANGE = 2 ** POINT_BITS
const POINTS_PER_HASH = 8

/** A document made ready for look-ups. Making one hashes and sorts all points: keep it as long as the document. */
export class Ring {
  readonly document: RingDocument
  readonly #current: Placed
  readonly #previous: readonly Placed[]

  constructor(document: RingDocument) {
    this.document = document
    this.#current = new Placed(document)
    this.#previous = document.previous.map((version) => new Placed(version))
  }

  get version(): number {
    return this.document.version
  }

  /** Who serves a key, first the one that it belongs to; one for what is `single`. Empty only on an empty ring. */
  owners(key: string, kind: KeyKind): readonly string[] {
    return this.#current.owners(key, kind)
  }

  /** The first `count` members from the key's place on. */
  walk(key: string, count: number): readonly string[] {
    return this.#current.walk(key, count)
  }

  /** As `owners`, by one of the versions of the document. Empty for one that is not in it. */
  ownersBy(version: number, key: string, kind: KeyKind): readonly string[] {
    return [this.#current, ...this.#previous].find((placed) => placed.version === version)?.owners(key, kind) ?? []
  }

  /**
   * Whom `owner` has to ask for the state of a key, by each older version, newest first; never itself. For what is `single`
   * these are all that may hold it (R4). For a pool each older owner is asked by at least one of the new ones: who stays
   * keeps what it has, the others are shared out in their order on the ring.
   */
  predecessorLevels(key: string, owner: string, kind: KeyKind): readonly (readonly string[])[] {
    const now = this.owners(key, kind)
    return this.#previous.map((placed) => predecessorsOf(now, placed.owners(key, kind), owner))
  }

  /** All of `predecessorLevels`, each once: what travels with a request. */
  predecessors(key: string, owner: string, kind: KeyKind): readonly string[] {
    return [...new Set(this.predecessorLevels(key, owner, kind).flat())]
  }

  /**
   * The owners of a pool key that draw from `predecessor`, in an order that all of them and it agree on; itself first if
   * it still is one. Item i of what it holds goes to the (i mod length)-th, so each to exactly one.
   */
  sharers(key: string, predecessor: string): readonly string[] {
    const now = this.owners(key, 'pool')
    const drawing = now.filter((owner) => owner !== predecessor && this.#previous.some((placed) => predecessorsOf(now, placed.owners(key, 'pool'), owner).includes(predecessor)))
    return now.includes(predecessor) ? [predecessor, ...drawing] : drawing
  }

  weightOf(member: string): number {
    return this.#current.weightOf(member)
  }

  get totalWeight(): number {
    return this.#current.totalWeight
  }
}

/** Which of the older owners `owner`, one of the new ones, inherits from. */
export function predecessorsOf(now: readonly string[], before: readonly string[], owner: string): readonly string[] {
  if (!now.includes(owner)) return []
  const gone = before.filter((id) => !now.includes(id))
  const fresh = now.filter((id) => !before.includes(id))
  // Who was an owner before keeps its own, and takes over from those that are gone only if nobody is new.
  const heirs = fresh.length > 0 ? fresh : now
  const givers = gone.length > 0 ? gone : fresh.length > 0 ? before : []
  const index = heirs.indexOf(owner)
  if (index < 0) return []
  if (heirs.length >= givers.length) {
    const giver = givers[Math.floor((index * givers.length) / heirs.length)]
    return giver === undefined ? [] : [giver]
  }
  return givers.filter((_, at) => Math.floor((at * heirs.length) / givers.length) === index)
}

/** One version with its points in place. */
class Placed {
  readonly version: number
  readonly totalWeight: number
  readonly #managersPerKey: number
  readonly #weights: ReadonlyMap<string, number>
  readonly #ring = new ConsistentHash({ range: RANGE })

  constructor({ version, members, attributes }: RingVersion) {
    this.version = version
    this.#managersPerKey = attributes.managersPerKey
    this.#weights = new Map(members.map(({ id, weight }) => [id, weight]))
    this.totalWeight = members.reduce((sum, { weight }) => sum + weight, 0)
    // In the order of ids: where two points fall together the later member has the place, in every process alike.
    for (const { id, weight } of members) this.#ring.add(id, 0, pointsOf(id, weight * POINTS_PER_WEIGHT))
  }

  owners(key: string, kind: KeyKind): readonly string[] {
    return this.walk(key, kind === 'single' ? 1 : this.#managersPerKey)
  }

  walk(key: string, count: number): readonly string[] {
    return this.#ring.get(nameAt(key), Math.min(count, this.#weights.size)) ?? []
  }

  weightOf(member: string): number {
    return this.#weights.get(member) ?? 0
  }
}

function pointsOf(id: string, count: number): number[] {
  const points: number[] = []
  for (let block = 0; points.length < count; block++) {
    const hash = createHash('sha256').update(`outpost ring point ${block} ${id}`).digest()
    for (let index = 0; index < POINTS_PER_HASH && points.length < count; index++) points.push(hash.readUInt32LE(index * 4) >>> (32 - POINT_BITS))
  }
  return points
}

/** A name that `consistent-hash` puts at 24 bits of the key's hash: it shifts by four bits and adds, for each character. */
function nameAt(key: string): string {
  const hash = createHash('sha256').update(key).digest()
  return String.fromCharCode(hash.readUInt16LE(0), (hash[2] ?? 0) >>> 4, (hash[2] ?? 0) & 15)
}
