import { createConnection } from 'node:net'
import t from 'tap'
import { WebSocket } from 'undici'
import { ManualClock, systemClock } from '../../../shared/clock.ts'
import { ERRORS } from '../../../shared/errors.ts'
import { decodeFrames, encodeValue } from '../../../shared/link/codec.ts'
import { FRAME, LINK_PROTOCOL } from '../../../shared/link/frames.ts'
import { LINK_CREDIT_BYTES, LINK_DATA_MAX_BYTES, LINK_HANDSHAKES_MAX, LINK_MESSAGE_MAX_BYTES, LINK_PREDECESSORS_MAX, LINK_SESSION_ID_MAX_CHARS, SELECTION_MAX_CHARS } from '../../../shared/limits.ts'
import { fakeDial } from './fake-dial.ts'
import { connectedClient, makeClient, openFrame, PUBLIC_KEY, RecordingSink, startRegion, TOKEN, until } from './harness.ts'
import type { TestRegion } from './harness.ts'

/** A peer that says what it likes. */
class RawPop {
  readonly frames: unknown[][] = []
  readonly socket: WebSocket
  closed = false
  failed = false
  opened = false

  constructor(url: string) {
    this.socket = new WebSocket(url)
    this.socket.binaryType = 'arraybuffer'
    this.socket.addEventListener('open', () => {
      this.opened = true
    })
    this.socket.addEventListener('error', () => {
      this.failed = true
    })
    this.socket.addEventListener('close', () => {
      this.closed = true
    })
    this.socket.addEventListener('message', (event) => {
      decodeFrames(new Uint8Array(event.data as ArrayBuffer), (frame) => {
        this.frames.push([...frame])
        return true
      })
    })
  }

  say(...frames: readonly unknown[][]): void {
    this.socket.send(Buffer.concat(frames.map((frame) => encodeValue(frame))))
  }

  fault(): unknown {
    return this.frames.find((frame) => frame[0] === FRAME.fault)?.[1] ?? null
  }
}

async function rawPop(region: TestRegion): Promise<RawPop> {
  const pop = new RawPop(region.url)
  await until(() => pop.opened)
  return pop
}

async function greetedPop(region: TestRegion, popId = 'raw'): Promise<RawPop> {
  const pop = await rawPop(region)
  pop.say([FRAME.hello, LINK_PROTOCOL, popId, TOKEN, PUBLIC_KEY, 0])
  await until(() => pop.frames.length > 0)
  return pop
}

const OPEN_TAIL = ['request', 'account', 'held', null, 0, 'POST', 'http://x/', '', '127.0.0.1', false, 'not-hot', 1, null, null, null, null, null]
const open = (id: number, body: Uint8Array | null = null, more = true): unknown[] => [FRAME.open, id, 60_000, body, more, 0, ...OPEN_TAIL]

t.test('a greeted POP that breaks the protocol is told so and its link closed, its runs cancelled', async (t) => {
  const region = await startRegion()
  t.teardown(() => region.close())
  const bystander = await connectedClient(region.url, { popId: 'bystander' })
  t.teardown(() => bystander.client.close())
  const violations: Record<string, (pop: RawPop) => void> = {
    'random bytes': (pop) => pop.socket.send(Buffer.from('this is not msgpack at all')),
    'a text message': (pop) => pop.socket.send('[15, 1]'),
    'an empty message': (pop) => pop.socket.send(Buffer.alloc(0)),
    'truncated msgpack': (pop) => pop.socket.send(encodeValue(open(2)).subarray(0, 30)),
    'an unknown frame type': (pop) => pop.say([77, 1]),
    'wrong types': (pop) => pop.say([FRAME.credit, 'one', 2]),
    'a map': (pop) => pop.socket.send(encodeValue({ ping: 1 })),
    'a frame of a region': (pop) => pop.say([FRAME.started, 1]),
    'a second hello': (pop) => pop.say([FRAME.hello, LINK_PROTOCOL, 'raw', TOKEN, PUBLIC_KEY, 0]),
    'data for a stream that never was': (pop) => pop.say([FRAME.data, 9, Buffer.from('x')]),
    'cancel of a stream that never was': (pop) => pop.say([FRAME.cancel, 0]),
    'a stream number twice': (pop) => pop.say(open(1)),
    'a stream number left out': (pop) => pop.say(open(3)),
    'an unknown kind of stream': (pop) => pop.say([FRAME.open, 2, 1, null, false, 3]),
    'an open frame with a field missing': (pop) => pop.say(open(2).slice(0, -1)),
    'an open frame with an invocation kind out of range': (pop) => pop.say(open(2).map((item, index) => (index === 10 ? 5 : item))),
    'data after the end of the body': (pop) => pop.say([FRAME.bodyEnd, 1], [FRAME.data, 1, Buffer.from('x')]),
    'two ends of a body': (pop) => pop.say([FRAME.bodyEnd, 1], [FRAME.bodyEnd, 1]),
    'a session id beyond its bound': (pop) => pop.say(open(2).with(18, 'x'.repeat(LINK_SESSION_ID_MAX_CHARS + 1))),
    'a selection beyond its bound': (pop) => pop.say(open(2).with(21, 'x'.repeat(SELECTION_MAX_CHARS + 1))),
    'a selection of two lines': (pop) => pop.say(open(2).with(21, '{}\n{}')),
    'an empty reservation': (pop) => pop.say(open(2).with(20, '')),
    'more predecessors than the bound': (pop) => pop.say(open(2).with(19, [1, 1, new Array(LINK_PREDECESSORS_MAX + 1).fill('node')])),
    'a ring that is none': (pop) => pop.say(open(2).with(19, [1, 'two', []])),
    'a predecessor that is no text': (pop) => pop.say(open(2).with(19, [1, 1, [7]])),
    'an empty data frame': (pop) => pop.say([FRAME.data, 1, Buffer.alloc(0)]),
    'a data frame beyond the bound': (pop) => pop.say([FRAME.data, 1, Buffer.alloc(LINK_DATA_MAX_BYTES + 1)]),
    'credit beyond the window': (pop) => pop.say([FRAME.credit, 1, 1]),
    'no credit': (pop) => pop.say([FRAME.credit, 1, 0]),
    'data beyond the credit': (pop) => {
      for (let sent = 0; sent <= LINK_CREDIT_BYTES; sent += LINK_DATA_MAX_BYTES) pop.say([FRAME.data, 1, Buffer.alloc(LINK_DATA_MAX_BYTES)])
    },
    'more streams than the bound': (pop) => {
      for (let id = 2; id <= 4_100; id += 1) pop.say(open(id))
    },
  }
  for (const [what, violate] of Object.entries(violations)) {
    const first = region.handler.runs.length
    const pop = await greetedPop(region)
    pop.say(open(1))
    await until(() => region.handler.runs.length > first)
    region.handler.held(first).accepts = false
    violate(pop)
    await until(() => pop.closed, what)
    t.equal(pop.fault(), 'ERR_LINK_PROTOCOL', what)
    await until(() => region.server.pops().length === 1, what)
    t.ok(region.handler.runs.slice(first).every((run) => run.canceled === 1), `${what}: every run was cancelled once`)
  }
  t.equal(ERRORS.ERR_LINK_PROTOCOL.fault, 'platform')
  const sink = new RecordingSink()
  bystander.client.open(openFrame({ body: Buffer.from('x') }), sink)
  t.equal((await sink.whenOver()).outcome, 'ok', 'other links have not noticed')
  t.equal(region.server.pops()[0]?.bufferedBytes, 0)
})

t.test('a message beyond the bound closes the link', async (t) => {
  const region = await startRegion()
  t.teardown(() => region.close())
  const pop = await greetedPop(region)
  pop.socket.send(Buffer.alloc(LINK_MESSAGE_MAX_BYTES + 1, 0x91))
  await until(() => pop.closed)
  await until(() => region.server.pops().length === 0)
})

t.test('before the hello nothing else is taken', async (t) => {
  const region = await startRegion()
  t.teardown(() => region.close())
  for (const first of [open(1), [FRAME.ping, 1], [FRAME.cancel, 1], [FRAME.hello, LINK_PROTOCOL + 1, 'raw', TOKEN, PUBLIC_KEY], [FRAME.hello, LINK_PROTOCOL, 'not a pop id!', TOKEN, PUBLIC_KEY, 0], [FRAME.hello, LINK_PROTOCOL, 'raw', TOKEN, 'not a key', 0], [FRAME.hello, LINK_PROTOCOL, 'raw', TOKEN, PUBLIC_KEY, 7], [FRAME.hello, LINK_PROTOCOL, 'raw', TOKEN]]) {
    const pop = await rawPop(region)
    pop.say(first)
    await until(() => pop.closed)
    t.equal(pop.fault(), 'ERR_LINK_PROTOCOL')
  }
  const liar = await rawPop(region)
  liar.say([FRAME.hello, LINK_PROTOCOL, 'raw', 'guess', PUBLIC_KEY, 0], open(1))
  await until(() => liar.closed)
  t.equal(region.handler.runs.length, 0, 'frames behind a refused hello have no effect')
})

t.test('a hello that never comes, and a POP that falls silent, are ended by the clock', async (t) => {
  const clock = new ManualClock()
  const region = await startRegion({ clock })
  t.teardown(() => region.close())
  const mute = await rawPop(region)
  const silent = await greetedPop(region)
  silent.say(open(1))
  await until(() => region.handler.runs.length === 1)
  clock.advance(4_500)
  t.notOk(mute.closed)
  clock.advance(500)
  await until(() => mute.closed)
  t.equal(mute.fault(), 'ERR_LINK_PROTOCOL')
  silent.say([FRAME.ping, 5])
  await until(() => silent.frames.some((frame) => frame[0] === FRAME.pong))
  clock.advance(19_500)
  t.equal(region.server.pops().length, 1)
  clock.advance(1_000)
  await until(() => region.server.pops().length === 0)
  await until(() => silent.closed)
  t.equal(region.handler.held().canceled, 1)
})

t.test('connections without a hello, and those of one POP, are bounded', async (t) => {
  const region = await startRegion()
  t.teardown(() => region.close())
  const mutes = Array.from({ length: LINK_HANDSHAKES_MAX }, () => new RawPop(region.url))
  await until(() => mutes.every((pop) => pop.opened))
  const refused = new RawPop(region.url)
  await until(() => refused.failed)
  for (const pop of mutes) pop.socket.close()
  await until(() => mutes.every((pop) => pop.closed))
  const greeted: RawPop[] = []
  for (let index = 0; index < 8; index += 1) greeted.push(await greetedPop(region, 'same'))
  const ninth = await greetedPop(region, 'same')
  t.equal(ninth.fault(), 'ERR_LINK_IDENTITY')
  t.equal(region.server.pops().length, 8)
  for (const pop of greeted) pop.socket.close()
  await until(() => region.server.pops().length === 0)
})

t.test('a connection that speaks no WebSocket harms nobody', async (t) => {
  const region = await startRegion()
  t.teardown(() => region.close())
  const socket = createConnection(region.port, '127.0.0.1')
  socket.on('error', () => undefined)
  socket.write('GET /link HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n')
  await new Promise((resolve) => socket.once('data', resolve))
  // An unmasked frame, which a client must not send, and then noise.
  socket.write(Buffer.from([0x82, 0x05, 1, 2, 3, 4, 5, 0xff, 0xff, 0xff, 0xff]))
  await new Promise((resolve) => socket.once('close', resolve))
  const { client } = await connectedClient(region.url)
  t.equal(client.state.kind, 'open')
  client.close()
})

t.test('a POP that does not read its answers is cut off at the bound of the socket', async (t) => {
  const region = await startRegion()
  t.teardown(() => region.close())
  const socket = createConnection(region.port, '127.0.0.1')
  socket.on('error', () => undefined)
  const frame = (payload: Uint8Array): Buffer => {
    const header = payload.length < 126 ? Buffer.from([0x82, 0x80 | payload.length, 0, 0, 0, 0]) : Buffer.from([0x82, 0x80 | 126, payload.length >> 8, payload.length & 255, 0, 0, 0, 0])
    return Buffer.concat([header, payload])
  }
  socket.write('GET /link HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n')
  await new Promise((resolve) => socket.once('data', resolve))
  socket.write(frame(encodeValue([FRAME.hello, LINK_PROTOCOL, 'deaf', TOKEN, PUBLIC_KEY, 0])))
  await new Promise((resolve) => socket.once('data', resolve))
  socket.pause()
  // Heads do not count as body bytes: only the socket's own bound stops them.
  for (let id = 1; id <= 1_500; id += 1) socket.write(frame(encodeValue(open(id))))
  await until(() => region.handler.runs.length === 1_500)
  for (const run of region.handler.runs) run.answer.head(200, `x\n${'v'.repeat(60_000)}`, 'warm', '7', null, false)
  await until(() => region.server.pops().length === 0, 'cut off')
  t.ok(region.handler.runs.every((run) => run.canceled === 1))
  socket.destroy()
})

t.test('a region that breaks the protocol loses its POP, which tries again', async (t) => {
  const violations: Record<string, unknown[][]> = {
    'a frame of a POP': [[FRAME.cancel, 2]],
    'an open': [open(5)],
    'a head for a stream that never was': [[FRAME.head, 3, 200, '', 0, '1', null, false]],
    'data before the head': [[FRAME.data, 2, Buffer.from('x')]],
    'a body end before the head': [[FRAME.bodyEnd, 2]],
    'two heads': [[FRAME.head, 2, 200, '', 0, '1', null, false], [FRAME.head, 2, 200, '', 0, '1', null, false]],
    'started after the head': [[FRAME.head, 2, 200, '', 0, '1', null, false], [FRAME.started, 2]],
    'data beyond the credit': [[FRAME.head, 2, 200, '', 0, '1', null, false], ...Array.from({ length: 5 }, () => [FRAME.data, 2, Buffer.alloc(LINK_DATA_MAX_BYTES)])],
    'a head after the end of a slow answer': [
      [FRAME.head, 2, 200, '', 0, '1', null, false], [FRAME.data, 2, Buffer.from('x')], [FRAME.data, 2, Buffer.from('x')], [FRAME.end, 2, '1', null], [FRAME.end, 2, '1', null],
    ],
    'a status out of range': [[FRAME.head, 2, 99, '', 0, '1', null, false]],
    'an outcome out of range': [[FRAME.end, 2, '1', [99, 0, 1, 2, 3, 4, null, null, []]]],
    'credit beyond the window': [[FRAME.credit, 2, 1]],
    'a second welcome': [[FRAME.welcome, LINK_PROTOCOL, 'r']],
    'an unknown frame': [[44]],
  }
  for (const [what, frames] of Object.entries(violations)) {
    const { dial, sockets } = fakeDial()
    const { client } = makeClient('ws://region/link', { dial, clock: new ManualClock() })
    client.start()
    await sockets[0]?.welcome()
    await sockets[0]?.answerSnapshot()
    const sink = new RecordingSink()
    sink.accepts = false
    const stream = client.open(openFrame({ bodyMore: true }), sink)
    for (const frame of frames) sockets[0]?.say(frame)
    t.match(client.state, { kind: 'backoff', code: 'ERR_LINK_PROTOCOL' }, what)
    t.equal(sockets[0]?.sent(FRAME.fault)[0]?.[1], 'ERR_LINK_PROTOCOL', what)
    t.ok(sockets[0]?.destroyed, what)
    stream.resume()
    t.ok(sink.over && sink.misuse === null, what)
    t.equal(client.stats().bufferedBytes, 0)
    client.close()
  }
})

t.test('late frames of streams that ended are dropped on both ends', async (t) => {
  const region = await startRegion()
  t.teardown(() => region.close())
  const pop = await greetedPop(region)
  pop.say([FRAME.open, 1, 60_000, null, true, 0, ...OPEN_TAIL.map((item) => (item === 'held' ? 'throw' : item))])
  await until(() => pop.frames.some((frame) => frame[0] === FRAME.error))
  pop.say([FRAME.data, 1, Buffer.alloc(1_000)], [FRAME.bodyEnd, 1], [FRAME.cancel, 1], [FRAME.credit, 1, 5], [FRAME.ping, 7])
  await until(() => pop.frames.some((frame) => frame[0] === FRAME.pong))
  t.notOk(pop.closed)
  pop.socket.close()

  const { dial, sockets } = fakeDial()
  const { client } = makeClient('ws://region/link', { dial, clock: systemClock })
  t.teardown(() => client.close())
  client.start()
  await sockets[0]?.welcome()
  await sockets[0]?.answerSnapshot()
  const sink = new RecordingSink()
  client.open(openFrame(), sink)
  sockets[0]?.say([FRAME.error, 2, 'ERR_NO_CAPACITY', [1]])
  sockets[0]?.say([FRAME.started, 2], [FRAME.head, 2, 200, '', 0, '1', null, false], [FRAME.data, 2, Buffer.from('x')], [FRAME.end, 2, '1', null], [FRAME.credit, 2, 1])
  t.equal(client.state.kind, 'open')
  t.equal(sink.misuse, null)
})
