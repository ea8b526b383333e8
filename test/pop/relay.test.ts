import t from 'tap'
import { Relay, type RelayObserver } from '../../pop/relay.ts'
import type { InvocationResult } from '../../shared/worker/types.ts'
import { FakeLink, FakeSink, OK, makeCall, settle, type FakeStream } from './harness.ts'

interface Relayed {
  readonly link: FakeLink
  readonly sink: FakeSink
  readonly relay: Relay
  readonly stream: FakeStream | undefined
  readonly overs: (InvocationResult | null)[]
}

function relayed(change: Parameters<typeof makeCall>[1] = {}, state: 'open' | 'down' = 'open'): Relayed {
  const link = new FakeLink()
  if (state === 'open') link.connect()
  link.onOpen = () => {}
  const sink = new FakeSink()
  const overs: (InvocationResult | null)[] = []
  const observer: RelayObserver = { onHead() {}, onOver: (result) => overs.push(result) }
  const relay = new Relay(link, makeCall('hello', change), sink, 'not-hot', 1_700_000_000_000, observer, { idempotent: false })
  return { link, sink, relay, stream: link.streams[0], overs }
}

t.test('without a region the call fails with ERR_REGION_UNREACHABLE, and only after `open` has returned', async (t) => {
  const { sink, overs } = relayed({}, 'down')
  t.same(sink.failures, [])
  await settle()
  t.equal(sink.place, 'ERR_REGION_UNREACHABLE')
  t.equal(sink.failures[0]?.error.ran, 'no')
  t.same(overs, [null])
})

t.test('a region that goes away in the middle is told as the link says it', async (t) => {
  const { sink, stream, overs } = relayed()
  stream?.sink.started()
  stream?.sink.error({ code: 'ERR_REGION_LOST', params: [] })
  t.equal(sink.place, 'ERR_REGION_LOST')
  t.match(sink.failures[0], { error: { ran: 'maybe' }, placement: { place: 'region', reason: 'not-hot' } })
  t.same(overs, [null])
})

t.test('after the last word nothing more is passed on', async (t) => {
  const { sink, stream, overs } = relayed()
  stream?.reply('one')
  stream?.sink.error({ code: 'ERR_REGION_LOST', params: [] })
  stream?.sink.end(OK, '1')
  t.equal(sink.ends.length, 1)
  t.same(sink.failures, [])
  t.equal(overs.length, 1)
})

t.test('an end without a result breaks the protocol', async (t) => {
  const { sink, stream } = relayed()
  stream?.sink.end(null, null)
  t.equal(sink.place, 'ERR_LINK_PROTOCOL')
})

t.test('the region is told everything, once, with the time left and a hop', async (t) => {
  const { stream } = relayed({ qualifier: 'prod', method: 'PUT', headers: 'a\nb', body: Buffer.from('x'), bodyMore: true, wantLogs: true, selection: '{}' })
  t.match(stream?.frame, {
    kind: 'invoke', requestId: 'request-1', functionName: 'hello', qualifier: 'prod', method: 'PUT', headers: 'a\nb', bodyMore: true, wantLogs: true, reason: 'not-hot',
    hops: 1, session: null, ring: null, reservation: null, selection: '{}', remainingMs: 60_000, clientIp: '127.0.0.1',
  })
})

t.test('a call whose time is up has none left, not less', async (t) => {
  t.equal(relayed({ deadlineAtMs: 1_699_999_999_000 }).stream?.frame.remainingMs, 0)
})

t.test('body, pauses, resumption and cancellation go through in both directions', async (t) => {
  const { relay, sink, stream } = relayed({ bodyMore: true })
  relay.write(Buffer.from('one'))
  t.equal(sink.pauses, 0)
  if (stream !== undefined) stream.flowing = false
  relay.write(Buffer.from('two'))
  t.equal(sink.pauses, 1)
  stream?.sink.drain()
  t.equal(sink.resumes, 1)
  relay.writeEnd()
  t.same([stream?.written, stream?.writeEnds], [['one', 'two'], 1])
  stream?.sink.head(200, '', 'warm', '3', null, false)
  sink.flowing = false
  t.equal(stream?.sink.data(Buffer.from('answer')), false)
  relay.resume()
  t.equal(stream?.resumes, 1)
  relay.cancel()
  t.equal(stream?.cancels, 1)
  t.equal(sink.body, 'answer')
})

t.test('head, body and end keep their order and say what ran', async (t) => {
  const { sink, stream } = relayed()
  stream?.sink.started()
  stream?.sink.head(201, 'a\nb', 'warm', '3', null, false)
  stream?.sink.data(Buffer.from('x'))
  stream?.sink.bodyEnd()
  t.equal(sink.ends.length, 0)
  stream?.sink.end(OK, '3')
  t.same(sink.heads[0], { status: 201, headers: 'a\nb', placement: { place: 'region', reason: 'not-hot', version: '3', startKind: 'warm', stale: false }, last: false })
  t.equal(sink.ends[0]?.placement, sink.heads[0]?.placement, 'one placement for one call')
})
