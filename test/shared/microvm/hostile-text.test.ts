/** Texts of guests and maps of uploads that are made to take long: each takes milliseconds, or is refused. */
import t from 'tap'
import { IntlHost } from '../../../shared/intl/intl-host.ts'
import { SOURCE_MAP_MAX_BYTES } from '../../../shared/limits.ts'
import { shownFrames, shownText } from '../../../shared/microvm/line-tables/map-stack.ts'
import { OriginalPlaces } from '../../../shared/microvm/line-tables/original-places.ts'

/** Far more than any of it takes, far less than what grows with a square. */
const LONG_MS = 3_000

function tookMs(work: () => unknown): number {
  const beganAtMs = performance.now()
  work()
  return performance.now() - beganAtMs
}

t.test('a log line of empty lines is looked through once', (t) => {
  const line = '\n'.repeat(200_000)
  t.ok(tookMs(() => t.ok(shownText(line) === line, 'as it is')) < LONG_MS)
  t.end()
})

t.test('of a stack of millions of lines only the beginning is read', (t) => {
  const frames = shownFrames('    at work (src/index.js:1:2)\n'.repeat(1_000_000))
  t.equal(frames[0], '    at work (src/index.js:1:2)')
  t.ok(frames.length < 10_000, `${frames.length} lines`)
  t.end()
})

t.test('a language of thousands of variants has no display name', (t) => {
  const host = new IntlHost(() => undefined)
  const code = `en-${Array.from({ length: 15_000 }, (_, index) => `v${index.toString(36).padStart(6, '0')}`).join('-')}`
  t.throws(() => host.perform('a', JSON.stringify(['O', ['en'], { type: 'language' }]), 'of', code, ''), { name: 'RangeError', message: /more than 1024 characters/ })
  t.equal(host.perform('a', JSON.stringify(['O', ['en'], { type: 'language' }]), 'of', 'de-AT', ''), 'Austrian German')
  t.end()
})

t.test('a map with a long root, which would stand before each of its files, is none', (t) => {
  const map = { version: 3, sources: Array.from({ length: 20 }, (_, index) => `${index}.js`), mappings: 'AAAA' }
  t.equal(OriginalPlaces.read(JSON.stringify({ ...map, sourceRoot: 'r/'.repeat(SOURCE_MAP_MAX_BYTES / 8) }), 'x'), null)
  t.strictSame(OriginalPlaces.read(JSON.stringify({ ...map, sourceRoot: '' }), 'x')?.find(1, 1), { file: '0.js', line: 1, column: 1 })
  t.end()
})

t.test('places of one long line are found without reading it each time', (t) => {
  // A euro sign and an emoji in every 64 characters: three and four bytes, one and two characters. `gE` is 64 on.
  const piece = `\u20ac\u{1f600}${'x'.repeat(61)}`
  const line = piece.repeat(16_384)
  const everyPiece = Array.from({ length: 16_384 }, (_, index) => (index === 0 ? 'AAAA' : 'gEAAC')).join(',')
  const places = OriginalPlaces.read(JSON.stringify({ version: 3, sources: ['a.js'], mappings: everyPiece }), line)
  const bytes = Buffer.byteLength(piece)
  const wrong: number[] = []
  t.ok(tookMs(() => {
    for (let index = 0; index < 16_384; index++) if (places?.find(1, index * bytes + 1)?.column !== index + 1) wrong.push(index)
  }) < LONG_MS)
  t.strictSame(wrong, [])
  t.end()
})
