import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import t from 'tap'
import wabt from 'wabt'
import { bindPageOps, compilePageOps, pageOpsBinary, type PageOps } from '../../../shared/microvm/page-ops.ts'
import { FLAGS_PAGES } from '../../../shared/microvm/rewrite/layout.ts'

await t.test('the binary in page-ops.ts is page-ops.wat', async (t) => {
  const source = readFileSync(new URL('../../../shared/microvm/page-ops.wat', import.meta.url), 'utf8')
  const parsed = (await wabt()).parseWat('page-ops.wat', source, { threads: true, bulk_memory: true, ...{ multi_memory: true } })
  t.equal(Buffer.from(pageOpsBinary()).toString('base64'), Buffer.from(parsed.toBinary({}).buffer).toString('base64'))
})

const PAGE = 4096
const GRANULE = 512
const PAGES = 32

/** The operations over memories of their own, an arena of so many 64 KiB pages. */
function bound(arenaPages: number): { readonly ops: PageOps; readonly arena: WebAssembly.Memory; readonly content: Buffer; readonly guest: Buffer; readonly flags: WebAssembly.Memory } {
  const arena = new WebAssembly.Memory({ initial: arenaPages, maximum: arenaPages, shared: true })
  const memory = new WebAssembly.Memory({ initial: 2, maximum: 65_536 })
  const flags = new WebAssembly.Memory({ initial: FLAGS_PAGES, maximum: FLAGS_PAGES })
  return { ops: bindPageOps(compilePageOps(), arena, memory, flags), arena, content: Buffer.from(arena.buffer), guest: Buffer.from(memory.buffer), flags }
}

await t.test('reset restores every flagged granule and 16 bytes past it, and nothing else', async (t) => {
  const { ops, arena, content, guest, flags } = bound(4)
  const flag = new Uint8Array(flags.buffer, 0, PAGES * (PAGE / GRANULE))
  const table = 16
  // Page n of the image: content that differs from page to page, zeros for every third and past the table's end.
  const count = 20
  const image = Buffer.alloc(PAGES * PAGE)
  for (let page = 0; page < count; page++) {
    const at = page % 3 === 0 ? 0 : 4096 + page * PAGE
    new Int32Array(arena.buffer)[table / 4 + page] = at
    if (at === 0) continue
    for (let byte = 0; byte < PAGE; byte++) content[at + byte] = image[page * PAGE + byte] = (page * 31 + byte * 7) | 1
  }
  t.doesNotThrow(() => fc.assert(fc.property(fc.uniqueArray(fc.nat(PAGES * 8 - 1), { maxLength: 120 }), fc.boolean(), (granules, runs) => {
    const marked = new Set(runs ? granules.flatMap((granule) => [granule, granule + 1, granule + 2]).filter((granule) => granule < PAGES * 8) : granules)
    guest.fill(0xee)
    flag.fill(0)
    const expected = Buffer.from(guest)
    for (const granule of marked) {
      flag[granule] = 1
      const end = Math.min((granule + 1) * GRANULE + 16, expected.length)
      image.copy(expected, granule * GRANULE, granule * GRANULE, end)
    }
    const restored = ops.reset(table, count, PAGES)
    if (!guest.equals(expected)) throw new Error('memory')
    if (flag.some((value) => value !== 0)) throw new Error('a flag is still set')
    if (restored !== new Set([...marked].map((granule) => granule >> 3)).size) throw new Error(`${restored} pages`)
  }), { numRuns: 500 }))
})

await t.test('switch turns one image into another of the same trunk by the granules in which they differ from it', async (t) => {
  const { ops, arena, content, guest } = bound(32)
  const trunk = Buffer.alloc(PAGES * PAGE)
  for (let at = 0; at < 20 * PAGE; at++) trunk[at] = Math.floor(at / PAGE) % 4 === 0 ? 0 : (at * 13) | 1

  /** An image with `changes` over the trunk, its pages, table and masks in the arena from `from` on. */
  const place = (from: number, count: number, changes: readonly (readonly [granule: number, value: number])[]): { table: number; image: Buffer } => {
    const image = Buffer.from(trunk)
    for (const [granule, value] of changes) if (granule < count * 8) image.fill(value, granule * GRANULE, granule * GRANULE + 40)
    for (let page = 0; page < count; page++) {
      const own = image.subarray(page * PAGE, (page + 1) * PAGE)
      const at = own.every((byte) => byte === 0) ? 0 : from + PAGE * (page + 1)
      // Pages that equal the trunk's have the trunk's frame, here the first image's place.
      const base = trunk.subarray(page * PAGE, (page + 1) * PAGE)
      const shared = own.equals(base) && at !== 0 ? 65_536 + PAGE * (page + 1) : at
      new Int32Array(arena.buffer)[from / 4 + page] = shared
      if (shared !== 0) own.copy(content, shared)
      let mask = 0
      for (let granule = 0; granule < 8; granule++) if (!own.subarray(granule * GRANULE, (granule + 1) * GRANULE).equals(base.subarray(granule * GRANULE, (granule + 1) * GRANULE))) mask |= 1 << granule
      content[from + count * 4 + page] = mask
    }
    return { table: from, image }
  }
  place(65_536, PAGES, [])
  const change = fc.tuple(fc.nat(PAGES * 8 - 1), fc.nat(255))
  t.doesNotThrow(() => fc.assert(fc.property(fc.array(change, { maxLength: 60 }), fc.array(change, { maxLength: 60 }), fc.constantFrom(20, 26, PAGES), fc.constantFrom(20, 29, PAGES), (a, b, aCount, bCount) => {
    const from = place(65_536 * 8, aCount, a)
    const to = place(65_536 * 16, bCount, b)
    from.image.copy(guest)
    ops.switch(from.table, aCount, to.table, bCount, PAGES)
    if (!guest.subarray(0, PAGES * PAGE).equals(to.image)) throw new Error('memory')
    if (ops.verify(to.table, bCount, PAGES) !== -1) throw new Error('the oracle')
  }), { numRuns: 200 }))
})
