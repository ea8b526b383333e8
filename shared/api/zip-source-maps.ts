/**
 * Source maps of files in a zip: named by the file's last `//# sourceMappingURL=`, or beside it under its name and
 * `.map`. esbuild looks for maps on disks only, so a file that it is given gets its map as a data URL.
 */
import { posix } from 'node:path'
import { SOURCE_MAP_MAX_BYTES } from '../limits.ts'
import type { ZipArchive } from './zip.ts'

const COMMENT = /\/\/[#@] *sourceMappingURL=([^\s'"]*)\s*$/
const DATA_URL = /^data:application\/json(?:;charset=[\w-]+)?(?:;(base64))?,/i
/** Where the comment is looked for; a data URL is as long as its map. */
const TAIL_CHARS = 2 * SOURCE_MAP_MAX_BYTES

/** The map's JSON, unchecked; null if there is none that is small enough. */
export async function sourceMapOf(archive: ZipArchive, path: string, source: string): Promise<string | null> {
  const url = sourceMappingUrl(source)
  const data = url === null ? null : DATA_URL.exec(url)
  if (url !== null && data !== null) {
    const body = url.slice(data[0].length)
    return data[1] === undefined ? decode(body) : Buffer.from(body, 'base64').toString()
  }
  const beside = url === null || url === '' || url.includes(':') ? `${path}.map` : posix.join(posix.dirname(path), decode(url) ?? '')
  const file = [beside, `${path}.map`].find((name) => archive.names.has(name))
  if (file === undefined) return null
  const bytes = await archive.read(file)
  return bytes.byteLength > SOURCE_MAP_MAX_BYTES ? null : Buffer.from(bytes).toString()
}

/** `source` with its map at its end, for esbuild. */
export async function withSourceMap(archive: ZipArchive, path: string, source: string): Promise<string> {
  const url = sourceMappingUrl(source)
  if (url !== null && DATA_URL.test(url)) return source
  const map = await sourceMapOf(archive, path, source)
  return map === null ? source : `${source}\n//# sourceMappingURL=data:application/json;base64,${Buffer.from(map).toString('base64')}\n`
}

function sourceMappingUrl(source: string): string | null {
  const at = source.lastIndexOf('sourceMappingURL=')
  return at < 0 || source.length - at > TAIL_CHARS ? null : (COMMENT.exec(source.slice(Math.max(0, at - 5)))?.[1] ?? null)
}

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text)
  } catch {
    // A malformed escape: no such file.
    return null
  }
}
