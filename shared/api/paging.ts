/** Pages of listings. A marker is opaque to clients: the position after which the next page begins. */
import { z } from 'zod'
import { CodedError } from '../errors.ts'

export const PAGE_MAX = 50

/** `MaxItems` may ask for more than a page: it gets a page. Throws ERR_PARAMETER. */
export function pageSize(query: URLSearchParams): number {
  const text = query.get('MaxItems')
  if (text === null) return PAGE_MAX
  const asked = Number(text)
  if (!/^\d{1,5}$/.test(text) || asked < 1 || asked > 10_000) throw new CodedError('ERR_PARAMETER', ['1 validation error detected: MaxItems must be 1 to 10000'])
  return Math.min(asked, PAGE_MAX)
}

export function encodeMarker(position: readonly [name: string, version: number]): string {
  return Buffer.from(JSON.stringify(position)).toString('base64url')
}

const markerSchema = z.tuple([z.string().max(256), z.int().min(0)])

/** Null when there is none. Throws ERR_PARAMETER for one that was not given out. */
export function parseMarker(query: URLSearchParams): readonly [name: string, version: number] | null {
  const text = query.get('Marker')
  if (text === null || text === '') return null
  try {
    return markerSchema.parse(JSON.parse(Buffer.from(text, 'base64url').toString()))
  } catch {
    // Whatever is wrong with it, the client cannot mend it.
    throw new CodedError('ERR_PARAMETER', ['1 validation error detected: Marker is not one that a listing returned'])
  }
}
