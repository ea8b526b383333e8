/** Sealing without a store: blocks, manifests, pages in groups, keys for POPs. */
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { PAGE_BYTES, ZERO_BLOCK, blockIdOf, type BlockId, type ImageManifest } from '../../../shared/microvm/manifest.ts'
import { blockKey, contentDigest, isZeros, openBlock, sealBlock } from '../../../shared/store/block-seal.ts'
import { GROUP_PAGES } from '../../../shared/microvm/page-patch.ts'
import { ALL_ZEROS, groupsOf, pagesOf, piecesOf, storedGroupsOf } from '../../../shared/store/page-groups.ts'
import { loadPopKeys, makePopKeys, unwrapAtPop, wrapForPop } from '../../../shared/store/pop-keys.ts'
import { decodeSealedManifest, encodeSealedManifest, newDataKey, openManifest, parseObjectId, sealManifest } from '../../../shared/store/sealed-manifest.ts'
import { failureOf } from './store-fixtures.ts'

const content = Buffer.from('x'.repeat(5000))
const OBJECT = parseObjectId('ab'.repeat(32))
const OTHER = parseObjectId('cd'.repeat(32))

function seal(bytes: Uint8Array, domain = '', saltId = 0): ReturnType<typeof sealBlock> {
  return sealBlock(blockKey(domain, saltId, contentDigest(bytes)), bytes)
}

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const copy = Buffer.from(bytes)
  copy[at] = (copy[at] ?? 0) ^ 1
  return copy
}

function manifestOf(pages: readonly (readonly [number, BlockId])[]): ImageManifest {
  return { format: 1, engineBuild: 'e', parentId: null, layer: 'function', virtualPages: 4, globals: {}, entries: {}, pages }
}

t.test('a block with any altered byte, a wrong key or a wrong id is refused by name', async (t) => {
  const block = seal(content)
  for (const at of [0, 2500, block.bytes.byteLength - 17, block.bytes.byteLength - 1]) t.match(failureOf(() => openBlock(block.key, block.id, flipped(block.bytes, at))), new RegExp(`^ERR_STORE_BLOCK Block ${block.id} is altered`), `byte ${at}`)
  t.match(failureOf(() => openBlock(block.key, block.id, block.bytes.subarray(1))), /^ERR_STORE_BLOCK/)
  t.match(failureOf(() => openBlock(block.key, block.id, new Uint8Array(3))), /^ERR_STORE_BLOCK/)
  const other = seal(Buffer.from('other'))
  t.match(failureOf(() => openBlock(other.key, block.id, block.bytes)), new RegExp(`^ERR_STORE_BLOCK Block ${block.id} is not what its manifest says`))
  t.match(failureOf(() => openBlock(block.key, other.id, block.bytes)), new RegExp(`^ERR_STORE_BLOCK Block ${other.id} is altered`))
})

t.test('a block made by somebody who knows the key is refused: its id differs', async (t) => {
  const honest = seal(content)
  const forged = sealBlock(honest.key, Buffer.from('evil'))
  t.match(failureOf(() => openBlock(honest.key, honest.id, forged.bytes)), /altered/)
})

t.test('equal content gives equal blocks within a domain and a salt, and unrelated ones across them', async (t) => {
  const block = seal(content)
  t.same(seal(Buffer.from(content)), block)
  t.equal(Buffer.compare(openBlock(block.key, block.id, block.bytes), content), 0)
  t.equal(Buffer.from(block.bytes).indexOf(content.subarray(0, 8)), -1, 'nothing of the content shows')
  const ids = [block.id, seal(content, 'account').id, seal(content, '', 1).id, seal(content, 'account', 1).id, seal(content, 'accoun', 0).id]
  t.equal(new Set(ids).size, ids.length)
})

t.test('zeros are recognised wherever they lie in memory', async (t) => {
  const memory = new Uint8Array(4096 + 16)
  for (const offset of [0, 1, 8]) for (const length of [1, 7, 8, 9, 4096]) {
    const view = memory.subarray(offset, offset + length)
    t.ok(isZeros(view), `${length} at ${offset}`)
    view[length - 1] = 1
    t.notOk(isZeros(view), `${length} at ${offset}, not quite`)
    view[length - 1] = 0
  }
})

t.test('a manifest opens with its own key only, and not if any part of it is altered', async (t) => {
  const block = seal(content)
  const dataKey = newDataKey()
  const head = Buffer.from('private head')
  const pieces = [{ id: block.id, bytes: content.byteLength }, { id: null, bytes: 4096 }]
  const sealed = sealManifest(dataKey, { objectId: OBJECT, kind: 'image', parentId: OTHER, pieces }, { head, keys: [block.key, null], saltIds: [7, 0] })
  const encoded = encodeSealedManifest(sealed)
  t.equal(Buffer.from(encoded).indexOf('private'), -1)
  t.equal(Buffer.from(encoded).indexOf(block.key), -1)
  t.match(failureOf(() => openManifest(newDataKey(), sealed)), /^ERR_STORE_KEY .*ab.* does not open it$/)
  t.match(failureOf(() => openManifest(dataKey, { ...sealed, parentId: null })), /^ERR_STORE_KEY/)
  t.match(failureOf(() => openManifest(dataKey, { ...sealed, pieces: [...pieces].reverse() })), /^ERR_STORE_KEY/)
  t.match(failureOf(() => openManifest(dataKey, { ...sealed, keyPart: flipped(sealed.keyPart, 3) })), /^ERR_STORE_KEY/)
  t.match(failureOf(() => openManifest(dataKey, { ...sealed, keyPart: new Uint8Array(2) })), /^ERR_STORE_KEY/)
  const opened = openManifest(dataKey, decodeSealedManifest(encoded, OBJECT))
  t.equal(Buffer.from(opened.head).toString(), 'private head')
  t.same(opened.saltIds, [7, 0])
  t.same(opened.keys.map((key) => (key === null ? null : Buffer.from(key).toString('hex'))), [Buffer.from(block.key).toString('hex'), null])
})

t.test('a manifest from anywhere is checked before it is used', async (t) => {
  const sealed = sealManifest(newDataKey(), { objectId: OBJECT, kind: 'bundle', parentId: null, pieces: [] }, { head: new Uint8Array(0), keys: [], saltIds: [] })
  const encoded = Buffer.from(encodeSealedManifest(sealed))
  const withPublic = (value: unknown): Buffer => {
    const text = Buffer.from(JSON.stringify(value))
    const length = Buffer.alloc(4)
    length.writeUInt32LE(text.byteLength)
    return Buffer.concat([Buffer.from('OSM1'), length, text, sealed.keyPart])
  }
  const whole = { format: 1, objectId: OBJECT, kind: 'bundle', parentId: null, pieces: [] as unknown[] }
  const cases: [string, Uint8Array][] = [
    ['empty', new Uint8Array(0)], ['other magic', flipped(encoded, 0)], ['cut short', encoded.subarray(0, 60)], ['a length beyond the end', flipped(encoded, 7)],
    ['not JSON', flipped(encoded, 8)], ['another object', withPublic({ ...whole, objectId: OTHER })], ['another format', withPublic({ ...whole, format: 2 })],
    ['unknown members', withPublic({ ...whole, more: 1 })], ['a bad id', withPublic({ ...whole, pieces: [['../x', 1]] })], ['an empty piece', withPublic({ ...whole, pieces: [[null, 0]] })],
    ['an endless piece', withPublic({ ...whole, pieces: [[null, 2 ** 40]] })],
  ]
  for (const [title, bytes] of cases) t.match(failureOf(() => decodeSealedManifest(bytes, OBJECT)), /^ERR_STORE_BLOCK .*ab/, title)
  t.equal(decodeSealedManifest(withPublic(whole), OBJECT).kind, 'bundle', 'the form of these cases is right otherwise')
  t.match(failureOf(() => parseObjectId('AB')), /^ERR_STORE_BLOCK/)
})

t.test('pages group by window of the address space, and come back', async (t) => {
  const pages = new Map<BlockId, Uint8Array>()
  const page = (): BlockId => {
    const bytes = new Uint8Array(randomBytes(PAGE_BYTES))
    pages.set(blockIdOf(bytes), bytes)
    return blockIdOf(bytes)
  }
  const [a, b, c, d] = [page(), page(), page(), page()]
  const far = GROUP_PAGES * 4
  const manifest = manifestOf([[0, ZERO_BLOCK], [1, a], [GROUP_PAGES - 1, b], [GROUP_PAGES, b], [GROUP_PAGES * 3, ZERO_BLOCK], [far, c], [far + 1, ZERO_BLOCK], [far + 2, d]])
  // The parent has a page that differs from one of ours by a word, and others that have nothing in common.
  const almost = Uint8Array.from(pages.get(c) ?? [])
  almost[100] = (almost[100] ?? 0) ^ 1
  const other = new Uint8Array(randomBytes(PAGE_BYTES))
  const before = (index: number): Uint8Array => (index === far ? almost : index === 1 ? other : ALL_ZEROS(index))
  const groups = groupsOf(manifest)
  t.same(groups, [[[1, a], [GROUP_PAGES - 1, b]], [[GROUP_PAGES, b]], [[far, c], [far + 2, d]]])
  t.match(failureOf(() => piecesOf(manifest, new Map([...pages].slice(1)), before)), /^ERR_STORE_BLOCK .* is missing/)
  t.match(failureOf(() => piecesOf(manifest, new Map([...pages, [a, new Uint8Array(5)]]), before)), /^ERR_STORE_BLOCK .* is altered/)
  const pieces = piecesOf(manifest, pages, before)
  t.ok((pieces[2]?.byteLength ?? 0) < PAGE_BYTES + 100, 'a page that the parent almost has costs next to nothing')
  const back = new Map(groups.flatMap((group, index) => pagesOf(group, pieces[index] ?? new Uint8Array(0), before)))
  for (const [id, bytes] of pages) t.equal(Buffer.compare(back.get(id) ?? new Uint8Array(0), bytes), 0)
  t.match(failureOf(() => pagesOf(groups[2] ?? [], pieces[2] ?? new Uint8Array(0), ALL_ZEROS)), /^ERR_STORE_BLOCK .* is not what its image says/, 'over another page than it was made for')
  t.match(failureOf(() => pagesOf(groups[0] ?? [], pieces[1] ?? new Uint8Array(0), before)), /^ERR_STORE_BLOCK .*its image wants 2/)
  t.match(failureOf(() => pagesOf(groups[1] ?? [], new Uint8Array(PAGE_BYTES), before)), /^ERR_STORE_BLOCK/)
  t.same(groupsOf(manifestOf([[3, ZERO_BLOCK]])), [])
  t.same(storedGroupsOf(manifest, 3), groups)
  for (const count of [0, 2, 4]) t.match(failureOf(() => storedGroupsOf(manifest, count)), /^ERR_STORE_BLOCK/)
})

t.test('a key wrapped for one POP and object opens there and nowhere else', async (t) => {
  const dataKey = newDataKey()
  const [pop, thief] = [makePopKeys(), makePopKeys()]
  const wrapped = wrapForPop(pop.publicKey, OBJECT, dataKey)
  t.equal(Buffer.compare(unwrapAtPop(pop, OBJECT, wrapped), dataKey), 0)
  t.match(failureOf(() => unwrapAtPop(thief, OBJECT, wrapped)), /^ERR_STORE_KEY .* was not wrapped for this POP$/)
  t.match(failureOf(() => unwrapAtPop(pop, OTHER, wrapped)), /^ERR_STORE_KEY/)
  for (let at = 0; at < wrapped.byteLength; at += 7) t.match(failureOf(() => unwrapAtPop(pop, OBJECT, flipped(wrapped, at))), /^ERR_STORE_KEY/, `byte ${at}`)
  t.match(failureOf(() => unwrapAtPop(pop, OBJECT, new Uint8Array(80))), /^ERR_STORE_KEY/, 'a public key of zeros')
  t.not(Buffer.compare(wrapped, wrapForPop(pop.publicKey, OBJECT, dataKey)), 0)
  t.match(failureOf(() => wrapForPop('short', OBJECT, dataKey)), /^ERR_STORE_KEY/)
  t.match(failureOf(() => wrapForPop(Buffer.alloc(32).toString('base64url'), OBJECT, dataKey)), /^ERR_STORE_KEY/, 'a point that gives no secret')
})

t.test('the keys of a POP are made once and readable by their owner only', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'outpost-pop-keys-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'pop-key.json')
  const made = loadPopKeys(path)
  const again = loadPopKeys(path)
  t.equal(again.publicKey, made.publicKey)
  const dataKey = newDataKey()
  t.equal(Buffer.compare(unwrapAtPop(again, OBJECT, wrapForPop(made.publicKey, OBJECT, dataKey)), dataKey), 0)
  t.equal(statSync(path).mode & 0o777, 0o600)
  writeFileSync(path, '{"format":1}')
  t.match(failureOf(() => loadPopKeys(path)), /^ERR_STORE_KEY .*pop-key.json cannot be used/)
  t.match(failureOf(() => loadPopKeys(join(folder, 'no', 'folder'))), /^ERR_STORE_KEY/)
})
