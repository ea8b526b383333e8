/** The server behind a function, which `ctx.passThroughOnException()` has answer in its place: how one is written. */
import { z } from 'zod'

/** Of a host's name 253, and what stands around it. */
const ORIGIN_MAX_CHARS = 300
const WRITTEN = 'an origin is http:// or https://, a host and perhaps a port, without path, query or credentials'

/** A URL whose path is `/` or nothing. The pattern is what editors check; it leaves to the parser what a host is. */
export const originSchema = z.string().max(ORIGIN_MAX_CHARS).regex(/^https?:\/\/(?:\[[0-9A-Fa-f:.]+\]|[^\s/?#@:[\]\\]+)(?::[0-9]{1,5})?\/?$/, { error: WRITTEN, abort: true })
  .refine((text) => URL.canParse(text), WRITTEN)

/** `text` has passed the schema. As in `URL.origin`: no `/` at the end, no port that the scheme implies. */
export function normalizeOrigin(text: string): string {
  return new URL(text).origin
}
