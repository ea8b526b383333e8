/**
 * How chunks travel in a zip: each a file of its own, listed in the order of evaluation in `outpost-chunks.json`. The
 * function's file and later chunks import them by name.
 *
 * A chunk's name holds the hash of its content, which is checked here: an upload cannot pass its own code off as a
 * library that another upload has.
 */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { ZipArchive } from '../api/zip.ts'
import { CodedError } from '../errors.ts'
import { LAYERS_MAX } from '../limits.ts'
import type { Chunk } from '../microvm/build-types.ts'

export const CHUNK_LIST = 'outpost-chunks.json'
const HASH_DIGITS = 16

const ListSchema = z.strictObject({
  format: z.literal(1),
  ownCodeFirst: z.boolean(),
  chunks: z.array(z.strictObject({ name: z.string().regex(/^npm:[\w@./+-]{1,200}#[0-9a-f]{16}$/), file: z.string(), map: z.string().optional() })).max(LAYERS_MAX)
    .refine((chunks) => new Set(chunks.map(({ name }) => name)).size === chunks.length),
})

export interface UploadedChunks {
  readonly chunks: readonly Chunk[]
  readonly ownCodeFirst: boolean
  /** What an import is; null: none of these chunks. Not external: its file is to be bundled. */
  readonly resolve: (specifier: string) => { readonly external: boolean; readonly file: string } | null
}

/** A name is unique to its content. */
export function chunkName(library: string, version: string | null, source: string, sourceMap: string | undefined): string {
  const label = `${library}${version === null ? '' : `@${version}`}`.replace(/[^\w@./+-]/g, '_').slice(0, 200)
  return `npm:${label}#${hashOf(source, sourceMap)}`
}

/** Files of a zip by name. */
export function packChunks(chunks: readonly Chunk[], ownCodeFirst: boolean): Record<string, Uint8Array> {
  if (chunks.length === 0) return {}
  const files = chunks.map(({ name, source, sourceMap }, index) => ({ name, file: `chunks/${index}-${name.slice(4, -HASH_DIGITS - 1).replaceAll('/', '+')}.mjs`, source, sourceMap }))
  const list = { format: 1, ownCodeFirst, chunks: files.map(({ name, file, sourceMap }) => ({ name, file, ...(sourceMap === undefined ? {} : { map: `${file}.map` }) })) } satisfies z.infer<typeof ListSchema>
  const packed: Record<string, Uint8Array> = { [CHUNK_LIST]: Buffer.from(JSON.stringify(list)) }
  for (const { file, source, sourceMap } of files) {
    packed[file] = Buffer.from(source)
    if (sourceMap !== undefined) packed[`${file}.map`] = Buffer.from(sourceMap)
  }
  return packed
}

export const NO_UPLOADED_CHUNKS: UploadedChunks = { chunks: [], ownCodeFirst: false, resolve: () => null }

/** Of a zip that has CHUNK_LIST. Those of `inseparable` are left to be bundled into the function. Throws ERR_ZIP_INVALID. */
export async function readUploadedChunks(archive: ZipArchive, inseparable: ReadonlySet<string>): Promise<UploadedChunks> {
  const list = parseList(Buffer.from(await archive.read(CHUNK_LIST)).toString())
  const fileOf = new Map(list.chunks.map(({ name, file }) => [name, file]))
  const chunks: Chunk[] = []
  for (const { name, file, map } of list.chunks) {
    const source = Buffer.from(await archive.read(file)).toString()
    const sourceMap = map === undefined ? undefined : Buffer.from(await archive.read(map)).toString()
    if (!name.endsWith(`#${hashOf(source, sourceMap)}`)) throw new CodedError('ERR_ZIP_INVALID', [`${file} is not what ${CHUNK_LIST} says`])
    // A chunk may import those before it, and none that is part of the function.
    const isSeparate = !inseparable.has(name) && list.chunks.every((other) => !inseparable.has(other.name) || !source.includes(other.name))
    if (isSeparate) chunks.push({ name, source, ...(sourceMap === undefined ? {} : { sourceMap }) })
  }
  const separate = new Set(chunks.map(({ name }) => name))
  return {
    chunks,
    ownCodeFirst: list.ownCodeFirst,
    resolve(specifier) {
      const file = fileOf.get(specifier)
      return file === undefined ? null : { external: separate.has(specifier), file }
    },
  }
}

function parseList(text: string): z.infer<typeof ListSchema> {
  try {
    return ListSchema.parse(JSON.parse(text))
  } catch (error) {
    throw new CodedError('ERR_ZIP_INVALID', [`${CHUNK_LIST} cannot be understood`], { cause: error })
  }
}

/** With the map, which the line tables in a layer's image are made by. */
function hashOf(source: string, sourceMap: string | undefined): string {
  const hash = createHash('sha256').update(source)
  if (sourceMap !== undefined) hash.update('\0').update(sourceMap)
  return hash.digest('hex').slice(0, HASH_DIGITS)
}
