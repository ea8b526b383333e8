/**
 * What a region does for streams that are not invocations: control calls and the questions of a POP. Each collects
 * its request, which is small, runs the handler's method and answers in one piece.
 */
import { CodedError } from '../errors.ts'
import { CONTROL_BODY_MAX_BYTES, LINK_ASK_MAX_BYTES, LINK_ASK_OF_POP_MAX_BYTES, MIB } from '../limits.ts'
import { encodeValue, MalformedError } from './codec.ts'
import { BlockWriter } from './blocks.ts'
import type { Carrier } from './flow.ts'
import type { OpenQuery } from './frames.ts'
import { askSchema, blocksRequestSchema, chainRequestSchema, decodeAs, describeSchema, peerBlocksRequestSchema, refsSchema, reportSchema } from './values.ts'
import type { LinkAnswer, LinkHandler, LinkInvocation, LinkPeer, OpenControl } from './types.ts'

/** A report or snapshot request of LINK_FUNCTIONS_MAX functions, about 300 bytes each. */
const QUERY_BODY_MAX_BYTES = 4 * MIB

interface Reply {
  readonly status: number
  readonly headers: string
  readonly body: Uint8Array
}

/** Collects a request body within its bound and the link's budget, then answers once. */
class CollectingRun implements LinkInvocation {
  readonly #bodyMaxBytes: number
  readonly #carrier: Carrier
  readonly #answer: LinkAnswer
  readonly #run: (body: Uint8Array) => Promise<Reply>
  readonly #onFault: (error: unknown) => void
  #chunks: Uint8Array[] = []
  #bytes = 0
  #state: 'collecting' | 'running' | 'done' = 'collecting'

  constructor(first: Uint8Array | null, bodyMaxBytes: number, carrier: Carrier, answer: LinkAnswer, onFault: (error: unknown) => void, run: (body: Uint8Array) => Promise<Reply>) {
    this.#bodyMaxBytes = bodyMaxBytes
    this.#carrier = carrier
    this.#answer = answer
    this.#onFault = onFault
    this.#run = run
    if (first !== null) this.write(first)
  }

  write(chunk: Uint8Array): boolean {
    if (this.#state !== 'collecting') return true
    if (this.#bytes + chunk.length > this.#bodyMaxBytes) throw new CodedError('ERR_BODY_TOO_LARGE', [this.#bodyMaxBytes])
    if (!this.#carrier.reserve(chunk.length)) throw new CodedError('ERR_QUEUE_FULL', ['bodies of management calls'])
    this.#bytes += chunk.length
    this.#chunks.push(Uint8Array.prototype.slice.call(chunk))
    return true
  }

  writeEnd(): void {
    if (this.#state !== 'collecting') return
    this.#state = 'running'
    const body = Buffer.concat(this.#chunks)
    this.#chunks = []
    this.#execute(body).catch((error: unknown) => {
      const coded = codedOf(error)
      if (coded.code === 'ERR_INTERNAL') this.#onFault(error)
      this.#answer.error(coded.toData())
      this.#finish()
    })
  }

  resume(): void {
    // The answer was given as a whole.
  }

  /** A call that runs already has its effect; nobody hears of it. */
  cancel(): void {
    if (this.#state === 'collecting') this.#finish()
    this.#answer.error({ code: 'ERR_CANCELED', params: [] })
  }

  async #execute(body: Uint8Array): Promise<void> {
    const reply = await this.#run(body)
    this.#answer.head(reply.status, reply.headers, null, null, reply.body, true)
    this.#answer.end(null, null)
    this.#finish()
  }

  #finish(): void {
    if (this.#state === 'done') return
    this.#state = 'done'
    this.#chunks = []
    this.#carrier.release(this.#bytes)
  }
}

export function runControl(popId: string, open: OpenControl, handler: LinkHandler, carrier: Carrier, answer: LinkAnswer, onFault: (error: unknown) => void): LinkInvocation {
  const { requestId, method, rawPath, headers, clientIp } = open
  return new CollectingRun(open.body, CONTROL_BODY_MAX_BYTES, carrier, answer, onFault, (body) => handler.control(popId, { requestId, method, rawPath, headers, body, clientIp }))
}

export function runQuery(pop: LinkPeer, open: OpenQuery, handler: LinkHandler, carrier: Carrier, answer: LinkAnswer, onFault: (error: unknown) => void): LinkInvocation {
  if (open.query !== 'blocks' && open.query !== 'peerBlocks') return new CollectingRun(open.body, bodyMaxBytes(open, pop), carrier, answer, onFault, (body) => answerQuery(pop, open, body, handler))
  if (open.body === null || open.bodyMore) throw new CodedError('ERR_LINK_PROTOCOL', ['a request for blocks comes in one frame'])
  const writer = open.query === 'blocks' ? writerForPop(pop.popId, open.body, handler, answer) : writerForPeer(pop, open.body, handler, answer)
  writer.start()
  return writer
}

function bodyMaxBytes(open: OpenQuery, { role }: LinkPeer): number {
  if (open.query !== 'ask') return QUERY_BODY_MAX_BYTES
  return role === 'pop' ? LINK_ASK_OF_POP_MAX_BYTES : LINK_ASK_MAX_BYTES
}

function writerForPop(popId: string, body: Uint8Array, handler: LinkHandler, answer: LinkAnswer): BlockWriter {
  const { image, wanted } = coded(() => decodeAs(blocksRequestSchema, body))
  const count = wanted.reduce((sum, { numbers }) => sum + numbers.length, 0)
  return new BlockWriter(count, handler.blocks(popId, image, wanted), answer)
}

/** A region has every block that another one may have lost; a POP is given nothing without a name. */
function writerForPeer(peer: LinkPeer, body: Uint8Array, handler: LinkHandler, answer: LinkAnswer): BlockWriter {
  if (peer.role !== 'region') throw new CodedError('ERR_LINK_IDENTITY', ['it is not a region'])
  const ids = coded(() => decodeAs(peerBlocksRequestSchema, body))
  return new BlockWriter(ids.length, handler.peerBlocks(ids), answer)
}

function coded<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    throw codedOf(error)
  }
}

/** A question that is not one is the POP's fault; what else a handler throws without a code says nothing outside. */
function codedOf(error: unknown): CodedError {
  if (error instanceof CodedError) return error
  if (error instanceof MalformedError) return new CodedError('ERR_LINK_PROTOCOL', [error.message])
  return new CodedError('ERR_INTERNAL', ['the region failed'], { cause: error })
}

async function answerQuery(pop: LinkPeer, open: OpenQuery, body: Uint8Array, handler: LinkHandler): Promise<Reply> {
  const { popId } = pop
  switch (open.query) {
    case 'describe': {
      const { account, functionName, qualifier } = decodeAs(describeSchema, body)
      return value(await handler.describe(popId, account, functionName, qualifier))
    }
    case 'snapshot':
      return value(await handler.snapshot(popId, decodeAs(refsSchema, body)))
    case 'report':
      return value(await handler.report(popId, decodeAs(reportSchema, body)))
    case 'chain': {
      const { image, from, known } = decodeAs(chainRequestSchema, body)
      return value(await handler.chain({ popId, publicKey: pop.publicKey }, image, from, new Set(known)))
    }
    case 'ask': {
      const [topic, payload] = decodeAs(askSchema, body)
      return value((await handler.ask(pop, topic, payload)) ?? null)
    }
    case 'blocks':
    case 'peerBlocks':
      throw new CodedError('ERR_INTERNAL', ['blocks are streamed'])
  }
}

function value(answer: unknown): Reply {
  return { status: 200, headers: '', body: encodeValue(answer) }
}
