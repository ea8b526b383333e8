/** The images of a process against a plain model: a map from image to the content of each of its pages. */
import fc from 'fast-check'
import t from 'tap'
import type { ImageId } from '../../../shared/brand.ts'
import { ImageArena } from '../../../shared/microvm/arena.ts'
import { type BlockId, blockIdOf, type ImageManifest, PAGE_BYTES, ZERO_BLOCK } from '../../../shared/microvm/manifest.ts'

const MAX_BYTES = 64 * PAGE_BYTES
/** Four bytes of table and one of mask for each page. */
const ENTRY_BYTES = 5
const ENTRIES_PER_FRAME = Math.floor(PAGE_BYTES / ENTRY_BYTES)

const contents = Array.from({ length: 40 }, (_, value) => new Uint8Array(PAGE_BYTES).fill(value + 1))
const blocks = new Map(contents.map((content) => [blockIdOf(content), content] as const))
const idOf = [...blocks.keys()]
const read = (id: BlockId): Uint8Array => {
  const content = blocks.get(id)
  if (content === undefined) throw new Error('no such block')
  return content
}

type Page = readonly [index: number, block: BlockId]
function manifest(pages: readonly Page[], parentId: ImageId | null = null): ImageManifest {
  return { format: 1, engineBuild: 'build', parentId, layer: parentId === null ? 'base' : 'function', virtualPages: 1, globals: {}, entries: {}, pages }
}

function codeOf(action: () => unknown): string | null {
  try {
    action()
    return null
  } catch (error) {
    return (error as { readonly code?: string }).code ?? String(error)
  }
}

const name = (value: number | string): ImageId => String(value) as ImageId
const page = (index: number, value: number): Page => [index, idOf[value] ?? ZERO_BLOCK]

await t.test('a table of another size is made from what freed tables leave', (t) => {
  const arena = new ImageArena(MAX_BYTES)
  const size = (frames: number): readonly Page[] => [page(frames * ENTRIES_PER_FRAME - 1, 0)]
  for (let at = 0; at < 31; at++) arena.add(name(at), manifest(size(2)), [], read)
  t.equal(codeOf(() => arena.add(name('large'), manifest(size(3)), [], read)), 'ERR_NO_CAPACITY')
  for (let at = 0; at < 31; at++) arena.remove(name(at))
  for (let at = 0; at < 20; at++) t.equal(codeOf(() => arena.add(name(at), manifest(size(3)), [], read)), null)
  t.ok(arena.memory.buffer.byteLength <= MAX_BYTES)
  t.end()
})

await t.test('a table that finds no row of free frames is refused with a code, though as many frames are free', (t) => {
  const arena = new ImageArena(MAX_BYTES)
  for (let at = 0; at < 62; at++) arena.add(name(at), manifest([page(0, 0)]), [], read)
  for (let at = 1; at < 62; at += 2) arena.remove(name(at))
  const usedBytes = arena.usedBytes
  t.equal(codeOf(() => arena.add(name('large'), manifest([page(8 * ENTRIES_PER_FRAME - 1, 0)]), [], read)), 'ERR_NO_CAPACITY')
  t.equal(arena.usedBytes, usedBytes)
  for (let at = 0; at < 31; at += 2) arena.remove(name(at))
  t.equal(codeOf(() => arena.add(name('large'), manifest([page(8 * ENTRIES_PER_FRAME - 1, 0)]), [], read)), null, 'what is freed joins')
  t.end()
})

await t.test('pages that are named twice take room once', (t) => {
  const arena = new ImageArena(4 * PAGE_BYTES)
  t.equal(codeOf(() => arena.add(name(1), manifest([page(0, 1), page(1, 1), page(2, 1), page(3, 2)]), [], read)), null)
  t.end()
})

await t.test('an image one of whose blocks cannot be read leaves nothing behind', (t) => {
  const arena = new ImageArena(MAX_BYTES)
  const usedBytes = arena.usedBytes
  t.throws(() => arena.add(name(1), manifest([page(0, 1), [1, 'missing' as BlockId]]), [], read), /no such block/)
  t.equal(arena.usedBytes, usedBytes)
  t.equal(arena.get(name(1)), undefined)
  t.end()
})

// -- random additions and removals

interface Addition {
  readonly kind: 'add'
  readonly parent: number | null
  readonly pages: readonly (readonly [index: number, value: number])[]
}
type Step = Addition | { readonly kind: 'remove'; readonly which: number } | { readonly kind: 'unreadable'; readonly pages: Addition['pages'] }

const indices = fc.oneof({ weight: 4, arbitrary: fc.nat(20) }, fc.nat(12 * ENTRIES_PER_FRAME))
// -1 stands for a page of zeros.
const somePages = fc.uniqueArray(fc.tuple(indices, fc.integer({ min: -1, max: contents.length - 1 })), { selector: ([index]) => index, maxLength: 12 })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('add' as const), parent: fc.option(fc.nat(9)), pages: somePages }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('remove' as const), which: fc.nat(30) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('unreadable' as const), pages: somePages }) },
)

interface Model {
  readonly content: ReadonlyMap<number, number>
  readonly parentId: ImageId | null
  readonly tableFrames: number
  readonly own: readonly number[]
}

function pagesOf(pages: Addition['pages']): readonly Page[] {
  return pages.toSorted(([a], [b]) => a - b).map(([index, value]) => page(index, value))
}

/** Frames that images take: their tables, each content once, and frame 0. */
function framesOf(images: ReadonlyMap<ImageId, Model>): number {
  const distinct = new Set([...images.values()].flatMap((image) => image.own))
  return 1 + distinct.size + [...images.values()].reduce((sum, image) => sum + image.tableFrames, 0)
}

await t.test('after any additions and removals every page is as its image has it, and bytes are those of the model', (t) => {
  let refused = 0
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    const arena = new ImageArena(MAX_BYTES)
    const images = new Map<ImageId, Model>()
    const nth = (which: number): ImageId | null => [...images.keys()][which % Math.max(1, images.size)] ?? null
    for (const [number, step] of steps.entries()) {
      if (step.kind === 'remove') {
        const id = nth(step.which)
        if (id === null) continue
        const hasChildren = [...images.values()].some((image) => image.parentId === id)
        if (arena.remove(id) === hasChildren) throw new Error('an image with children went, or one without stayed')
        if (!hasChildren) images.delete(id)
      } else if (step.kind === 'unreadable') {
        const pages = pagesOf([...step.pages, [20 * ENTRIES_PER_FRAME, 0]])
        const unreadable = codeOf(() => arena.add(name(number), manifest(pages), [], () => { throw new Error('no such block') }))
        const known = pages.every(([, id]) => id === ZERO_BLOCK || [...images.values()].some((image) => image.own.some((value) => idOf[value] === id)))
        if (unreadable === null) {
          if (!known) throw new Error('added without its blocks')
          arena.remove(name(number))
        }
      } else {
        const parentId = step.parent === null ? null : nth(step.parent)
        const parent = parentId === null ? null : (images.get(parentId) ?? null)
        const content = new Map([...(parent?.content ?? []), ...step.pages])
        const last = Math.max(0, ...content.keys())
        const model: Model = { content, parentId, tableFrames: Math.ceil(((last + 1) * ENTRY_BYTES) / PAGE_BYTES), own: step.pages.map(([, value]) => value).filter((value) => value >= 0) }
        const refusal = codeOf(() => arena.add(name(number), manifest(pagesOf(step.pages), parentId), [], read))
        const fits = framesOf(new Map([...images, [name(number), model]])) * PAGE_BYTES <= MAX_BYTES
        if (refusal !== null) {
          refused++
          if (refusal !== 'ERR_NO_CAPACITY') throw new Error(refusal)
          if (fits && model.tableFrames === 1) throw new Error('refused though it fits')
        } else {
          if (!fits) throw new Error('took more than the arena may have')
          images.set(name(number), model)
        }
      }
      if (arena.usedBytes !== framesOf(images) * PAGE_BYTES) throw new Error(`${arena.usedBytes / PAGE_BYTES} frames, not ${framesOf(images)}`)
      if (arena.memory.buffer.byteLength > MAX_BYTES || arena.imageCount !== images.size) throw new Error('beyond its bounds')
      checkContent(arena, images)
    }
  }), { numRuns: 300 })
  t.ok(refused > 0, 'the arena was full at times')
  t.end()
})

function checkContent(arena: ImageArena, images: ReadonlyMap<ImageId, Model>): void {
  for (const [id, model] of images) {
    const resident = arena.get(id)
    if (resident === undefined) throw new Error(`image ${id} is not here`)
    const named = new Int32Array(arena.memory.buffer, resident.table, resident.count)
    let others = 0
    for (const offset of named) if (offset !== 0) others++
    for (const [index, value] of model.content) {
      const expected = value + 1
      const found = arena.page(resident, index)
      if (found.some((byte) => byte !== expected)) throw new Error(`page ${index} of image ${id} is ${found[0]}, not ${expected}`)
      if (expected !== 0) others--
    }
    if (others !== 0) throw new Error(`image ${id} holds ${others} pages that it does not name`)
  }
}
