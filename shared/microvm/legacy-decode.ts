/**
 * The encodings of the standard besides UTF-8, UTF-16 and windows-1252, for guests: by this process's ICU, and by tables where
 * that has none. Nothing is kept between two calls.
 */
import { LEGACY_FATAL, LEGACY_MAX_BYTES, LEGACY_STREAM } from '../guest/abi.ts'

/** Of what comes before a chunk: an escape sequence and the beginning of a character. */
const CARRY_MAX_BYTES = 8
/** Bytes that a character of any of them has at most, but for its last. */
const CUT_MAX_BYTES = 3
const ISO_8859_16_LABELS = new Set(['iso-8859-16', 'csiso885916', 'iso8859-16', 'iso885916', 'iso_8859-16', 'iso-ir-226'])
/** 0xa1 to 0xff; ICU as Node ships it does not have it. */
const ISO_8859_16 = '\u0104\u0105\u0141\u20ac\u201e\u0160\u00a7\u0161\u00a9\u0218\u00ab\u0179\u00ad\u017a\u017b\u00b0\u00b1\u010c\u0142\u017d\u201d\u00b6\u00b7\u017e\u010d\u0219\u00bb\u0152\u0153\u0178\u017c\u00c0\u00c1\u00c2\u0102\u00c4\u0106\u00c6\u00c7\u00c8\u00c9\u00ca\u00cb\u00cc\u00cd\u00ce\u00cf\u0110\u0143\u00d2\u00d3\u00d4\u0150\u00d6\u015a\u0170\u00d9\u00da\u00db\u00dc\u0118\u021a\u00df\u00e0\u00e1\u00e2\u0103\u00e4\u0107\u00e6\u00e7\u00e8\u00e9\u00ea\u00eb\u00ec\u00ed\u00ee\u00ef\u0111\u0144\u00f2\u00f3\u00f4\u0151\u00f6\u015b\u0171\u00f9\u00fa\u00fb\u00fc\u0119\u021b\u00ff'
/** 0x80 to 0xff of encodings in which this ICU is not what the standard says; U+FFFD: stands for nothing. */
const TABLES: Readonly<Record<string, string>> = {
  'iso-8859-16': range(0x80, 0xa0) + ISO_8859_16,
  'x-user-defined': range(0xf780, 0xf7ff),
  'windows-874': tableOf('windows-874', (char) => (char >= '\uf8c1' && char <= '\uf8c8' ? '\ufffd' : char)),
  'windows-1253': tableOf('windows-1253', (char, byte) => (byte === 0xaa ? '\ufffd' : char)),
  'windows-1255': tableOf('windows-1255', (char, byte) => (byte === 0xca ? '\u05ba' : char)),
}

function range(from: number, to: number): string {
  let text = ''
  for (let code = from; code <= to; code++) text += String.fromCharCode(code)
  return text
}

function tableOf(encoding: string, correct: (char: string, byte: number) => string): string {
  let text = ''
  for (let byte = 0x80; byte <= 0xff; byte++) text += correct(new TextDecoder(encoding).decode(Uint8Array.of(byte)), byte)
  return text
}

/** The encoding of a label in lower case, null if there is none. */
export function legacyName(label: string): string | null {
  if (ISO_8859_16_LABELS.has(label)) return 'iso-8859-16'
  if (label === 'x-user-defined') return label
  try {
    return new TextDecoder(label).encoding
  } catch {
    return null // The decoder's answer to a label that it does not know.
  }
}

/** See HOST_CALLS. Null as well for what no prelude asks for: an unknown encoding, or more than LEGACY_MAX_BYTES. */
export function legacyDecode(encoding: string, bytes: Uint8Array, flags: number): string | null {
  if (bytes.length > LEGACY_MAX_BYTES + CARRY_MAX_BYTES) return null
  const isStream = (flags & LEGACY_STREAM) !== 0
  const fatal = (flags & LEGACY_FATAL) !== 0
  const table = Object.hasOwn(TABLES, encoding) ? TABLES[encoding] : undefined
  if (table !== undefined) {
    const text = singleBytes(bytes, table)
    return fatal && text.includes('\ufffd') ? null : (isStream ? '\0' : '') + text
  }
  try {
    const text = new TextDecoder(encoding, { fatal }).decode(bytes, { stream: isStream })
    return isStream ? String.fromCharCode(cutBytes(encoding, bytes, text)) + text : text
  } catch {
    return null // The decoder's one failure once the encoding is known: bytes that are not of it.
  }
}

/** How many bytes at the end are not in `text`, which is what the rest stands for. */
function cutBytes(encoding: string, bytes: Uint8Array, text: string): number {
  for (let cut = 0; cut < Math.min(CUT_MAX_BYTES, bytes.length); cut++) {
    // Cut at the right place there is nothing to complain of at the end.
    if (new TextDecoder(encoding).decode(bytes.subarray(0, bytes.length - cut)) === text) return cut
  }
  return Math.min(CUT_MAX_BYTES, bytes.length)
}

function singleBytes(bytes: Uint8Array, table: string): string {
  let text = ''
  for (const byte of bytes) text += byte < 0x80 ? String.fromCharCode(byte) : (table[byte - 0x80] ?? '')
  return text
}
