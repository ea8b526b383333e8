/**
 * Reads a zip from an untrusted client, in memory. Nothing is ever written to a disk, so a name can only confuse what
 * reads the names; still every name that an unpacker could be tricked with is refused, as are zips that two readers
 * could understand differently.
 *
 * Z1: the declared sizes are bounded together before anything is inflated, and no entry inflates beyond its declared
 *     size (zlib stops there). So a bomb costs what it declares at most, overlapping entries included.
 * Z2: each name occurs once, and the local header agrees with the central directory about it.
 * Z3: entries are inflated when they are read, not before: an application uses few of the files it ships.
 */
import { crc32, inflateRaw } from 'node:zlib'
import { promisify } from 'node:util'
import { CodedError } from '../errors.ts'
import { ZIP_ENTRIES_MAX, ZIP_MAX_BYTES, ZIP_UNPACKED_MAX_BYTES } from '../limits.ts'

export interface ZipArchive {
  /** Paths of all files, `a/b.js`; folders are left out. */
  readonly names: ReadonlySet<string>
  /** Content of a file, checked. Throws ERR_ZIP_INVALID if it is damaged; the name must be one of `names`. */
  read(name: string): Promise<Uint8Array>
}

interface Entry {
  readonly name: string
  readonly method: number
  readonly crc: number
  readonly packedBytes: number
  readonly unpackedBytes: number
  readonly localOffset: number
}

const END_SIGNATURE = 0x06054b50
const END_BYTES = 22
const COMMENT_MAX_BYTES = 0xffff
const CENTRAL_SIGNATURE = 0x02014b50
const CENTRAL_BYTES = 46
const LOCAL_SIGNATURE = 0x04034b50
const LOCAL_BYTES = 30
const NAME_MAX_BYTES = 1024
const METHOD_STORED = 0
const METHOD_DEFLATED = 8
/** Bits 0, 6 and 13: encrypted, strongly encrypted, masked headers. */
const FLAGS_ENCRYPTED = 0x2041
const FILE_TYPE_MASK = 0o170000
const FILE_TYPE_REGULAR = 0o100000
const FILE_TYPE_FOLDER = 0o040000

const inflate = promisify<Uint8Array, { maxOutputLength: number }, Buffer>(inflateRaw)

/** Throws ERR_ZIP_INVALID with the reason, ERR_BUNDLE_TOO_LARGE beyond ZIP_MAX_BYTES or ZIP_UNPACKED_MAX_BYTES. */
export function openZip(bytes: Uint8Array): ZipArchive {
  if (bytes.byteLength > ZIP_MAX_BYTES) throw new CodedError('ERR_BUNDLE_TOO_LARGE', [ZIP_MAX_BYTES])
  const zip = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const entries = new Map<string, Entry>()
  for (const entry of readCentralDirectory(zip)) {
    if (entries.has(entry.name)) refuse(`${entry.name} occurs twice`)
    entries.set(entry.name, entry)
  }
  if (entries.size === 0) refuse('it holds no files')
  checkFolders(entries)
  return {
    names: new Set(entries.keys()),
    read(name) {
      const entry = entries.get(name)
      return entry === undefined ? Promise.reject(new CodedError('ERR_ZIP_INVALID', [`${name} is not in it`])) : readEntry(zip, entry)
    },
  }
}

function readCentralDirectory(zip: Buffer): Entry[] {
  const endOffset = findEnd(zip)
  const count = zip.readUInt16LE(endOffset + 10)
  const size = zip.readUInt32LE(endOffset + 12)
  const start = zip.readUInt32LE(endOffset + 16)
  if (zip.readUInt16LE(endOffset + 4) !== 0 || zip.readUInt16LE(endOffset + 6) !== 0 || zip.readUInt16LE(endOffset + 8) !== count) {
    refuse('it is part of a set of several files')
  }
  if (count === 0xffff || size === 0xffffffff || start === 0xffffffff) refuse('it is of the zip64 kind, which only larger files need')
  if (count > ZIP_ENTRIES_MAX) refuse(`it has ${count} entries, more than ${ZIP_ENTRIES_MAX}`)
  if (start + size !== endOffset) refuse('it is truncated, or something stands before it')
  const entries: Entry[] = []
  let unpackedBytes = 0
  let offset = start
  for (let index = 0; index < count; index += 1) {
    if (offset + CENTRAL_BYTES > endOffset || zip.readUInt32LE(offset) !== CENTRAL_SIGNATURE) refuse('its directory is damaged')
    const variableBytes = zip.readUInt16LE(offset + 28) + zip.readUInt16LE(offset + 30) + zip.readUInt16LE(offset + 32)
    if (offset + CENTRAL_BYTES + variableBytes > endOffset) refuse('its directory is damaged')
    const entry = readCentralEntry(zip, offset, start)
    if (entry !== null) {
      unpackedBytes += entry.unpackedBytes
      if (unpackedBytes > ZIP_UNPACKED_MAX_BYTES) throw new CodedError('ERR_BUNDLE_TOO_LARGE', [ZIP_UNPACKED_MAX_BYTES])
      entries.push(entry)
    }
    offset += CENTRAL_BYTES + variableBytes
  }
  if (offset !== endOffset) refuse('its directory is damaged')
  return entries
}

/** The end record is found from the back; it must reach exactly to the end, or two readers may find different ones. */
function findEnd(zip: Buffer): number {
  const lowest = Math.max(0, zip.length - END_BYTES - COMMENT_MAX_BYTES)
  for (let offset = zip.length - END_BYTES; offset >= lowest; offset -= 1) {
    if (zip.readUInt32LE(offset) === END_SIGNATURE && offset + END_BYTES + zip.readUInt16LE(offset + 20) === zip.length) return offset
  }
  return refuse('it is not a zip, or truncated')
}

/** Null for a folder. */
function readCentralEntry(zip: Buffer, offset: number, centralStart: number): Entry | null {
  const name = decodeName(zip.subarray(offset + CENTRAL_BYTES, offset + CENTRAL_BYTES + zip.readUInt16LE(offset + 28)))
  const flags = zip.readUInt16LE(offset + 8)
  const method = zip.readUInt16LE(offset + 10)
  const packedBytes = zip.readUInt32LE(offset + 20)
  const unpackedBytes = zip.readUInt32LE(offset + 24)
  const localOffset = zip.readUInt32LE(offset + 42)
  const madeByUnix = zip.readUInt8(offset + 5) === 3 || zip.readUInt8(offset + 5) === 19
  const fileType = madeByUnix ? (zip.readUInt32LE(offset + 38) >>> 16) & FILE_TYPE_MASK : 0
  if ((flags & FLAGS_ENCRYPTED) !== 0) refuse(`${name} is encrypted`)
  if (fileType !== 0 && fileType !== FILE_TYPE_REGULAR && fileType !== FILE_TYPE_FOLDER) refuse(`${name} is a link or a special file`)
  const path = checkName(name)
  if (name.endsWith('/') || fileType === FILE_TYPE_FOLDER) {
    if (unpackedBytes !== 0) refuse(`the folder ${name} has content`)
    return null
  }
  if (method !== METHOD_STORED && method !== METHOD_DEFLATED) refuse(`${name} is compressed by method ${method}, which is not supported`)
  if (packedBytes === 0xffffffff || unpackedBytes === 0xffffffff || localOffset === 0xffffffff) refuse(`${name} is of the zip64 kind, which only larger files need`)
  if (method === METHOD_STORED && packedBytes !== unpackedBytes) refuse(`the sizes of ${name} disagree`)
  if (localOffset + LOCAL_BYTES + packedBytes > centralStart) refuse(`${name} lies outside the file`)
  checkLocalHeader(zip, name, localOffset)
  return { name: path, method, crc: zip.readUInt32LE(offset + 16), packedBytes, unpackedBytes, localOffset }
}

function checkLocalHeader(zip: Buffer, name: string, offset: number): void {
  if (zip.readUInt32LE(offset) !== LOCAL_SIGNATURE) refuse(`${name} has no local header`)
  const local = zip.subarray(offset + LOCAL_BYTES, offset + LOCAL_BYTES + zip.readUInt16LE(offset + 26))
  if (decodeName(local) !== name) refuse(`${name} has another name in its local header`)
}

/** The path without a leading `./`. */
function checkName(name: string): string {
  const printable = JSON.stringify(name.slice(0, 120))
  if (name === '' || Buffer.byteLength(name) > NAME_MAX_BYTES) refuse(`an entry's name is empty or longer than ${NAME_MAX_BYTES} bytes`)
  if (/[\u0000-\u001f\u007f]/.test(name)) refuse(`the name ${printable} holds control characters`)
  if (name.includes('\\')) refuse(`the name ${printable} holds a backslash`)
  if (name.startsWith('/') || /^[a-zA-Z]:/.test(name)) refuse(`the name ${printable} is absolute`)
  const path = name.replace(/^(\.\/)+/, '')
  const segments = path.replace(/\/$/, '').split('/')
  if (path !== '' && segments.some((segment) => segment === '' || segment === '.' || segment === '..')) refuse(`the name ${printable} leads out of the zip or is not in plain form`)
  return path
}

/** A file cannot also be a folder of other files. */
function checkFolders(entries: ReadonlyMap<string, Entry>): void {
  for (const name of entries.keys()) {
    for (let slash = name.indexOf('/'); slash !== -1; slash = name.indexOf('/', slash + 1)) {
      if (entries.has(name.slice(0, slash))) refuse(`${name.slice(0, slash)} is a file and a folder`)
    }
  }
}

async function readEntry(zip: Buffer, entry: Entry): Promise<Uint8Array> {
  const start = entry.localOffset + LOCAL_BYTES + zip.readUInt16LE(entry.localOffset + 26) + zip.readUInt16LE(entry.localOffset + 28)
  const packed = zip.subarray(start, start + entry.packedBytes)
  if (packed.length !== entry.packedBytes) refuse(`${entry.name} is truncated`)
  const content = entry.method === METHOD_STORED ? packed : await inflateBounded(packed, entry)
  if (content.length !== entry.unpackedBytes) refuse(`${entry.name} is not of its declared size`)
  if (crc32(content) !== entry.crc) refuse(`${entry.name} is damaged: its checksum differs`)
  return content
}

async function inflateBounded(packed: Buffer, entry: Entry): Promise<Buffer> {
  try {
    // zlib refuses a bound of 0; an empty file is caught by its size afterwards.
    return await inflate(packed, { maxOutputLength: Math.max(1, entry.unpackedBytes) })
  } catch (error) {
    const tooLarge = error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE'
    throw new CodedError('ERR_ZIP_INVALID', [tooLarge ? `${entry.name} is larger than its declared size` : `${entry.name} is damaged: ${String(error)}`])
  }
}

function decodeName(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    // The only failure is bytes that are not UTF-8.
    return refuse('an entry has a name that is not UTF-8')
  }
}

function refuse(reason: string): never {
  throw new CodedError('ERR_ZIP_INVALID', [reason])
}
