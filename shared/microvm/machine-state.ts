/**
 * A machine at rest as bytes: the words in which it differs from its image, its globals and its size. What a session
 * keeps between two requests, in whatever process the next one runs.
 *
 *   32 bytes   id of the image
 *   u32        format, virtual size in 64 KiB pages, number of globals, garbage threshold
 *   f64 ...    globals
 *   runs       u32 header: words skipped since the last run << 8 | words that follow (0: skip only); then those words
 *
 * All little-endian. Addresses only ever grow, so a run is checked by one comparison.
 *
 * M1  Bytes are taken for hostile though they are authenticated before: `readState` checks every run against the size
 *     that it found within the limit, before anything is written.
 */
import type { ImageId } from '../brand.ts'
import { CodedError } from '../errors.ts'
import type { ResidentImage } from './arena.ts'

const FORMAT = 1
const ID_WORDS = 8
const HEADER_WORDS = ID_WORDS + 4
const COLLECT_WORD = ID_WORDS + 3
const COUNT_MAX = 0xff
const SKIP_MAX = 0xff_ffff
/** Headers that only skip: 64 MiB each, and a machine has 4 GiB at most. */
const SKIPS_MAX = 64
const WORDS_PER_WASM_PAGE = 16_384
const FIRST_WORDS = 4_096

export interface StateHeader {
  readonly virtualPages: number
  readonly globals: readonly number[]
  /** From how many bytes on the guest's cycles are collected before it is captured again. */
  readonly collectAboveBytes: number
}

/** Receives runs of words, ascending: `count` of them for `address` on, which are at `at` of all. */
export type OnRun = (address: number, at: number, count: number) => void

/** Collects pairs of word address and content, ascending, into runs. */
export class StateWriter {
  readonly #maxWords: number
  readonly #runsAt: number
  #words: Int32Array<ArrayBuffer>
  #at: number
  /** Where the header of the run that may be continued is; 0 for none. */
  #headerAt = 0
  #nextAddress = 0
  #overflow = false

  constructor(image: ResidentImage, header: StateHeader, maxBytes: number) {
    this.#maxWords = Math.floor(maxBytes / 4)
    this.#runsAt = this.#at = HEADER_WORDS + header.globals.length * 2
    this.#words = new Int32Array(Math.max(FIRST_WORDS, this.#runsAt))
    this.#words.set(idWords(image.imageId))
    this.#words.set([FORMAT, header.virtualPages, header.globals.length, header.collectAboveBytes], ID_WORDS)
    new Float64Array(this.#words.buffer, HEADER_WORDS * 4, header.globals.length).set(header.globals)
  }

  /** `pairs`: address and content of each word, as `changes` of page-ops.wat writes them. */
  add(pairs: Int32Array): void {
    // Each word takes its own place and at most a header of its own.
    if (this.#at + pairs.length + SKIPS_MAX > this.#words.length && !this.#grow(pairs.length + SKIPS_MAX)) return
    const words = this.#words
    let at = this.#at
    for (let index = 0; index < pairs.length; index += 2) {
      const address = (pairs[index] ?? 0) >>> 0
      const header = words[this.#headerAt] ?? 0
      if (address !== this.#nextAddress || (header & COUNT_MAX) === COUNT_MAX || this.#headerAt === 0) {
        let skip = address - this.#nextAddress
        for (; skip > SKIP_MAX; skip -= SKIP_MAX) words[at++] = SKIP_MAX << 8
        this.#headerAt = at
        words[at++] = (skip << 8) | 1
      } else words[this.#headerAt] = header + 1
      words[at++] = pairs[index + 1] ?? 0
      this.#nextAddress = address + 1
    }
    this.#at = at
  }

  /** The state, or null if it is larger than allowed. */
  finish(): Uint8Array | null {
    if (this.#overflow || this.#at > this.#maxWords) return null
    return new Uint8Array(this.#words.buffer.slice(0, this.#at * 4))
  }

  #grow(neededWords: number): boolean {
    if (this.#at > this.#maxWords) this.#overflow = true
    else {
      const larger = new Int32Array(Math.max(this.#words.length * 2, this.#at + neededWords))
      larger.set(this.#words)
      this.#words = larger
    }
    return !this.#overflow
  }
}

/** Changes what a state says about garbage; it is known only after the capture. */
export function setCollectAbove(state: Uint8Array, bytes: number): void {
  new DataView(state.buffer, state.byteOffset).setUint32(COLLECT_WORD * 4, bytes, true)
}

/** M1. Throws ERR_SESSION_STATE if it is not a state of `image` that fits `limitPages`. */
export function readState(bytes: Uint8Array, image: ResidentImage, limitPages: number): StateHeader & { readonly runs: Int32Array } {
  const refuse = (why: string): CodedError => new CodedError('ERR_SESSION_STATE', [why])
  if (bytes.length % 4 !== 0 || bytes.length < HEADER_WORDS * 4) throw refuse('it is cut short')
  // Words can only be read at a multiple of four.
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes)
  const words = new Int32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4)
  if (idWords(image.imageId).some((word, index) => word !== words[index])) throw refuse('it is of another image')
  const [format = 0, virtualPages = 0, globalCount = 0, collectAboveBytes = 0] = words.subarray(ID_WORDS, HEADER_WORDS)
  if (format !== FORMAT) throw refuse(`it has format ${format}`)
  if (virtualPages < image.virtualPages || virtualPages > limitPages) throw refuse(`it has ${virtualPages} pages, and ${limitPages} are allowed`)
  if (globalCount !== image.globals.length || words.length < HEADER_WORDS + globalCount * 2) throw refuse('its globals are not the image\'s')
  const globals = [...new Float64Array(new Uint8Array(aligned.subarray(HEADER_WORDS * 4, (HEADER_WORDS + globalCount * 2) * 4)).buffer)]
  if (!globals.every(Number.isInteger)) throw refuse('a global is no integer')
  const runs = words.subarray(HEADER_WORDS + globalCount * 2)
  const end = virtualPages * WORDS_PER_WASM_PAGE
  let address = 0
  for (let at = 0; at < runs.length; ) {
    const header = (runs[at++] ?? 0) >>> 0
    const count = header & COUNT_MAX
    address += (header >>> 8) + count
    at += count
    if (address > end || at > runs.length) throw refuse('a run of words lies outside')
  }
  return { virtualPages, globals, collectAboveBytes: collectAboveBytes >>> 0, runs }
}

/** What `readState` has checked, run by run. */
export function forEachRun(runs: Int32Array, onRun: OnRun): void {
  let address = 0
  for (let at = 0; at < runs.length; ) {
    const header = (runs[at++] ?? 0) >>> 0
    const count = header & COUNT_MAX
    address += header >>> 8
    if (count > 0) onRun(address, at, count)
    address += count
    at += count
  }
}

function idWords(imageId: ImageId): Int32Array {
  const bytes = new Uint8Array(ID_WORDS * 4)
  bytes.set(Buffer.from(imageId, 'hex').subarray(0, bytes.length))
  return new Int32Array(bytes.buffer)
}
