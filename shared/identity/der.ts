/**
 * The little of DER (X.690) that a certificate needs: values are written, never read. Pure.
 *
 * Reading is left to node:crypto: a reader has to survive hostile input, a writer only has to be right, and
 * test/shared/identity/key-pair.test.ts shows what it writes to OpenSSL.
 */

export function sequence(...items: readonly Uint8Array[]): Buffer {
  return tagged(0x30, ...items)
}

export function set(...items: readonly Uint8Array[]): Buffer {
  return tagged(0x31, ...items)
}

/** `[number] EXPLICIT`. */
export function explicit(number: number, ...items: readonly Uint8Array[]): Buffer {
  return tagged(0xa0 + number, ...items)
}

/** A number that is not negative, as big-endian bytes of any length. */
export function integer(bytes: Uint8Array): Buffer {
  let from = 0
  while (from < bytes.length - 1 && bytes[from] === 0) from += 1
  const digits = bytes.subarray(from)
  // The highest bit is the sign.
  return tagged(0x02, (digits[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), digits]) : digits)
}

export function bitString(bytes: Uint8Array): Buffer {
  return tagged(0x03, Buffer.from([0]), bytes)
}

export function octetString(bytes: Uint8Array): Buffer {
  return tagged(0x04, bytes)
}

export function utf8String(text: string): Buffer {
  return tagged(0x0c, Buffer.from(text, 'utf8'))
}

export const TRUE = Buffer.from([0x01, 0x01, 0xff])

/** `1.2.840...`. */
export function objectId(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number)
  return tagged(0x06, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]))
}

/** RFC 5280: years to 2049 are written with two digits. `text` is `YYYYMMDDHHMMSSZ`. */
export function time(text: string): Buffer {
  return text < '2050' ? tagged(0x17, Buffer.from(text.slice(2), 'latin1')) : tagged(0x18, Buffer.from(text, 'latin1'))
}

function tagged(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(contents)
  return Buffer.concat([Buffer.from([tag, ...lengthOf(content.length)]), content])
}

function lengthOf(length: number): readonly number[] {
  if (length < 0x80) return [length]
  const bytes: number[] = []
  for (let left = length; left > 0; left = Math.floor(left / 256)) bytes.unshift(left % 256)
  return [0x80 + bytes.length, ...bytes]
}

function base128(number: number): readonly number[] {
  const digits = [number & 0x7f]
  for (let left = number >>> 7; left > 0; left >>>= 7) digits.unshift((left & 0x7f) | 0x80)
  return digits
}
