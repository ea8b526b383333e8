/** `node:stream/consumers`: all of a stream, of either kind. */
import { Buffer } from './buffer.ts'

type Source = AsyncIterable<Uint8Array | string> | Iterable<Uint8Array | string>

export async function buffer(source: Source): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(typeof chunk === 'string' ? Buffer.from(chunk) : chunk)
  return Buffer.concat(chunks)
}

export async function arrayBuffer(source: Source): Promise<ArrayBuffer> {
  const all = await buffer(source)
  return all.buffer.slice(all.byteOffset, all.byteOffset + all.byteLength) as ArrayBuffer
}

export async function text(source: Source): Promise<string> {
  return (await buffer(source)).toString()
}

export async function json(source: Source): Promise<unknown> {
  return JSON.parse(await text(source)) as unknown
}

export async function blob(source: Source): Promise<Blob> {
  return new Blob([await arrayBuffer(source)])
}

export default { arrayBuffer, blob, buffer, json, text }
