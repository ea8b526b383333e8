import t from 'tap'
import { SlotLease, type SlotAnswer, type SlotQuestion } from '../../../shared/place/slot-lease.ts'

const LEASE_MS = 60_000

function makeLease(): SlotLease {
  let number = 0
  return new SlotLease({ leaseMs: LEASE_MS, renewMs: 1_000, answerMs: 3_000, keepMs: 0, nextNumber: () => ++number })
}

type Part = SlotAnswer['parts'][number]
const part = (slots: number, changes: Partial<Part> = {}): Part => ({ share: 0, slots, validMs: LEASE_MS, give: 0, scarce: false, recallable: 0, ...changes })

/** The question now; none fails the test. */
function ask(lease: SlotLease, nowMs: number): SlotQuestion {
  const question = lease.question(nowMs)
  if (question === null) throw new Error('no question')
  return question
}

/** Asks, and is answered with these parts at once. */
function lend(lease: SlotLease, nowMs: number, ...parts: Part[]): SlotQuestion {
  const question = ask(lease, nowMs)
  lease.answered({ number: question.number, parts }, nowMs)
  return question
}

t.test('nothing held, nothing taken; the miss calls for a question, and is what is needed', async (t) => {
  const lease = makeLease()
  t.equal(lease.question(0), null, 'nobody wants anything')
  t.equal(lease.take(0), false)
  t.equal(lease.wantsToAsk, true)
  const { need, spare, parts } = ask(lease, 0)
  t.same({ need, parts }, { need: 1, parts: [] })
  t.ok(spare >= 1)
})

t.test('as many run as slots are held, and not one more', async (t) => {
  const lease = makeLease()
  lease.setWaiting(3)
  t.equal(lend(lease, 0, part(3)).need, 3)
  t.same([lease.take(0), lease.take(0), lease.take(0), lease.take(0)], [true, true, true, false])
  lease.release()
  t.equal(lease.take(0), true)
})

t.test('an answer to a question that was given up is not taken', async (t) => {
  const lease = makeLease()
  lease.setWaiting(1)
  const first = ask(lease, 0)
  t.equal(lease.question(2_999), null, 'one at a time')
  const second = ask(lease, 3_000)
  t.ok(second.number > first.number)
  t.equal(lease.answered({ number: first.number, parts: [part(5)] }, 3_001), false)
  t.equal(lease.held, 0)
  t.equal(lease.answered({ number: second.number, parts: [part(1)] }, 3_002), true)
  t.equal(lease.answered({ number: second.number, parts: [part(9)] }, 3_003), false, 'nor the same one twice')
  t.equal(lease.held, 1)
})

t.test('a lease counts from before it was asked for, ends by itself, and says what has to be stopped', async (t) => {
  const lease = makeLease()
  lease.setWaiting(3)
  const question = ask(lease, 0)
  lease.answered({ number: question.number, parts: [part(2, { validMs: 10_000 }), part(1, { share: 1 })] }, 2_900)
  for (let taken = 0; taken < 3; taken++) lease.take(0)
  t.equal(lease.tick(9_999), 0)
  t.equal(lease.tick(10_000), 2)
  t.equal(lease.held, 1)
  t.equal(lease.take(10_000), false)
})

t.test('an end that a call, a question or an answer comes upon before the timer: nothing is let in, and what runs is stopped', async (t) => {
  const full = (): SlotLease => {
    const lease = makeLease()
    lease.setWaiting(3)
    lend(lease, 0, part(3))
    lease.setWaiting(0)
    for (let taken = 0; taken < 2; taken++) lease.take(1)
    return lease
  }
  const called = full()
  t.equal(called.take(LEASE_MS - 1), true)
  called.release()
  t.equal(called.take(LEASE_MS), false)
  t.equal(called.isOver(LEASE_MS), true)
  t.equal(called.tick(LEASE_MS), 2)
  t.equal(called.tick(LEASE_MS), 0, 'once')
  const asking = full()
  t.same(ask(asking, LEASE_MS).parts, [], 'it does not claim what it has no more')
  t.equal(asking.tick(LEASE_MS), 2)
  // The answer lay in the socket while the process stood still.
  const answered = full()
  const { number } = ask(answered, 1_000)
  answered.answered({ number, parts: [part(3)] }, 2 * LEASE_MS)
  t.equal(answered.take(2 * LEASE_MS), false)
  t.equal(answered.tick(2 * LEASE_MS), 2)
})

t.test('slots that come back after a lease has ended are for those first that still run without one', async (t) => {
  const lease = makeLease()
  lease.setWaiting(2)
  lend(lease, 0, part(2))
  lease.setWaiting(0)
  t.same([lease.take(1), lease.take(1), lease.take(LEASE_MS)], [true, true, false])
  lend(lease, LEASE_MS, part(2))
  t.equal(lease.take(LEASE_MS), false)
  lease.release()
  t.equal(lease.take(LEASE_MS), true)
})

t.test('a manager cannot make a lease longer than was asked for', async (t) => {
  const lease = makeLease()
  lease.setWaiting(1)
  lend(lease, 0, part(1, { validMs: 10 * LEASE_MS }))
  lease.take(0)
  t.equal(lease.tick(LEASE_MS), 1)
})

t.test('shares that did not answer stay as they are, with the end that they have', async (t) => {
  const lease = makeLease()
  lease.setWaiting(4)
  lend(lease, 0, part(2), part(2, { share: 1 }))
  lease.setWaiting(0)
  for (let taken = 0; taken < 4; taken++) lease.take(0)
  lend(lease, 30_000, part(2))
  t.equal(lease.held, 4)
  t.equal(lease.tick(LEASE_MS), 2)
})

t.test('what was idle for two windows is given back, in the next question and not before', async (t) => {
  const lease = makeLease()
  lease.setWaiting(8)
  lend(lease, 0, part(8))
  lease.setWaiting(0)
  for (let taken = 0; taken < 8; taken++) lease.take(0)
  for (let taken = 0; taken < 8; taken++) lease.release()
  t.same(lend(lease, 1_000, part(8)).parts, [{ share: 0, held: 8 }])
  lend(lease, 2_100, part(8))
  const back = ask(lease, 4_200)
  t.same(back.parts, [{ share: 0, held: 0 }])
  t.equal(lease.held, 0, 'from when it is said')
  t.equal(lease.isIdle, false, 'the manager may not have heard yet')
  lease.answered({ number: back.number, parts: [part(0)] }, 4_300)
  t.equal(lease.isIdle, true)
})

t.test('idle slots are given back at once when somebody waits for them, never those in use', async (t) => {
  const lease = makeLease()
  lease.setWaiting(6)
  lend(lease, 0, part(6))
  lease.setWaiting(0)
  for (let taken = 0; taken < 4; taken++) lease.take(0)
  lend(lease, 1_000, part(6, { give: 6 }))
  t.equal(lease.wantsToAsk, true)
  const question = ask(lease, 1_001)
  t.same(question.parts, [{ share: 0, held: 4 }])
  t.equal(question.spare, 0)
})

t.test('little left: nothing is held ahead of demand, and a miss finds out when there is more', async (t) => {
  const lease = makeLease()
  lease.take(0)
  lend(lease, 0, part(1, { scarce: true }))
  t.equal(lease.take(0), true)
  lease.release()
  t.same(lend(lease, 1_000, part(0, { scarce: true })).parts, [{ share: 0, held: 0 }])
  t.equal(lease.take(0), false)
  const { need, spare } = ask(lease, 2_000)
  t.same({ need, spare }, { need: 1, spare: 0 })
})

t.test('a busy pool asks ahead of demand, so that a growing one rarely waits', async (t) => {
  const lease = makeLease()
  let nowMs = 0
  let questions = 0
  let missed = 0
  for (let running = 1; running <= 100; running++) {
    if (!lease.take(nowMs)) missed++
    nowMs += 5
    if (!lease.wantsToAsk) continue
    const question = lease.question(nowMs)
    if (question === null) continue
    questions++
    lease.answered({ number: question.number, parts: [part(Math.max(0, question.parts[0]?.held ?? 0) + question.need + question.spare)] }, nowMs + 4)
  }
  t.ok(questions <= 12, `${questions} questions for 100 slots`)
  t.ok(missed <= 2, `${missed} missed`)
  // Steady use costs one question a period.
  questions = 0
  for (let index = 0; index < 10_000; index++) {
    lease.release()
    lease.take(nowMs)
    nowMs += 1
    if (!lease.wantsToAsk) continue
    const question = lease.question(nowMs)
    if (question === null) continue
    questions++
    lease.answered({ number: question.number, parts: [part((question.parts[0]?.held ?? 0) + question.spare)] }, nowMs)
  }
  t.ok(questions <= 3, `${questions} questions in 10,000 invocations`)
})

t.test('after an answer that brought too little the next question waits a moment', async (t) => {
  const lease = makeLease()
  lease.setWaiting(2)
  lend(lease, 0)
  t.equal(lease.isThrottled(10), true)
  t.equal(lease.question(10), null)
  t.equal(ask(lease, 60).need, 2)
  lease.failed(2, 70)
  t.equal(lease.isThrottled(80), true)
})

t.test('slots in use that are called back are not taken again once free', async (t) => {
  const lease = makeLease()
  lease.setWaiting(3)
  lend(lease, 0, part(3))
  lease.setWaiting(0)
  for (let taken = 0; taken < 3; taken++) lease.take(0)
  lend(lease, 1_000, part(3, { give: 2 }))
  lease.release()
  t.equal(lease.take(0), false)
  t.equal(lease.wantsToAsk, true)
  t.same(lend(lease, 1_010, part(2, { give: 1 })).parts, [{ share: 0, held: 2 }])
  lease.release()
  t.equal(lease.take(0), false)
  t.same(lend(lease, 1_020, part(1)).parts, [{ share: 0, held: 1 }])
  lease.release()
  t.equal(lease.take(0), true)
})
