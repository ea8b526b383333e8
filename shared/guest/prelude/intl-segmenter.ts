/** `Intl.Segmenter`. The host finds the ends of segments in a window of the text (shared/intl/segments.ts); the text stays here. */
import { INTL_SEGMENT_WINDOW_CHARS, INTL_SEGMENT_WINDOW_MARGIN_CHARS, INTL_SEGMENT_WINDOW_MAX_CHARS } from '../../limits.ts'
import { askText, copyHidden, defineService, type IntlConstructor, stateOf, toNumber } from './intl-objects.ts'
import { IteratorPrototype } from './pair-iterator.ts'
import { MathTrunc, NativeParseInt, ObjectSetPrototypeOf, StringSlice, StringSplit, SymbolIterator } from './primordials.ts'
import { tag, toText } from './webidl.ts'

interface SegmentData {
  readonly segment: string
  readonly index: number
  readonly input: string
  readonly isWordLike?: boolean
}

/** `mark`: the length, with `w` or `-` behind it for words. */
function segmentData(input: string, index: number, mark: string): SegmentData {
  const last = mark[mark.length - 1]
  // A number with a letter behind it is read up to the letter.
  const data = { segment: StringSlice(input, index, index + NativeParseInt(mark, 10)), index, input }
  return last === 'w' || last === '-' ? { ...data, isWordLike: last === 'w' } : data
}

/** Segments of `input` from `index`, where one begins, in the words of the host; at least one. */
function segmentsFrom(key: string, input: string, index: number): string[] {
  let chars = index === 0 ? INTL_SEGMENT_WINDOW_CHARS / 4 : INTL_SEGMENT_WINDOW_CHARS
  for (;;) {
    const window = StringSlice(input, index, index + chars)
    const isLast = index + chars >= input.length || chars >= INTL_SEGMENT_WINDOW_MAX_CHARS
    const answer = askText(key, 'from', window, isLast ? 1 : 0)
    if (answer !== '') return StringSplit(answer, ',')
    chars *= 2
  }
}

class SegmentIterator {
  readonly #key: string
  readonly #input: string
  #index = 0
  #marks: readonly string[] = []
  #next = 0

  constructor(key: string, input: string) {
    this.#key = key
    this.#input = input
  }

  next(): IteratorResult<SegmentData, undefined> {
    const input = this.#input
    const index = this.#index
    if (index >= input.length) return { value: undefined, done: true }
    if (this.#next >= this.#marks.length) {
      this.#marks = segmentsFrom(this.#key, input, index)
      this.#next = 0
    }
    const value = segmentData(input, index, this.#marks[this.#next++] ?? '1')
    this.#index = index + value.segment.length
    return { value, done: false }
  }
}

/** How much of the text on either side of a character is looked at. */
const AROUND_CHARS = INTL_SEGMENT_WINDOW_CHARS
const MARGIN_CHARS = INTL_SEGMENT_WINDOW_MARGIN_CHARS

class Segments {
  readonly #key: string
  readonly #input: string

  constructor(key: string, input: string) {
    this.#key = key
    this.#input = input
  }

  containing(position: unknown): SegmentData | undefined {
    const input = this.#input
    const at = MathTrunc(toNumber(position)) || 0
    if (at < 0 || at >= input.length) return undefined
    for (let around = AROUND_CHARS; ; around *= 2) {
      const from = at > around ? at - around : 0
      const to = at + around < input.length ? at + around : input.length
      const found = StringSplit(askText(this.#key, 'around', StringSlice(input, from, to), at - from), ',')
      const index = from + NativeParseInt(found[0] ?? '', 10)
      const data = segmentData(input, index, found[1] ?? '')
      const isClear = (from === 0 || index - from >= MARGIN_CHARS) && (to === input.length || to - index - data.segment.length >= MARGIN_CHARS)
      if (isClear || 4 * around > INTL_SEGMENT_WINDOW_MAX_CHARS) return data
    }
  }

  [SymbolIterator](): SegmentIterator {
    return new SegmentIterator(this.#key, this.#input)
  }
}

/** Neither class has a constructor that code can see. */
function asBuiltIn(constructor: { readonly prototype: object }, parent: object): void {
  const { prototype } = constructor
  Reflect.deleteProperty(prototype, 'constructor')
  copyHidden(prototype, prototype)
  ObjectSetPrototypeOf(prototype, parent)
}

export function segmenter(): IntlConstructor {
  asBuiltIn(Segments, Object.prototype)
  asBuiltIn(SegmentIterator, IteratorPrototype)
  tag(SegmentIterator.prototype, 'Segmenter String Iterator')
  return defineService({ kind: 'S', name: 'Segmenter', options: ['localeMatcher', 'granularity'], call: 'new', strict: true, length: 0 }, {
    segment(this: unknown, input: unknown): Segments {
      const { key } = stateOf(this, 'S')
      return new Segments(key, toText(input))
    },
  })
}
