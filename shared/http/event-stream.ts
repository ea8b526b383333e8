/**
 * Messages of `application/vnd.amazon.eventstream` as InvokeWithResponseStream answers with: any number of PayloadChunk,
 * then one InvokeComplete. Pure.
 *
 *   u32 total length, u32 length of headers, u32 CRC of those eight bytes, headers, payload, u32 CRC of all before
 *   header: u8 length of name, name, u8 7 (text), u16 length of value, value
 */
import { crc32 } from 'node:zlib'

/** Bytes of one message's payload at most, so that a client sees them as they come. */
export const PAYLOAD_CHUNK_MAX_BYTES = 256 * 1024
const PRELUDE_BYTES = 12
const CRC_BYTES = 4
const TEXT = 7

export interface InvokeComplete {
  readonly ErrorCode?: string
  readonly ErrorDetails?: string
  readonly LogResult?: string
}

const CHUNK_HEADERS = encodeHeaders({ ':message-type': 'event', ':event-type': 'PayloadChunk', ':content-type': 'application/octet-stream' })
const COMPLETE_HEADERS = encodeHeaders({ ':message-type': 'event', ':event-type': 'InvokeComplete', ':content-type': 'application/json' })

/** One message for each PAYLOAD_CHUNK_MAX_BYTES of the chunk, in one piece of memory. */
export function payloadChunks(chunk: Uint8Array): Uint8Array {
  const messages: Uint8Array[] = []
  for (let at = 0; at < chunk.byteLength; at += PAYLOAD_CHUNK_MAX_BYTES) messages.push(message(CHUNK_HEADERS, chunk.subarray(at, at + PAYLOAD_CHUNK_MAX_BYTES)))
  return messages.length === 1 && messages[0] !== undefined ? messages[0] : Buffer.concat(messages)
}

export function invokeComplete(complete: InvokeComplete): Uint8Array {
  return message(COMPLETE_HEADERS, Buffer.from(JSON.stringify(complete)))
}

function message(headers: Buffer, payload: Uint8Array): Buffer {
  const totalBytes = PRELUDE_BYTES + headers.byteLength + payload.byteLength + CRC_BYTES
  const bytes = Buffer.allocUnsafe(totalBytes)
  bytes.writeUInt32BE(totalBytes, 0)
  bytes.writeUInt32BE(headers.byteLength, 4)
  bytes.writeUInt32BE(crc32(bytes.subarray(0, 8)), 8)
  headers.copy(bytes, PRELUDE_BYTES)
  bytes.set(payload, PRELUDE_BYTES + headers.byteLength)
  bytes.writeUInt32BE(crc32(bytes.subarray(0, totalBytes - CRC_BYTES)), totalBytes - CRC_BYTES)
  return bytes
}

function encodeHeaders(headers: Readonly<Record<string, string>>): Buffer {
  return Buffer.concat(Object.entries(headers).map(([name, value]) => {
    const bytes = Buffer.alloc(1 + name.length + 3 + value.length)
    bytes.writeUInt8(name.length, 0)
    bytes.write(name, 1, 'latin1')
    bytes.writeUInt8(TEXT, 1 + name.length)
    bytes.writeUInt16BE(value.length, 2 + name.length)
    bytes.write(value, 4 + name.length, 'latin1')
    return bytes
  }))
}
