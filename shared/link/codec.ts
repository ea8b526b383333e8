/**
 * The one place that knows msgpackr. A WebSocket message is a row of msgpack values, one per frame, each an array.
 *
 * C1  Only plain msgpack is read: nil, booleans, numbers, strings, bytes, arrays, and maps where the caller allows
 *     them. A walk over the bytes checks this, the depth and the number of items before msgpackr sees them, so that
 *     its extensions (records, errors, regular expressions, sets, pointers) cannot be reached from the wire, no header
 *     can make it allocate more than was sent, and nothing nests deeply enough to overflow the stack.
 * C2  Records are off: a record refers to structures of messages before it, and each message must stand alone.
 * C3  64-bit integers are read as numbers; we send none beyond 2^53 and the frame checks refuse what is not a safe
 *     integer. A BigInt is never sent.
 * C4  Byte fields of a decoded value are views of the message: copy what is kept.
 * C5  An encoded value is a view of the encoder's buffer and is overwritten by the next encode.
 */
import { Packr, REUSE_BUFFER_MODE, RESET_BUFFER_MODE, Unpackr } from 'msgpackr'
import { LINK_ANSWER_MAX_BYTES } from '../limits.ts'

const OPTIONS = { useRecords: false, mapsAsObjects: true, moreTypes: false, int64AsType: 'number', copyBuffers: false, bundleStrings: false, variableMapSize: true } as const
const packr = new Packr(OPTIONS)
const unpackr = new Unpackr(OPTIONS)

/** An exception array of an END frame inside a value inside a frame: nothing of ours is deeper than 5. */
const DEPTH_MAX = 8
/** Items of one frame: 512 block ids, or the log lines of one outcome, each at least two bytes of LINK_LOGS_MAX_BYTES. */
const FRAME_ITEMS_MAX = 40_000
/** Items of one value: a report of LINK_FUNCTIONS_MAX functions with their counters and builds. */
const VALUE_ITEMS_MAX = 2_000_000

/** Bytes that are not what they should be. Never leaves shared/link. */
export class MalformedError extends Error {}

/** The encoder's buffer and where the value is in it; see C5. */
export interface EncodedValue {
  readonly buffer: Buffer
  readonly start: number
  readonly end: number
}

export function encode(value: unknown): EncodedValue {
  // REUSE gives the whole buffer with start and end put on it, RESET lets the next encode start at the same place: no garbage.
  const buffer = packr.pack(value, REUSE_BUFFER_MODE | RESET_BUFFER_MODE) as Buffer & { start: number; end: number }
  return { buffer, start: buffer.start, end: buffer.end }
}

/** One value as bytes of the caller's own. */
export function encodeValue(value: unknown): Buffer {
  const { buffer, start, end } = encode(value)
  return Buffer.from(buffer.subarray(start, end))
}

/** Decodes bytes that hold exactly one value, maps allowed. Throws MalformedError. */
export function decodeValue(bytes: Uint8Array): unknown {
  if (bytes.length > LINK_ANSWER_MAX_BYTES) throw new MalformedError('value too large')
  if (valueEnd(bytes, 0, true, VALUE_ITEMS_MAX) !== bytes.length) throw new MalformedError('bytes after the value')
  return unpack(bytes, 0, bytes.length)
}

/**
 * Gives each frame of a message to `take`, which returns false to stop. Throws MalformedError at the first one that
 * is not an array of plain values; the ones before it have been given by then.
 */
export function decodeFrames(message: Uint8Array, take: (frame: readonly unknown[]) => boolean): void {
  if (message.length === 0) throw new MalformedError('empty message')
  for (let start = 0; start < message.length;) {
    const first = message[start] ?? 0
    if ((first & 0xf0) !== 0x90 && first !== 0xdc) throw new MalformedError('frame is not an array')
    const end = valueEnd(message, start, false, FRAME_ITEMS_MAX)
    // The walk above has seen that the value is an array.
    if (!take(unpack(message, start, end) as readonly unknown[])) return
    start = end
  }
}

function unpack(bytes: Uint8Array, start: number, end: number): unknown {
  try {
    return unpackr.unpack(bytes, { start, end })
  } catch (error) {
    // The walk accepts a subset of what msgpackr reads, so this would be a fault of one of the two: still the peer's bytes.
    throw new MalformedError(error instanceof Error ? error.message : 'not msgpack')
  }
}

const remainingAtDepth = new Float64Array(DEPTH_MAX + 1)

/** The offset after the value that starts at `start`; upholds C1. */
function valueEnd(bytes: Uint8Array, start: number, mapsAllowed: boolean, itemsMax: number): number {
  const length = bytes.length
  let at = start
  let depth = 0
  let items = 0
  remainingAtDepth[0] = 1
  for (;;) {
    while (remainingAtDepth[depth] === 0) {
      if (depth === 0) return at
      depth -= 1
    }
    remainingAtDepth[depth] = (remainingAtDepth[depth] ?? 0) - 1
    if (at >= length) throw new MalformedError('truncated')
    if (++items > itemsMax) throw new MalformedError('too many items')
    const type = bytes[at++] ?? 0
    let skip = 0
    let nested = -1
    if (type < 0x80 || type >= 0xe0) continue
    if (type < 0x90) nested = mapItems(type & 0x0f, mapsAllowed)
    else if (type < 0xa0) nested = type & 0x0f
    else if (type < 0xc0) skip = type & 0x1f
    else {
      switch (type) {
        case 0xc0: case 0xc2: case 0xc3: continue
        case 0xcc: case 0xd0: skip = 1; break
        case 0xcd: case 0xd1: skip = 2; break
        case 0xca: case 0xce: case 0xd2: skip = 4; break
        case 0xcb: case 0xcf: case 0xd3: skip = 8; break
        case 0xc4: case 0xd9: skip = 1 + uint(bytes, at, 1); break
        case 0xc5: case 0xda: skip = 2 + uint(bytes, at, 2); break
        case 0xc6: case 0xdb: skip = 4 + uint(bytes, at, 4); break
        case 0xdc: nested = uint(bytes, at, 2); at += 2; break
        case 0xdd: nested = uint(bytes, at, 4); at += 4; break
        case 0xde: nested = mapItems(uint(bytes, at, 2), mapsAllowed); at += 2; break
        case 0xdf: nested = mapItems(uint(bytes, at, 4), mapsAllowed); at += 4; break
        default: throw new MalformedError(`type 0x${type.toString(16)}`)
      }
    }
    if (nested >= 0) {
      // Each item takes at least one byte.
      if (nested > length - at) throw new MalformedError('truncated')
      if (depth === DEPTH_MAX) throw new MalformedError('too deep')
      depth += 1
      remainingAtDepth[depth] = nested
    } else {
      at += skip
      if (at > length) throw new MalformedError('truncated')
    }
  }
}

function mapItems(entries: number, mapsAllowed: boolean): number {
  if (!mapsAllowed) throw new MalformedError('map in a frame')
  return entries * 2
}

function uint(bytes: Uint8Array, at: number, width: 1 | 2 | 4): number {
  if (at + width > bytes.length) throw new MalformedError('truncated')
  let value = 0
  for (let index = 0; index < width; index += 1) value = value * 256 + (bytes[at + index] ?? 0)
  return value
}
