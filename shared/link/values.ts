/**
 * Questions to a region and their answers, as they travel in the body of a stream: one msgpack value each, checked
 * against a schema on arrival. None of this is on the path of a request.
 */
import { z } from 'zod'
import type { BuildKey, ImageId } from '../brand.ts'
import { ADVICE_MAX, IMAGE_CHAIN_MAX, LINK_TOPIC_MAX_CHARS, LINK_BLOCKS_PER_REQUEST_MAX, LINK_FUNCTIONS_MAX, LINK_KNOWN_IMAGES_MAX, LINK_PEER_BLOCKS_MAX, LINK_REPORT_PARTS_MAX, SERVICES_PER_FUNCTION_MAX } from '../limits.ts'
import type { SealedBlockId } from '../store/types.ts'
import { LATENCY_SENSITIVITIES, type BuildSpec } from '../worker/types.ts'
import { decodeValue, encodeValue, MalformedError } from './codec.ts'
import type { BlockSelection, FunctionDescription, FunctionRef, ImageChain, ImageRef, PopReport, RegionAdvice, VersionSnapshot } from './types.ts'

const count = z.number().int().nonnegative()
const name = z.string().max(1_024)
const buildKey = z.custom<BuildKey>((value) => typeof value === 'string' && value.length <= 2_048)
const imageId = z.custom<ImageId>((value) => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value))
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array)
const functionRef = z.object({ account: name, functionName: name })
const functionVersions = z.object({ account: name, functionName: name, seq: count, builds: z.array(buildKey) })
const positive = z.number().positive()

const sessionSettings = z.looseObject({ header: name.nullable(), cookie: name.nullable(), idleMs: positive, maxAgeMs: positive })

const serviceBinding = z.looseObject({ binding: name, service: name, qualifier: name.nullable(), entrypoint: name.nullable(), props: z.record(z.string(), z.unknown()).nullable() })

/** Loose: a field that a newer region adds is passed on. */
const buildSpec: z.ZodType<BuildSpec> = z.looseObject({
  key: buildKey,
  imageId,
  handlerKind: z.enum(['fetch', 'event']),
  account: name,
  functionName: name,
  version: name,
  limits: z.looseObject({ cpuMs: positive, wallMs: positive, memoryMib: positive, responseMaxBytes: positive, logMaxBytes: count, subrequestMax: count }),
  traits: z.looseObject({ idempotent: z.boolean(), latencySensitivity: z.enum(LATENCY_SENSITIVITIES), sessions: sessionSettings.nullable() }),
  secrets: z.record(z.string(), z.string()),
  services: z.array(serviceBinding).max(SERVICES_PER_FUNCTION_MAX).exactOptional(),
})

const hostStats = z.object({
  workers: count, slots: count, slotsUsed: count, queued: count, running: count, parked: count, residentBytes: count, budgetBytes: count, images: count,
})

export const refsSchema: z.ZodType<readonly FunctionRef[]> = z.array(functionRef).max(LINK_FUNCTIONS_MAX)
export const versionSnapshotSchema: z.ZodType<VersionSnapshot> = z.object({ seq: count, functions: z.array(functionVersions).max(LINK_FUNCTIONS_MAX), answered: count })
export const describeSchema = z.object({ account: name, functionName: name, qualifier: name.nullable() })
export const descriptionSchema: z.ZodType<FunctionDescription | null> = z
  .object({ seq: count, routes: z.array(z.object({ weight: z.number().min(0).max(1), build: buildSpec })).min(1).max(16), sessionKey: z.object({ version: count, key: bytes }).nullable() })
  .nullable()
const imageRef: z.ZodType<ImageRef> = functionRef.extend({ imageId })
export const chainRequestSchema = z.object({ image: imageRef, from: imageId, known: z.array(imageId).max(LINK_KNOWN_IMAGES_MAX) })
export const chainSchema: z.ZodType<ImageChain | null> = z.object({ links: z.array(z.object({ imageId, manifest: bytes, wrappedKey: bytes })).min(1).max(IMAGE_CHAIN_MAX) }).nullable()
const blockSelection: z.ZodType<BlockSelection> = z.object({ imageId, numbers: z.array(count).max(LINK_BLOCKS_PER_REQUEST_MAX) })
export const blocksRequestSchema = z.object({ image: imageRef, wanted: z.array(blockSelection).max(IMAGE_CHAIN_MAX) })
const sealedBlockId = z.custom<SealedBlockId>((value) => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value))
export const peerBlocksRequestSchema = z.array(sealedBlockId).max(LINK_PEER_BLOCKS_MAX)
export const reportSchema: z.ZodType<PopReport> = z.object({
  epoch: z.string().max(64),
  area: z.string().max(64),
  sequence: count,
  part: count.max(LINK_REPORT_PARTS_MAX - 1),
  parts: count.min(1).max(LINK_REPORT_PARTS_MAX),
  periodMs: count,
  functions: z.array(functionRef.extend({ arrivals: count, local: count, forwarded: count, failed: count, cpuUs: count, localUs: count, forwardedUs: count })).max(LINK_FUNCTIONS_MAX),
  held: z.array(functionRef.extend({ builds: z.array(buildKey) })).max(LINK_FUNCTIONS_MAX),
  host: hostStats,
})
export const adviceSchema: z.ZodType<RegionAdvice> = z.object({
  seq: count,
  load: z.number().min(0).max(1),
  versions: z.array(functionVersions).max(LINK_FUNCTIONS_MAX),
  pull: z.array(functionRef.extend({ cpuUs: count })).max(ADVICE_MAX),
})
/** Topic and payload; of the payload only that it is one plain value. */
export const askSchema: z.ZodType<readonly [string, unknown]> = z.tuple([z.string().min(1).max(LINK_TOPIC_MAX_CHARS), z.unknown()])

export function encodeRefs(refs: readonly FunctionRef[]): Uint8Array {
  return encodeValue(refs.map(({ account, functionName }) => ({ account, functionName })))
}

/** Throws MalformedError for bytes that are not what the schema says. */
export function decodeAs<T>(schema: z.ZodType<T>, bytes: Uint8Array): T {
  const parsed = schema.safeParse(decodeValue(bytes))
  if (!parsed.success) throw new MalformedError(parsed.error.issues[0]?.message ?? 'unexpected value')
  return parsed.data
}
