/** `application/x-www-form-urlencoded`, as the URL standard defines it. */
import { ArrayPush, NativeUint8Array, NumberToString, StringIncludes, StringIndexOf, StringReplaceAll, StringSlice, StringSplit, StringToUpperCase, Uint8ArraySubarray, RegExpExec, StringFromCharCode } from './primordials.ts'
import { encodeUtf8, hostUtf8Decode } from './host.ts'

/** Flat list: name, value, name, value. */
export function parseUrlencoded(text: string): string[] {
  const list: string[] = []
  if (text === '') return list
  const plain = !StringIncludes(text, '%') && !StringIncludes(text, '+')
  const parts = StringSplit(text, '&')
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i] ?? ''
    if (part === '') continue
    const equals = StringIndexOf(part, '=')
    const name = equals < 0 ? part : StringSlice(part, 0, equals)
    const value = equals < 0 ? '' : StringSlice(part, equals + 1)
    ArrayPush(list, plain ? name : decodeComponent(name))
    ArrayPush(list, plain ? value : decodeComponent(value))
  }
  return list
}

function hexValue(code: number): number {
  if (code >= 48 && code <= 57) return code - 48
  if (code >= 65 && code <= 70) return code - 55
  if (code >= 97 && code <= 102) return code - 87
  return -1
}

function decodeComponent(text: string): string {
  const spaced = StringIncludes(text, '+') ? StringReplaceAll(text, '+', ' ') : text
  return StringIncludes(spaced, '%') ? percentDecode(spaced) : spaced
}

/** Wrong escapes stay as they are, wrong UTF-8 becomes U+FFFD: decodeURIComponent would throw on both. */
export function percentDecode(text: string): string {
  const source = encodeUtf8(text)
  const bytes = new NativeUint8Array(source.length)
  let length = 0
  for (let i = 0; i < source.length; i++) {
    const byte = source[i] ?? 0
    const high = byte === 37 ? hexValue(source[i + 1] ?? 0) : -1
    const low = high < 0 ? -1 : hexValue(source[i + 2] ?? 0)
    if (low < 0) bytes[length++] = byte
    else {
      bytes[length++] = high * 16 + low
      i += 2
    }
  }
  return hostUtf8Decode(Uint8ArraySubarray(bytes, 0, length), false, true) ?? ''
}

const SAFE = /^[A-Za-z0-9*\-._]*$/

function encodeComponent(text: string): string {
  if (RegExpExec(SAFE, text) !== null) return text
  const bytes = encodeUtf8(text)
  let out = ''
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] ?? 0
    if (byte === 32) out += '+'
    else if ((byte >= 48 && byte <= 57) || (byte >= 65 && byte <= 90) || (byte >= 97 && byte <= 122) || byte === 42 || byte === 45 || byte === 46 || byte === 95) out += StringFromCharCode(byte)
    else out += (byte < 16 ? '%0' : '%') + StringToUpperCase(NumberToString(byte, 16))
  }
  return out
}

export function serializeUrlencoded(list: readonly string[]): string {
  let out = ''
  for (let i = 0; i < list.length; i += 2) out += `${i === 0 ? '' : '&'}${encodeComponent(list[i] ?? '')}=${encodeComponent(list[i + 1] ?? '')}`
  return out
}
