import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { Backoff } from '../../../shared/link/backoff.ts'
import { decodeFrames } from '../../../shared/link/codec.ts'
import type { Carrier } from '../../../shared/link/flow.ts'
import { InboundBody, OutboundBody } from '../../../shared/link/flow.ts'
import { FRAME } from '../../../shared/link/frames.ts'
import { TokenIdentity } from '../../../shared/link/identity.ts'
import type { LinkHello, LinkRole } from '../../../shared/link/types.ts'
import { Outbox } from '../../../shared/link/outbox.ts'
import { LINK_CREDIT_BYTES, LINK_DATA_MAX_BYTES } from '../../../shared/limits.ts'
import { seededRandom } from '../../../shared/random.ts'

/** One end of a wire that a test moves by hand. */
class HandCarrier implements Carrier {
  readonly outbox: Outbox
  readonly wire: Buffer[] = []
  readonly waiting = new Set<OutboundBody>()
  open = true
  budgetBytes = Infinity
  reservedBytes = 0

  constructor() {
    this.outbox = new Outbox({ sendMessage: (message) => void this.wire.push(Buffer.from(message)), beforeFlush: () => undefined })
  }

  canSendData(): boolean {
    return this.open
  }

  reserve(bytes: number): boolean {
    if (this.reservedBytes + bytes > this.budgetBytes) return false
    this.reservedBytes += bytes
    return true
  }

  release(bytes: number): void {
    this.reservedBytes -= bytes
  }

  awaitTurn(sender: OutboundBody): void {
    this.waiting.add(sender)
  }

  forgetTurn(sender: OutboundBody): void {
    this.waiting.delete(sender)
  }

  turn(): void {
    if (!this.open) return
    for (const sender of [...this.waiting]) {
      this.waiting.delete(sender)
      if (sender.takeTurn()) this.waiting.add(sender)
    }
  }
}

/** A body on its way from one carrier to another. */
class Passage {
  readonly from = new HandCarrier()
  readonly to = new HandCarrier()
  readonly received: Buffer[] = []
  accepts = true
  drains = 0
  bodyEnds = 0
  outstandingBytes = 0
  outstandingMaxBytes = 0
  readonly outbound = new OutboundBody(1, this.from, () => {
    this.drains += 1
  })
  readonly inbound = new InboundBody(1, this.to, {
    onData: (chunk) => {
      this.received.push(Buffer.from(chunk))
      return this.accepts
    },
    onBodyEnd: () => {
      this.bodyEnds += 1
    },
  })

  /** Delivers one message from each side to the other; false if there was none. */
  deliver(): boolean {
    this.from.outbox.flush()
    this.to.outbox.flush()
    const down = this.from.wire.shift()
    const up = this.to.wire.shift()
    if (down !== undefined) {
      decodeFrames(down, ([type, , payload]) => {
        if (type === FRAME.bodyEnd) this.inbound.end()
        else {
          const bytes = payload as Uint8Array
          assert.ok(bytes.length <= LINK_DATA_MAX_BYTES)
          this.outstandingBytes += bytes.length
          this.outstandingMaxBytes = Math.max(this.outstandingMaxBytes, this.outstandingBytes)
          assert.equal(this.inbound.accept(bytes), 'go')
        }
        return true
      })
    }
    if (up !== undefined) {
      decodeFrames(up, ([, , bytes]) => {
        this.outstandingBytes -= bytes as number
        this.outbound.credit(bytes as number)
        return true
      })
    }
    return down !== undefined || up !== undefined
  }

  settle(): void {
    this.from.open = true
    this.accepts = true
    do {
      this.inbound.resume()
      this.from.turn()
    } while (this.deliver() || this.from.waiting.size > 0)
  }
}

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('write' as const), bytes: fc.oneof(fc.integer({ min: 0, max: 2_000 }), fc.integer({ min: 0, max: 400_000 })) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('deliver' as const) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('turn' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom('pause' as const, 'resume' as const, 'blockSocket' as const, 'openSocket' as const) }) },
)

t.test('bytes arrive complete and in order, never beyond the credit, whatever the chunks, pauses and sockets do', (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.boolean(), (steps, endsEarly) => {
      const passage = new Passage()
      const sent: Buffer[] = []
      let byte = 0
      for (const each of steps) {
        switch (each.kind) {
          case 'write': {
            byte += 1
            const chunk = Buffer.alloc(each.bytes, byte)
            sent.push(Buffer.from(chunk))
            const verdict = passage.outbound.write(chunk)
            assert.notEqual(verdict, 'overload')
            // The caller may use its buffer again at once.
            chunk.fill(0)
            break
          }
          case 'deliver': passage.deliver(); break
          case 'turn': passage.from.turn(); break
          case 'pause': passage.accepts = false; break
          case 'resume':
            passage.accepts = true
            passage.inbound.resume()
            break
          case 'blockSocket': passage.from.open = false; break
          case 'openSocket': passage.from.open = true; break
        }
        assert.ok(passage.outstandingBytes <= LINK_CREDIT_BYTES)
        assert.ok(passage.to.reservedBytes <= LINK_CREDIT_BYTES)
      }
      let after = 0
      if (endsEarly) passage.outbound.end('bodyEnd', () => void (after += 1))
      passage.settle()
      if (!endsEarly) passage.outbound.end('bodyEnd', () => void (after += 1))
      passage.settle()
      assert.ok(Buffer.concat(passage.received).equals(Buffer.concat(sent)))
      assert.equal(passage.bodyEnds, 1)
      assert.equal(after, 1)
      assert.equal(passage.from.reservedBytes, 0)
      assert.equal(passage.to.reservedBytes, 0)
    }),
    { numRuns: 300 },
  )
  t.pass('for all sequences tried')
  t.end()
})

t.test('a writer that was told to wait hears of it once, when nothing waits any more', (t) => {
  const passage = new Passage()
  t.equal(passage.outbound.write(Buffer.alloc(LINK_CREDIT_BYTES)), 'go')
  t.equal(passage.outbound.write(Buffer.alloc(1)), 'wait')
  t.equal(passage.outbound.write(Buffer.alloc(1)), 'wait')
  passage.settle()
  t.equal(passage.drains, 1)
  t.equal(passage.outbound.write(Buffer.alloc(1)), 'go')
  passage.settle()
  t.equal(passage.drains, 1)
  t.end()
})

t.test('dropping gives back what waited, and what comes later is ignored', (t) => {
  const passage = new Passage()
  passage.accepts = false
  passage.outbound.write(Buffer.alloc(2 * LINK_CREDIT_BYTES))
  while (passage.deliver());
  t.ok(passage.from.reservedBytes > 0)
  t.ok(passage.to.reservedBytes > 0)
  passage.outbound.drop()
  passage.outbound.drop()
  passage.inbound.drop()
  t.equal(passage.from.reservedBytes, 0)
  t.equal(passage.to.reservedBytes, 0)
  t.equal(passage.outbound.write(Buffer.alloc(10)), 'go')
  t.equal(passage.deliver(), false)
  t.equal(passage.bodyEnds, 0)
  t.end()
})

t.test('beyond the budget nothing is taken and the owner is told', (t) => {
  const passage = new Passage()
  passage.from.budgetBytes = 100
  t.equal(passage.outbound.write(Buffer.alloc(LINK_CREDIT_BYTES + 101)), 'overload')
  t.equal(passage.from.reservedBytes, 0)
  t.end()
})

t.test('waits double with jitter up to their bound, and start over only after real uptime', (t) => {
  const backoff = new Backoff(seededRandom(7))
  for (let failure = 0; failure < 12; failure += 1) {
    const ceilingMs = Math.min(10_000, 100 * 2 ** failure)
    const delayMs = backoff.next(9_999, 0)
    t.ok(delayMs >= ceilingMs / 2 && delayMs <= ceilingMs, `${delayMs} within half of ${ceilingMs}`)
  }
  t.ok(backoff.next(10_000, 0) <= 100)
  t.equal(backoff.failures, 1)
  t.end()
})

t.test('after a goodbye waits stay short until the region must be back, and failures of long ago are forgotten', (t) => {
  const backoff = new Backoff(seededRandom(8))
  for (let failure = 0; failure < 12; failure += 1) backoff.next(0, 0)
  backoff.goodbye(10_000, 5_000, 1_000)
  t.ok(backoff.next(0, 1_000) <= 100, 'the link had held')
  for (let failure = 0; failure < 12; failure += 1) t.ok(backoff.next(0, 65_999) <= 1_000)
  t.ok(backoff.next(0, 66_000) > 1_000, 'away after all')
  t.end()
})

t.test('a window larger than usual is spent and granted like any other', (t) => {
  const carrier = new HandCarrier()
  const outbound = new OutboundBody(1, carrier, () => undefined, 4 * LINK_CREDIT_BYTES)
  t.equal(outbound.write(Buffer.alloc(4 * LINK_CREDIT_BYTES)), 'go')
  t.equal(outbound.write(Buffer.alloc(1)), 'wait')
  t.throws(() => outbound.credit(4 * LINK_CREDIT_BYTES + 1))
  const granted: number[] = []
  const inbound = new InboundBody(1, carrier, { onData: () => true, onBodyEnd: () => undefined }, 4 * LINK_CREDIT_BYTES)
  const takeWire = (): void => {
    carrier.outbox.flush()
    for (const message of carrier.wire.splice(0)) {
      decodeFrames(message, (frame) => {
        if (frame[0] === FRAME.credit) granted.push(Number(frame[2]))
        return true
      })
    }
  }
  takeWire()
  for (let bytes = 0; bytes < 2 * LINK_CREDIT_BYTES - LINK_DATA_MAX_BYTES; bytes += LINK_DATA_MAX_BYTES) inbound.accept(Buffer.alloc(LINK_DATA_MAX_BYTES))
  takeWire()
  t.strictSame(granted, [], 'nothing before half of it was taken')
  inbound.accept(Buffer.alloc(LINK_DATA_MAX_BYTES))
  takeWire()
  t.strictSame(granted, [2 * LINK_CREDIT_BYTES])
  t.throws(() => inbound.accept(Buffer.alloc(4 * LINK_CREDIT_BYTES + 1)), 'beyond the window')
  t.end()
})

t.test('only the token itself is accepted', (t) => {
  const identity = new TokenIdentity('secret')
  const hello = (token: string, role: LinkRole = 'pop'): LinkHello => ({ popId: 'p', token, publicKey: 'k', role })
  t.strictSame(identity.verify(hello('secret')), { kind: 'accepted', popId: 'p', role: 'pop' })
  for (const token of ['', 'secre', 'secret ', 'SECRET']) t.equal(identity.verify(hello(token)).kind, 'refused')
  const known = new TokenIdentity('secret', 'of peers')
  for (const role of ['node', 'region'] as const) {
    t.match(known.verify(hello('of peers', role)), { kind: 'accepted', role })
    t.equal(known.verify(hello('secret', role)).kind, 'refused', `the token of POPs makes no ${role}`)
    t.equal(identity.verify(hello('secret', role)).kind, 'refused', 'nor where there is no other')
  }
  t.match(known.verify(hello('secret')), { kind: 'accepted', role: 'pop' })
  t.equal(known.verify(hello('of peers')).kind, 'refused')
  t.end()
})
