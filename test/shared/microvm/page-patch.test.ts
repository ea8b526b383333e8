import fc from 'fast-check'
import t from 'tap'
import { PAGE_BYTES } from '../../../shared/microvm/manifest.ts'
import { decodeGroup, encodeGroup, GROUP_PAGES, type PatchedPage } from '../../../shared/microvm/page-patch.ts'

const ZEROS = new Uint8Array(PAGE_BYTES)

await t.test('what does not fit is refused, whatever the bytes are', (t) => {
  const page = (index: number, size: number, body: readonly number[]): Buffer => {
    const head = Buffer.alloc(6)
    head.writeUInt32LE(index, 0)
    head.writeUInt16LE(size, 4)
    return Buffer.concat([head, Buffer.from(body)])
  }
  for (const [what, bytes] of [
    ['a head cut off', Buffer.from([1, 2, 3])],
    ['runs cut off', page(1, 20, [0, 0, 1, 0])],
    ['a raw page cut off', page(1, 0xffff, [1, 2, 3])],
    ['a run beyond the page', page(1, 8, [0xff, 3, 2, 0, 1, 1, 1, 1])],
    ['a run without words', page(1, 4, [0, 0, 0, 0])],
    ['a run that goes back', page(1, 16, [5, 0, 1, 0, 1, 1, 1, 1, 4, 0, 1, 0, 1, 1, 1, 1])],
    ['a page twice', Buffer.concat([page(1, 0, []), page(1, 0, [])])],
    ['pages of two groups', Buffer.concat([page(1, 0, []), page(GROUP_PAGES, 0, [])])],
  ] as const) t.throws(() => decodeGroup(bytes, () => ZEROS), { code: 'ERR_STORE_BLOCK' }, what)
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    try {
      for (const content of decodeGroup(bytes, () => ZEROS).values()) if (content.length !== PAGE_BYTES) return false
    } catch (error) {
      return (error as { code?: string }).code === 'ERR_STORE_BLOCK'
    }
    return true
  }))
  t.end()
})

await t.test('any pages over any parents come back, the parents stay as they are, and the patches are never larger than the pages', (t) => {
  const word = fc.record({ at: fc.integer({ min: 0, max: 1023 }), value: fc.integer({ min: -3, max: 3 }), count: fc.integer({ min: 1, max: 1024 }) })
  const page = fc.record({ before: fc.array(word, { maxLength: 4 }), changes: fc.array(word, { maxLength: 40 }) })
  fc.assert(fc.property(fc.uniqueArray(fc.integer({ min: 3 * GROUP_PAGES, max: 4 * GROUP_PAGES - 1 }), { minLength: 1, maxLength: 5 }), fc.infiniteStream(page), (indexes, stream) => {
    const pages = indexes.sort((a, b) => a - b).map((index): PatchedPage => {
      const { before, changes } = stream.next().value as { before: { at: number; value: number; count: number }[]; changes: { at: number; value: number; count: number }[] }
      const parent = new Int32Array(1024)
      for (const { at, value, count } of before) parent.fill(value, at, at + count)
      const content = parent.slice()
      for (const { at, value, count } of changes) content.fill(value, at, at + (count % 7))
      return { index, content: new Uint8Array(content.buffer), before: new Uint8Array(parent.buffer) }
    })
    const parents = new Map(pages.map(({ index, before }) => [index, before]))
    const copies = new Map(pages.map(({ index, before }) => [index, before.slice()]))
    const encoded = encodeGroup(pages)
    const decoded = decodeGroup(encoded, (index) => parents.get(index) ?? ZEROS)
    const same = pages.every(({ index, content }) => Buffer.from(decoded.get(index) ?? []).equals(content) && Buffer.from(parents.get(index) ?? []).equals(copies.get(index) ?? ZEROS))
    return same && decoded.size === pages.length && encoded.length <= pages.length * (PAGE_BYTES + 6)
  }))
  t.end()
})

await t.test('a word that changed costs fourteen bytes, a new page the page', (t) => {
  const random = Uint8Array.from({ length: PAGE_BYTES }, (_each, index) => (index * 7919) % 251 + 1)
  const changed = random.slice()
  changed[100] = 0
  t.equal(encodeGroup([{ index: 1, content: changed, before: random }]).length, 6 + 4 + 4)
  t.equal(encodeGroup([{ index: 1, content: random, before: ZEROS }]).length, 6 + PAGE_BYTES)
  t.equal(encodeGroup([{ index: 1, content: ZEROS, before: ZEROS }]).length, 6)
  t.end()
})
