import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import t from 'tap'
import wabt from 'wabt'
import { bindPageOps, compilePageOps, pageOpsBinary } from '../../../shared/microvm/page-ops.ts'
import { FLAGS_PAGES } from '../../../shared/microvm/rewrite/layout.ts'

await t.test('the binary in page-ops.ts is page-ops.wat', async (t) => {
  const source = readFileSync(new URL('../../../shared/microvm/page-ops.wat', import.meta.url), 'utf8')
  const parsed = (await wabt()).parseWat('page-ops.wat', source, { threads: true, bulk_memory: true, ...{ multi_memory: true } })
  t.equal(Buffer.from(pageOpsBinary()).toString('base64'), Buffer.from(parsed.toBinary({}).buffer).toString('base64'))
})

const PAGE = 4096
const GRANULE = 512
const PAGES = 32

await t.test('reset restores every flagged granule and 16 bytes past it, and nothing else', async (t) => {
  const arena = new WebAssembly.Memory({ initial: 4, maximum: 4, shared: true })
  const memory = new WebAssembly.Memory({ initial: 2, maximum: 65_536 })
  const flags = new WebAssembly.Memory({ initial: FLAGS_PAGES, maximum: FLAGS_PAGES })
  const ops = bindPageOps(compilePageOps(), arena, memory, flags)
  const content = Buffer.from(arena.buffer)
  const guest = Buffer.from(memory.buffer)
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
