import t from 'tap'
import { CodedError, toCodedError } from '../../../shared/errors.ts'
import { LINK_ASK_MAX_BYTES, LINK_ASK_OF_POP_MAX_BYTES, LINK_TOPIC_MAX_CHARS } from '../../../shared/limits.ts'
import { TokenIdentity } from '../../../shared/link/identity.ts'
import type { LinkClient } from '../../../shared/link/link-client.ts'
import { connectedClient, makeClient, openFrame, RecordingSink, startRegion, TestHandler, TOKEN, until } from './harness.ts'

const PEER_TOKEN = 'a token of nodes'

function region(handler = new TestHandler()): ReturnType<typeof startRegion> {
  return startRegion({ handler, identity: new TokenIdentity(TOKEN, PEER_TOKEN) })
}

async function refusal(asked: Promise<unknown>): Promise<string> {
  try {
    await asked
    return 'answered'
  } catch (error) {
    return toCodedError(error).code
  }
}

t.test('a question reaches the handler of its topic with who asks, and its answer comes back', async (t) => {
  const made = await region()
  const { url, handler } = made
  t.teardown(() => made.close())
  const heard: unknown[] = []
  handler.topics.handle('grant', ['pop'], ({ popId, role }, payload) => {
    heard.push([popId, role, payload])
    return { slots: 3, bytes: Buffer.from('abc') }
  })
  handler.topics.handle('take', ['node'], async ({ popId }, payload) => Promise.resolve([popId, payload]))
  const pop = await connectedClient(url)
  const node = await connectedClient(url, { popId: 'node-1', role: 'node', token: PEER_TOKEN })
  t.teardown(() => [pop, node].forEach(({ client }) => client.close()))
  t.same(await pop.client.ask('grant', { account: 'a', want: [1, null, true] }, 1_000), { slots: 3, bytes: Buffer.from('abc') })
  t.strictSame(heard, [['pop-1', 'pop', { account: 'a', want: [1, null, true] }]])
  t.same(await node.client.ask('take', 'x', 1_000), ['node-1', 'x'])
  t.throws(() => handler.topics.handle('take', ['pop'], () => null), /handled already/)
})

t.test('a topic of others is to a POP as one that does not exist', async (t) => {
  const made = await region()
  const { url, handler } = made
  t.teardown(() => made.close())
  handler.topics.handle('take', ['node'], () => t.fail('a POP must not get here'))
  const { client } = await connectedClient(url)
  t.teardown(() => client.close())
  const tell = async (topic: string): Promise<unknown> => client.ask(topic, null, 1_000).catch((error: unknown) => toCodedError(error).toData())
  t.strictSame(await tell('take'), { code: 'ERR_LINK_TOPIC', params: ['take'] })
  t.strictSame(await tell('none'), { code: 'ERR_LINK_TOPIC', params: ['none'] })
})

t.test('who shows the token of POPs is no node, whatever it says', async (t) => {
  const made = await region()
  t.teardown(() => made.close())
  const { url } = made
  const { client, states } = makeClient(url, { role: 'node' })
  t.teardown(() => client.close())
  client.start()
  await until(() => states.some((state) => state.kind === 'backoff'))
  t.match(states.find((state) => state.kind === 'backoff'), { code: 'ERR_LINK_IDENTITY' })
})

t.test('malformed, oversized and failing questions cost themselves only', async (t) => {
  const made = await region()
  const { url, handler } = made
  t.teardown(() => made.close())
  handler.topics.handle('throws', ['pop'], () => {
    throw new Error('secret detail')
  })
  handler.topics.handle('refuses', ['pop'], () => {
    throw new CodedError('ERR_ACCOUNT_LIMIT', [8])
  })
  handler.topics.handle('length', ['pop', 'node'], (_peer, payload) => (payload instanceof Uint8Array ? payload.length : null))
  handler.topics.handle('silent', ['pop'], () => new Promise(() => undefined))
  const { client } = await connectedClient(url)
  const node = await connectedClient(url, { popId: 'node-1', role: 'node', token: PEER_TOKEN })
  t.teardown(() => [client, node.client].forEach((each: LinkClient) => each.close()))
  t.equal(await refusal(client.ask('throws', null, 1_000)), 'ERR_INTERNAL')
  t.equal(await refusal(client.ask('refuses', null, 1_000)), 'ERR_ACCOUNT_LIMIT')
  t.equal(await refusal(client.ask('', null, 1_000)), 'ERR_LINK_PROTOCOL')
  t.equal(await refusal(client.ask('x'.repeat(LINK_TOPIC_MAX_CHARS + 1), null, 1_000)), 'ERR_LINK_PROTOCOL')
  t.equal(await refusal(client.ask('length', Buffer.alloc(LINK_ASK_OF_POP_MAX_BYTES), 1_000)), 'ERR_BODY_TOO_LARGE')
  t.equal(await node.client.ask('length', Buffer.alloc(LINK_ASK_OF_POP_MAX_BYTES), 10_000), LINK_ASK_OF_POP_MAX_BYTES, 'a node may say more')
  t.equal(await refusal(node.client.ask('length', Buffer.alloc(LINK_ASK_MAX_BYTES), 10_000)), 'ERR_BODY_TOO_LARGE')
  t.equal(await refusal(client.ask('silent', null, 1)), 'ERR_CANCELED', 'nobody waits past the time given')
  const sink = new RecordingSink()
  client.open(openFrame({ body: Buffer.from('x') }), sink)
  t.equal((await sink.whenOver()).outcome, 'ok')
})

t.test('a node may forward what was forwarded to it, once; another region forwards nothing', async (t) => {
  const made = await region()
  t.teardown(() => made.close())
  const { url } = made
  const ring = { version: 7, seq: 12, predecessors: ['node-3', 'node-4'] }
  const codes: Record<string, (string | null)[]> = {}
  for (const role of ['pop', 'node', 'region'] as const) {
    const { client } = await connectedClient(url, { popId: role, role, token: role === 'pop' ? TOKEN : PEER_TOKEN })
    t.teardown(() => client.close())
    codes[role] = []
    for (const hops of [1, 2, 3]) {
      const sink = new RecordingSink()
      client.open(openFrame({ hops, body: Buffer.from('x'), ring, session: 's', reservation: 'r' }), sink)
      codes[role].push((await sink.whenOver()).errorCode)
    }
  }
  t.same(codes, { pop: [null, 'ERR_LINK_LOOP', 'ERR_LINK_LOOP'], node: [null, null, 'ERR_LINK_LOOP'], region: ['ERR_LINK_LOOP', 'ERR_LINK_LOOP', 'ERR_LINK_LOOP'] })
})
