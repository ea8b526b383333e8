/**
 * Random UUIDs (RFC 9562, version 4) for request ids: the text of many is made at once, and one is cut out. Node's own
 * joins twenty pieces each time and leaves half a kilobyte of garbage.
 */
import { randomFillSync } from 'node:crypto'

const BATCH = 256
const TEXT_BYTES = 36
const random = Buffer.alloc(16 * BATCH)
const text = Buffer.alloc(TEXT_BYTES * BATCH, '-')
const DIGITS = Buffer.from('0123456789abcdef')
let next = text.length

export function randomUuid(): string {
  if (next === text.length) refill()
  const start = next
  next += TEXT_BYTES
  return text.toString('latin1', start, next)
}

function refill(): void {
  randomFillSync(random)
  let to = 0
  for (let from = 0; from < random.length; from++) {
    const place = from % 16
    let byte = random[from] ?? 0
    if (place === 6) byte = (byte & 0x0f) | 0x40
    else if (place === 8) byte = (byte & 0x3f) | 0x80
    if (place === 4 || place === 6 || place === 8 || place === 10) to++
    text[to++] = DIGITS[byte >> 4] ?? 0
    text[to++] = DIGITS[byte & 15] ?? 0
  }
  next = 0
}
