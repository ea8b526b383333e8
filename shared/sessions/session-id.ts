/**
 * Ids of sessions. Those that are minted here have 128 random bits and say where their session lives: `r.` in the region,
 * `pSITE.` at a POP site. Those that a client chooses have another form and live in the region.
 */
import { randomBytes } from 'node:crypto'
import { SESSION_ID_MAX_CHARS } from '../limits.ts'

/** `region`, or the POP site that minted it. */
export type SessionPlace = { readonly kind: 'region' } | { readonly kind: 'site'; readonly site: string }

const RANDOM_BYTES = 16
/** As text. */
const RANDOM_CHARS = 22
/** A browser sends the cookies of all functions of a host; each costs a digest, so more than these in one head are not looked at. */
const IDS_IN_HEAD_MAX = 16
const MINTED = /^(?:r|p([A-Za-z0-9_-]{1,64}))\.[A-Za-z0-9_-]{22}$/
const CHOSEN = new RegExp(`^[\\x21-\\x7e]{1,${SESSION_ID_MAX_CHARS}}$`)

export function mintSessionId(place: SessionPlace): string {
  return prefixOf(place) + randomBytes(RANDOM_BYTES).toString('base64url')
}

/** What may be ids that were minted at this place, of a text that nobody has parsed. */
export function mintedIdsIn(text: string, place: SessionPlace): string[] {
  const prefix = prefixOf(place)
  const ids: string[] = []
  for (let at = text.indexOf(prefix), looks = 0; at !== -1 && looks < IDS_IN_HEAD_MAX; at = text.indexOf(prefix, at + prefix.length), looks++) {
    const id = text.slice(at, at + prefix.length + RANDOM_CHARS)
    if (MINTED.test(id)) ids.push(id)
  }
  return ids
}

/** Null: a client chose it. */
export function placeOfSession(id: string): SessionPlace | null {
  const match = MINTED.exec(id)
  if (match === null) return null
  const [, site] = match
  return site === undefined ? { kind: 'region' } : { kind: 'site', site }
}

/** What may be an id at all. */
export function isSessionId(id: string): boolean {
  return CHOSEN.test(id)
}

function prefixOf(place: SessionPlace): string {
  return place.kind === 'region' ? 'r.' : `p${place.site}.`
}
