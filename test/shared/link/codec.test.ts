import assert from 'node:assert/strict'
import fc from 'fast-check'
import { Packr } from 'msgpackr'
import t from 'tap'
import type { BuildKey } from '../../../shared/brand.ts'
import { ERRORS } from '../../../shared/errors.ts'
import type { ErrorCode } from '../../../shared/errors.ts'
import { decodeFrames, decodeValue, encodeValue, MalformedError } from '../../../shared/link/codec.ts'
import * as frames from '../../../shared/link/frames.ts'
import type { AnyOpen, FrameReceiver } from '../../../shared/link/frames.ts'
import { Outbox } from '../../../shared/link/outbox.ts'
import { LINK_BULK_CREDIT_BYTES, LINK_DATA_MAX_BYTES, LINK_FRAME_MAX_BYTES, LINK_LOGS_MAX_BYTES, LINK_MESSAGE_MAX_BYTES, VERSIONS_PER_FUNCTION_MAX } from '../../../shared/limits.ts'
import { OUTCOMES, START_KINDS } from '../../../shared/outcome.ts'
import type { InvocationResult } from '../../../shared/worker/types.ts'
import { openFrame, RESULT } from './harness.ts'

type Call = readonly [keyof FrameReceiver, ...unknown[]]

/** A receiver that remembers each call with copies of its bytes. */
function recorder(calls: Call[]): FrameReceiver {
  return new Proxy({} as FrameReceiver, {
    get: (_, name) => (...args: unknown[]) => void calls.push([name as keyof FrameReceiver, ...args.map(owned)]),
  })
}

function owned(arg: unknown): unknown {
  if (arg instanceof Uint8Array) return Buffer.from(arg)
  if (typeof arg === 'object' && arg !== null && 'body' in arg) return { ...arg, body: owned(arg.body) }
  return arg
}

function receive(message: Uint8Array): Call[] {
  const calls: Call[] = []
  decodeFrames(message, (frame) => {
    frames.dispatchFrame(frame, recorder(calls))
    return true
  })
  return calls
}

/** The messages that writing some frames makes. */
function written(write: (outbox: Outbox) => void): Buffer[] {
  const messages: Buffer[] = []
  const outbox = new Outbox({ sendMessage: (message) => void messages.push(Buffer.from(message)), beforeFlush: () => undefined })
  write(outbox)
  outbox.flush()
  outbox.close()
  return messages
}

function roundTrip(write: (outbox: Outbox) => void): Call[] {
  return written(write).flatMap(receive)
}

/** Bytes that break no rule or are refused as malformed: nothing else may come out. */
function isHandled(read: () => unknown): boolean {
  try {
    read()
    return true
  } catch (error) {
    return error instanceof MalformedError
  }
}

function isRefused(read: () => unknown): boolean {
  try {
    read()
    return false
  } catch (error) {
    return error instanceof MalformedError
  }
}

// What the wire carries as it is: JSON strings may hold lone surrogates, which UTF-8 cannot.
const plain = { noNullPrototype: true }
const text = fc.string({ unit: 'grapheme', maxLength: 200 })
const natural = fc.maxSafeNat()
const streamId = fc.oneof(fc.integer({ min: 1, max: 200 }), natural)
const id = (maxLength: number): fc.Arbitrary<string> => fc.string({ minLength: 1, maxLength })
const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array))
const orNull = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(arbitrary, { nil: null })
const coded = fc.record({ code: fc.constantFrom(...(Object.keys(ERRORS) as ErrorCode[])), params: fc.array(fc.oneof(text, fc.integer()), { maxLength: 8 }) }, plain)
const result: fc.Arbitrary<InvocationResult> = fc.record({
  outcome: fc.constantFrom(...OUTCOMES), error: orNull(coded), exception: orNull(fc.record({ name: text, message: text, stack: text }, plain)), startKind: fc.constantFrom(...START_KINDS),
  cpuUs: natural, wallUs: natural, dirtyPages: natural, memoryBytes: natural, logs: fc.array(text, { maxLength: 20 }),
}, plain)
const head = fc.tuple(fc.integer({ min: 100, max: 999 }), text, orNull(fc.constantFrom(...START_KINDS)), orNull(text), orNull(bytes), fc.boolean())
const open: fc.Arbitrary<AnyOpen> = fc.oneof(
  fc.record({
    kind: fc.constant('invoke' as const), requestId: text, account: text, functionName: text, qualifier: orNull(text), invocationKind: fc.constantFrom('http' as const, 'event' as const),
    method: text, url: text, headers: text, body: orNull(bytes), bodyMore: fc.boolean(), clientIp: text, remainingMs: natural, wantLogs: fc.boolean(), reason: text, hops: natural, selection: orNull(text.map((line) => `{${line.replaceAll('\n', ' ')}`)), chain: orNull(fc.record({ depth: natural, calls: fc.record({ count: natural }, plain), caller: fc.record({ functionName: text, version: text }, plain) }, plain)),
    session: orNull(id(256)), ring: orNull(fc.record({ version: natural, seq: natural, predecessors: fc.array(id(128), { maxLength: 16 }) }, plain)), reservation: orNull(id(128)),
  }, plain),
  fc.record({ kind: fc.constant('control' as const), requestId: text, method: text, rawPath: text, headers: text, body: orNull(bytes), bodyMore: fc.boolean(), clientIp: text, remainingMs: natural }, plain),
  fc.record({ kind: fc.constant('query' as const), query: fc.constantFrom(...frames.QUERIES), body: orNull(bytes), bodyMore: fc.boolean(), remainingMs: natural, creditBytes: fc.integer({ min: 0, max: LINK_BULK_CREDIT_BYTES }) }, plain),
)

t.test('every frame comes out as it went in', (t) => {
  const same = (calls: Call[], ...expected: Call[]): void => assert.deepStrictEqual(calls, expected)
  fc.assert(fc.property(streamId, open, (number, frame) => same(roundTrip((outbox) => void frames.writeOpen(outbox, number, frame, frame.body, frame.bodyMore)), ['open', number, frame])))
  fc.assert(fc.property(streamId, head, (number, value) => same(roundTrip((outbox) => void frames.writeHead(outbox, number, ...value)), ['head', number, ...value])))
  fc.assert(fc.property(streamId, orNull(result), orNull(text), (number, value, version) => same(roundTrip((outbox) => frames.writeEnd(outbox, number, value, version)), ['end', number, value, version])))
  fc.assert(fc.property(streamId, coded, (number, error) => same(roundTrip((outbox) => frames.writeError(outbox, number, error)), ['error', number, error])))
  fc.assert(fc.property(natural, text, text, fc.array(text), (seq, account, functionName, builds) => {
    const versions = { seq, account, functionName, builds: builds as BuildKey[] }
    same(roundTrip((outbox) => void frames.writeVersion(outbox, versions)), ['version', versions])
  }))
  fc.assert(fc.property(streamId, natural, text, text, coded, (number, nonce, popId, token, error) => same(
    roundTrip((outbox) => {
      frames.writeHello(outbox, popId, token, popId, 'node')
      frames.writeWelcome(outbox, popId)
      frames.writeFault(outbox, error)
      frames.writeStarted(outbox, number)
      frames.writeBodyEnd(outbox, number)
      frames.writeCancel(outbox, number)
      frames.writeCredit(outbox, number, nonce)
      frames.writeGoaway(outbox, nonce)
      frames.writePing(outbox, nonce)
      frames.writePong(outbox, nonce)
    }),
    ['hello', popId, token, popId, 'node'], ['welcome', popId], ['fault', error], ['started', number], ['bodyEnd', number], ['cancel', number],
    ['credit', number, nonce], ['goaway', nonce], ['ping', nonce], ['pong', nonce],
  )))
  t.pass('for all values tried')
  t.end()
})

t.test('a data frame written by hand is what msgpack says it is', (t) => {
  for (const number of [1, 127, 128, 65_535, 65_536, 0xffff_ffff, 0x1_0000_0000, Number.MAX_SAFE_INTEGER]) {
    for (const size of [1, 255, 256, 65_535, LINK_DATA_MAX_BYTES]) {
      const payload = Buffer.alloc(size, size)
      const message = written((outbox) => outbox.pushData(frames.FRAME.data, number, payload))
      t.strictSame(message.flatMap(receive), [['data', number, payload]])
      t.strictSame(new Packr({ useRecords: false, int64AsType: 'number' }).unpack(message[0] ?? Buffer.alloc(0)), [frames.FRAME.data, number, payload])
    }
  }
  t.throws(() => written((outbox) => outbox.pushData(frames.FRAME.data, 1, Buffer.alloc(LINK_DATA_MAX_BYTES + 1))), RangeError)
  t.end()
})

t.test('no message is larger than the bound, and a frame too large is not taken', (t) => {
  const messages = written((outbox) => {
    for (let index = 1; index <= 40; index += 1) {
      frames.writePing(outbox, index)
      outbox.pushData(frames.FRAME.data, index, Buffer.alloc(LINK_DATA_MAX_BYTES - index))
    }
  })
  t.ok(messages.every((message) => message.length <= LINK_MESSAGE_MAX_BYTES))
  t.equal(messages.flatMap(receive).length, 80)
  t.equal(written((outbox) => t.notOk(frames.writeOpen(outbox, 1, openFrame({ url: 'x'.repeat(LINK_FRAME_MAX_BYTES) }), null, false))).length, 0)
  const builds = (count: number): BuildKey[] => Array.from({ length: count }, (_, index) => `${index}`.padEnd(250, 'x') as BuildKey)
  t.equal(roundTrip((outbox) => t.ok(frames.writeVersion(outbox, { account: 'a', functionName: 'f', seq: 1, builds: builds(VERSIONS_PER_FUNCTION_MAX) }))).length, 1)
  t.equal(written((outbox) => t.notOk(frames.writeVersion(outbox, { account: 'a', functionName: 'f', seq: 1, builds: builds(1_100) }))).length, 0)
  t.end()
})

t.test('an end always fits: long logs and stacks are cut, the newest lines kept', (t) => {
  const logs = Array.from({ length: 50_000 }, (_, index) => `info\tline ${index} ${'\u{1f600}'.repeat(10)}`)
  const calls = roundTrip((outbox) => {
    frames.writeEnd(outbox, 1, {
      ...RESULT, logs, outcome: 'exception', exception: { name: 'n'.repeat(100_000), message: '\u20ac'.repeat(500_000), stack: '\u20ac'.repeat(500_000) },
      error: { code: 'ERR_FUNCTION_EXCEPTION', params: ['\u20ac'.repeat(500_000)] },
    }, '7')
  })
  const received = calls[0]?.[2] as InvocationResult
  t.equal(received.logs.at(-1), logs.at(-1))
  t.ok(Buffer.byteLength(received.logs.join('')) <= LINK_LOGS_MAX_BYTES)
  t.ok(received.logs.length > 100)
  t.end()
})

t.test('figures that are not whole numbers are rounded, and impossible ones become 0', (t) => {
  const calls = roundTrip((outbox) => frames.writeEnd(outbox, 1, { ...RESULT, cpuUs: 1.5, wallUs: NaN, dirtyPages: -1, memoryBytes: Infinity }, null))
  t.match(calls[0]?.[2], { cpuUs: 2, wallUs: 0, dirtyPages: 0, memoryBytes: 0 })
  t.end()
})

t.test('a code of a newer peer is told as an internal error', (t) => {
  t.strictSame(receive(encodeValue([frames.FRAME.error, 1, 'ERR_OF_TOMORROW', []])), [['error', 1, { code: 'ERR_INTERNAL', params: ['the peer reports ERR_OF_TOMORROW'] }]])
  t.end()
})

t.test('random bytes are refused as malformed or are frames', (t) => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (message) => isHandled(() => receive(message))), { numRuns: 5_000 })
  // Beginning like a frame gets further.
  fc.assert(fc.property(fc.integer({ min: 0, max: 16 }), fc.uint8Array({ maxLength: 60 }), (type, rest) => isHandled(() => receive(Uint8Array.from([0x90 + (rest[0] ?? 0) % 16, type, ...rest])))), { numRuns: 5_000 })
  t.pass()
  t.end()
})

t.test('tuples of plain values in any shape are refused as malformed or are frames', (t) => {
  const item = fc.oneof(natural, fc.integer(), fc.double(), text, bytes, fc.boolean(), fc.constant(null), fc.array(fc.oneof(natural, text)))
  fc.assert(fc.property(fc.integer({ min: 0, max: 20 }), fc.array(item, { maxLength: 19 }), (type, rest) => isHandled(() => receive(encodeValue([type, ...rest])))), { numRuns: 5_000 })
  t.pass()
  t.end()
})

t.test('valid messages with bytes changed, cut or repeated are refused as malformed or are frames', (t) => {
  fc.assert(fc.property(streamId, open, result, fc.array(fc.tuple(natural, fc.integer({ min: 0, max: 255 })), { maxLength: 5 }), natural, (number, frame, value, changes, cut) => {
    const message = Buffer.concat(written((outbox) => {
      frames.writeOpen(outbox, number, frame, frame.body, frame.bodyMore)
      frames.writeEnd(outbox, number, value, '7')
    }))
    for (const [at, byte] of changes) message[at % message.length] = byte
    return isHandled(() => receive(message)) && isHandled(() => receive(message.subarray(0, cut % message.length)))
  }), { numRuns: 3_000 })
  t.pass()
  t.end()
})

t.test('nothing but plain msgpack is read', (t) => {
  const refused = (what: string, message: Uint8Array): void => void t.ok(isRefused(() => receive(message)), what)
  const extended = new Packr({ moreTypes: true, useRecords: false, structuredClone: true })
  const records = new Packr({ useRecords: true })
  refused('an empty message', Buffer.alloc(0))
  refused('a number', Buffer.from([1]))
  refused('a map', Buffer.from([0x81, 1, 2]))
  refused('a map inside', encodeValue([frames.FRAME.ping, { a: 1 }]))
  refused('a record', records.pack([frames.FRAME.ping, { a: 1 }]))
  refused('a date', extended.pack([frames.FRAME.ping, new Date()]))
  refused('an error', extended.pack([frames.FRAME.ping, new Error('x')]))
  refused('a regular expression', extended.pack([frames.FRAME.ping, /x/]))
  refused('a set', extended.pack([frames.FRAME.ping, new Set([1])]))
  refused('a typed array', extended.pack([frames.FRAME.ping, new Float64Array(2)]))
  refused('the byte that is never used', Buffer.from([0x92, frames.FRAME.ping, 0xc1]))
  refused('a pointer', Buffer.from([0x92, frames.FRAME.ping, 0xd6, 0x70, 0, 0, 0, 0]))
  refused('an array of 2^32 items', Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff]))
  refused('a string of 2^32 bytes', Buffer.from([0x92, frames.FRAME.ping, 0xdb, 0xff, 0xff, 0xff, 0xff]))
  refused('an array of 2^16 arrays of 2^16', Buffer.from([0xdc, 0xff, 0xff, ...Array.from({ length: 70_000 }, (_, index) => [0xdc, 0xff, 0xff][index % 3] ?? 0)]))
  refused('100,000 levels', Buffer.alloc(100_000, 0x91))
  refused('100,000 levels that end', Buffer.concat([Buffer.alloc(100_000, 0x91), Buffer.from([1])]))
  refused('60,000 items', Buffer.concat([Buffer.from([0xdc, 0xea, 0x60]), Buffer.alloc(60_000, 1)]))
  refused('a number beyond 2^53', Buffer.from([0x92, frames.FRAME.ping, 0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]))
  refused('a negative number', encodeValue([frames.FRAME.ping, -1]))
  refused('a fraction', encodeValue([frames.FRAME.ping, 0.5]))
  refused('too few items', encodeValue([frames.FRAME.ping]))
  refused('too many items', encodeValue([frames.FRAME.ping, 1, 2]))
  refused('an unknown type', encodeValue([99]))
  refused('a payload beyond the bound', encodeValue([frames.FRAME.data, 1, Buffer.alloc(LINK_DATA_MAX_BYTES + 1)]))
  t.end()
})

t.test('values may hold maps, and no prototype comes with them', (t) => {
  t.strictSame(decodeValue(encodeValue({ a: { b: [1, 'two', null, true] } })), { a: { b: [1, 'two', null, true] } })
  const value = decodeValue(encodeValue(JSON.parse('{"__proto__":{"polluted":1},"constructor":2}'))) as Record<string, unknown>
  t.equal(({} as Record<string, unknown>).polluted, undefined)
  t.equal(Object.getPrototypeOf(value), Object.prototype)
  t.equal(value.polluted, undefined)
  t.ok(isRefused(() => decodeValue(Buffer.from([1, 2]))), 'bytes after the value')
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (message) => isHandled(() => decodeValue(message))), { numRuns: 5_000 })
  t.end()
})
