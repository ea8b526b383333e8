/**
 * What of a function's response head may go out. uWS writes names and values as they are, CR and LF included, and sends a
 * Content-Length beside its own: so everything is checked here, and all that concerns framing or the connection is ours.
 *
 * The result is kept by the whole header string: functions answer with few distinct heads, and a lookup costs a fraction
 * of taking one apart (bench/front-door.ts).
 */

export type CheckedHead =
  | {
      readonly kind: 'head'
      /** `\r\nname: value` for each header, ready to follow a status line. */
      readonly lines: string
      /** False: `lines` must be written as Latin-1 bytes, since uWS would write text as UTF-8. */
      readonly ascii: boolean
      /** What the function said about the length; used only where no body is sent (HEAD, 304). */
      readonly contentLength: number | null
    }
  | { readonly kind: 'refused'; readonly why: string }

/** Bytes of all header names and values together: what common clients accept. */
const HEAD_MAX_CHARS = 32 * 1024
/** Checked heads kept per generation, and the longest one that is: 8 MiB in all at most. */
const MEMO_MAX = 512
const MEMO_HEAD_MAX_CHARS = 4096

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const VALUE_BAD = /[^\t\x20-\x7e\x80-\xff]/
const ASCII = /^[\x00-\x7f]*$/
const DROPPED: ReadonlySet<string> = new Set([
  'content-length', 'transfer-encoding', 'connection', 'keep-alive', 'te', 'trailer', 'upgrade', 'date', 'proxy-authenticate',
  'proxy-authorization', 'proxy-connection',
])

/** Two generations: what was used since the last change of generations survives it, whatever else came by. */
export class ResponseHeads {
  #recent = new Map<string, CheckedHead>()
  #older = new Map<string, CheckedHead>()

  /** `headers`: `name\nvalue...` as the function gave them. */
  check(headers: string): CheckedHead {
    const known = this.#recent.get(headers)
    if (known !== undefined) return known
    const checked = this.#older.get(headers) ?? checkHead(headers)
    if (headers.length <= MEMO_HEAD_MAX_CHARS) {
      if (this.#recent.size >= MEMO_MAX) {
        this.#older = this.#recent
        this.#recent = new Map()
      }
      this.#recent.set(headers, checked)
    }
    return checked
  }
}

export function checkHead(headers: string): CheckedHead {
  if (headers.length > HEAD_MAX_CHARS) return { kind: 'refused', why: `headers of more than ${HEAD_MAX_CHARS} bytes` }
  let lines = ''
  let contentLength: number | null = null
  const parts = headers === '' ? [] : headers.split('\n')
  if (parts.length % 2 !== 0) return { kind: 'refused', why: 'a line break in a header' }
  for (let index = 0; index < parts.length; index += 2) {
    const name = (parts[index] ?? '').toLowerCase()
    const value = parts[index + 1] ?? ''
    if (!NAME.test(name)) return { kind: 'refused', why: `header name ${JSON.stringify(name.slice(0, 80))}` }
    if (VALUE_BAD.test(value)) return { kind: 'refused', why: `the value of header ${name}` }
    if (name === 'content-length' && /^\d{1,15}$/.test(value)) contentLength = Number(value)
    if (DROPPED.has(name) || name.startsWith('x-outpost-') || name.startsWith('proxy-')) continue
    lines += `\r\n${name}: ${value}`
  }
  return { kind: 'head', lines, ascii: ASCII.test(lines), contentLength }
}
