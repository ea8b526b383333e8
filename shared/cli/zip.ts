/** The zip that is uploaded. Equal bundles give equal bytes, so that deploying twice changes no CodeSha256. */
import { zipSync } from 'fflate'
import { packChunks } from '../chunks/upload.ts'
import type { Bundle } from './bundle.ts'

/** Zip keeps local time without a zone; built from local fields it is the same everywhere. */
const MODIFIED = new Date(1980, 0, 1)

export function zipBundle(bundle: Bundle): Uint8Array {
  return zipSync({ 'index.mjs': bundle.code, 'index.mjs.map': bundle.sourceMap, ...packChunks(bundle.chunks, bundle.ownCodeFirst) }, { mtime: MODIFIED, level: 6 })
}
