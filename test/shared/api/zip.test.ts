/** Zips that want to do harm, and those that want to work. */
import { deflateRawSync } from 'node:zlib'
import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import { strToU8, zipSync } from 'fflate'
import t from 'tap'
import { openZip } from '../../../shared/api/zip.ts'
import { toCodedError } from '../../../shared/errors.ts'
import { ZIP_ENTRIES_MAX, ZIP_MAX_BYTES, ZIP_UNPACKED_MAX_BYTES } from '../../../shared/limits.ts'

interface EntryOptions {
  readonly name: string | Buffer
  readonly content?: Buffer
  /** As written into both headers; the truth if absent. */
  readonly declaredBytes?: number
  readonly packedBytes?: number
  readonly crc?: number
  readonly method?: number
  readonly flags?: number
  readonly mode?: number
  readonly localName?: string
  readonly localOffset?: number
}

/** A zip with whatever is wanted in its headers. */
function forge(entries: readonly EntryOptions[], end: { readonly count?: number; readonly start?: number; readonly disks?: number; readonly comment?: Buffer } = {}): Buffer {
  const locals: Buffer[] = []
  const centrals: Buffer[] = []
  let offset = 0
  for (const entry of entries) {
    const name = Buffer.from(entry.name)
    const content = entry.content ?? Buffer.from('x')
    const method = entry.method ?? 8
    const packed = method === 8 ? deflateRawSync(content) : content
    const localName = entry.localName === undefined ? name : Buffer.from(entry.localName)
    const local = Buffer.alloc(30)
    local.writeUInt32LE(0x04034b50)
    local.writeUInt16LE(localName.length, 26)
    const central = Buffer.alloc(46)
    central.writeUInt32LE(0x02014b50)
    central.writeUInt8(entry.mode === undefined ? 0 : 3, 5)
    central.writeUInt16LE(entry.flags ?? 0, 8)
    central.writeUInt16LE(method, 10)
    central.writeUInt32LE(entry.crc ?? crc32(content), 16)
    central.writeUInt32LE(entry.packedBytes ?? packed.length, 20)
    central.writeUInt32LE(entry.declaredBytes ?? content.length, 24)
    central.writeUInt16LE(name.length, 28)
    central.writeUInt32LE(((entry.mode ?? 0) << 16) >>> 0, 38)
    central.writeUInt32LE(entry.localOffset ?? offset, 42)
    locals.push(local, localName, packed)
    centrals.push(central, name)
    offset += local.length + localName.length + packed.length
  }
  const directory = Buffer.concat(centrals)
  const last = Buffer.alloc(22)
  last.writeUInt32LE(0x06054b50)
  last.writeUInt16LE(end.disks ?? 0, 4)
  last.writeUInt16LE(end.count ?? entries.length, 8)
  last.writeUInt16LE(end.count ?? entries.length, 10)
  last.writeUInt32LE(directory.length, 12)
  last.writeUInt32LE(end.start ?? offset, 16)
  last.writeUInt16LE(end.comment?.length ?? 0, 20)
  return Buffer.concat([...locals, directory, last, end.comment ?? Buffer.alloc(0)])
}

function reason(bytes: Uint8Array): string {
  try {
    openZip(bytes)
    return 'accepted'
  } catch (error) {
    return `${toCodedError(error).code}: ${toCodedError(error).message}`
  }
}

async function readReason(bytes: Uint8Array, name: string): Promise<string> {
  try {
    return Buffer.from(await openZip(bytes).read(name)).toString()
  } catch (error) {
    return `${toCodedError(error).code}: ${toCodedError(error).message}`
  }
}

await t.test('names that lead somewhere else are refused', (t) => {
  const names: [string | Buffer, RegExp][] = [
    ['../evil.js', /leads out/], ['a/../../evil.js', /leads out/], ['a/./b.js', /plain form/], ['a//b.js', /plain form/], ['..', /leads out/], ['a/..', /leads out/],
    ['/etc/passwd', /absolute/], ['C:evil.js', /absolute/], ['c:/evil.js', /absolute/], ['a\\b.js', /backslash/], ['a\0.js', /control characters/], ['a\n.js', /control characters/],
    ['', /empty/], ['x'.repeat(1025), /longer than 1024/], [Buffer.from([0x61, 0xff, 0xfe]), /not UTF-8/], [Buffer.from([0xed, 0xa0, 0x80]), /not UTF-8/],
  ]
  for (const [name, expected] of names) t.match(reason(forge([{ name }])), expected, JSON.stringify(String(name).slice(0, 30)))
  t.match([...openZip(forge([{ name: './a.js' }, { name: 'dir/', content: Buffer.alloc(0), method: 0 }, { name: 'é/ü.js' }])).names], ['a.js', 'é/ü.js'])
  t.end()
})

await t.test('names that two readers could understand differently are refused', (t) => {
  t.match(reason(forge([{ name: 'a.js' }, { name: 'a.js' }])), /a.js occurs twice/)
  t.match(reason(forge([{ name: 'a.js' }, { name: './a.js' }])), /a.js occurs twice/)
  t.match(reason(forge([{ name: 'a.js', localName: 'b.js' }])), /another name in its local header/)
  t.match(reason(forge([{ name: 'a' }, { name: 'a/b' }])), /a is a file and a folder/)
  t.match(reason(forge([{ name: 'a/', content: Buffer.from('content'), method: 0 }])), /folder a\/ has content/)
  t.end()
})

await t.test('links, special files and encrypted entries are refused', (t) => {
  for (const mode of [0o120777, 0o020666, 0o010644, 0o140755, 0o060660]) t.match(reason(forge([{ name: 'a', mode }])), /link or a special file/, mode.toString(8))
  for (const mode of [0o100644, 0o644, 0o040755]) t.equal(reason(forge([{ name: mode === 0o040755 ? 'd/' : 'a', mode, ...(mode === 0o040755 ? { content: Buffer.alloc(0), method: 0 } : {}) }, { name: 'b' }])), 'accepted', mode.toString(8))
  for (const flags of [1, 0x40, 0x2000]) t.match(reason(forge([{ name: 'a', flags }])), /encrypted/)
  t.match(reason(forge([{ name: 'a', method: 12 }])), /method 12/)
  t.end()
})

await t.test('bombs cost no more than they declare, and they may not declare much', async (t) => {
  t.match(reason(forge([{ name: 'a', declaredBytes: ZIP_UNPACKED_MAX_BYTES + 1 }])), /^ERR_BUNDLE_TOO_LARGE/)
  t.match(reason(forge(Array.from({ length: 3 }, (_each, index) => ({ name: `${index}`, declaredBytes: ZIP_UNPACKED_MAX_BYTES / 2 })))), /^ERR_BUNDLE_TOO_LARGE/)
  const zeros = Buffer.alloc(20_000_000)
  const before = process.memoryUsage().rss
  t.match(await readReason(forge([{ name: 'a', content: zeros, declaredBytes: 1000 }]), 'a'), /a is larger than its declared size/)
  t.match(await readReason(forge([{ name: 'a', content: zeros, declaredBytes: 0 }]), 'a'), /larger than its declared size/)
  t.ok(process.memoryUsage().rss - before < 60_000_000)
  t.match(await readReason(forge([{ name: 'a', content: Buffer.from('abc'), declaredBytes: 10 }]), 'a'), /not of its declared size/)
  t.match(reason(forge([{ name: 'a', method: 0, declaredBytes: 10 }])), /sizes of a disagree/)
  t.match(reason(forge(Array.from({ length: ZIP_ENTRIES_MAX + 1 }, (_each, index) => ({ name: `${index}` })))), new RegExp(`${ZIP_ENTRIES_MAX + 1} entries, more than ${ZIP_ENTRIES_MAX}`))
  t.match(reason(Buffer.alloc(ZIP_MAX_BYTES + 1)), /^ERR_BUNDLE_TOO_LARGE/)
  const overlapping = forge([{ name: 'a', content: zeros }, { name: 'b', content: zeros, localName: 'b' }])
  t.equal(reason(overlapping), 'accepted')
})

await t.test('what is damaged is refused', async (t) => {
  const good = forge([{ name: 'a.js', content: Buffer.from('hello') }, { name: 'b.js' }])
  t.equal(await readReason(good, 'a.js'), 'hello')
  t.match(await readReason(good, 'c.js'), /c.js is not in it/)
  t.match(reason(Buffer.alloc(0)), /not a zip/)
  t.match(reason(Buffer.from('hello, this is certainly not a zip file')), /not a zip/)
  t.match(reason(forge([])), /no files/)
  t.match(reason(Buffer.concat([Buffer.from('#!/bin/sh\n'), good])), /something stands before it/)
  t.match(reason(Buffer.concat([good, Buffer.from('x')])), /not a zip, or truncated/)
  t.match(reason(forge([{ name: 'a' }], { disks: 1 })), /set of several files/)
  t.match(reason(forge([{ name: 'a' }], { count: 0xffff })), /zip64/)
  t.match(reason(forge([{ name: 'a' }], { count: 2 })), /directory is damaged/)
  t.match(reason(forge([{ name: 'a', localOffset: 0xfffffff0 }])), /outside the file/)
  t.match(reason(forge([{ name: 'a', localOffset: 1 }])), /no local header|outside/)
  t.match(reason(forge([{ name: 'a', packedBytes: 5000 }])), /outside the file/)
  t.match(await readReason(forge([{ name: 'a', crc: 1 }]), 'a'), /checksum differs/)
  t.equal(reason(forge([{ name: 'a' }], { comment: Buffer.from('a comment') })), 'accepted')
  for (let length = 0; length < good.length; length += 1) t.match(reason(good.subarray(0, length)), /^ERR_ZIP_INVALID/)
})

await t.test('any bytes at all end in an answer or a coded error', async (t) => {
  const good = forge([{ name: 'a.js', content: Buffer.from('hello'.repeat(50)) }, { name: 'dir/b.js' }])
  await fc.assert(fc.asyncProperty(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 6 }), async (changes) => {
    const bytes = Buffer.from(good)
    for (const [at, value] of changes) bytes[at] = value
    const opened = reason(bytes)
    if (opened !== 'accepted') return /^ERR_(ZIP_INVALID|BUNDLE_TOO_LARGE)/.test(opened)
    for (const name of openZip(bytes).names) {
      const read = await readReason(bytes, name)
      if (read.startsWith('ERR_') && !read.startsWith('ERR_ZIP_INVALID')) return false
    }
    return true
  }), { numRuns: 2_000 })
  t.pass('2,000 alterations')
})

await t.test('zips of common tools are read', async (t) => {
  const files = { 'index.js': strToU8('exports.handler = 1'), 'lib/a.txt': strToU8('text'), 'empty.txt': new Uint8Array(0) }
  for (const level of [0, 6, 9] as const) {
    const archive = openZip(zipSync(files, { level }))
    t.same([...archive.names].sort(), ['empty.txt', 'index.js', 'lib/a.txt'])
    t.equal(Buffer.from(await archive.read('lib/a.txt')).toString(), 'text')
    t.equal((await archive.read('empty.txt')).length, 0)
  }
})
