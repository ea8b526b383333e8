import t from 'tap'
import { Admission } from '../../../region/limits/admission.ts'
import { ManualClock } from '../../../shared/clock.ts'
import type { GrantItem, GrantResult } from '../../../shared/concurrency/grant-protocol.ts'
import { ADMISSION_WAIT_MS } from '../../../shared/limits.ts'

const A = '111111111111'

/** Admission before somebody who gives at most `slots.now`. */
function make(now: number, recallable = 0): { admission: Admission; clock: ManualClock; slots: { now: number; recallable: number; elsewhere: boolean } } {
  const clock = new ManualClock()
  const slots = { now, recallable, elsewhere: false }
  const grant = ({ question }: GrantItem, done: (result: GrantResult) => void): void => {
    const held = question.parts[0]?.held ?? 0
    const given = Math.max(held, Math.min(slots.now, held + question.need))
    done({ reservations: null, answer: { number: question.number, parts: [{ share: 0, slots: given, validMs: question.leaseMs, give: 0, scarce: true, recallable: 0 }] }, missing: question.need - (given - held), recallable: slots.recallable, elsewhere: slots.elsewhere })
  }
  return { admission: new Admission({ clock, limitsOf: () => ({ maximum: 2, reserved: new Map([['reserved', 1]]) }), grant, onOver: () => undefined, leaseMs: 60_000 }), clock, slots }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

t.test('nobody has anything: refused at once, with the limit that it is', async (t) => {
  const { admission } = make(0)
  await t.rejects(admission.wait(A, 'f').admitted, { code: 'ERR_ACCOUNT_LIMIT', params: [2] })
  await t.rejects(admission.wait(A, 'reserved').admitted, { code: 'ERR_FUNCTION_LIMIT', params: ['reserved', 1] })
  t.equal(admission.waiting, 0)
  admission.close()
})

t.test('the account is counted in another region: refused at once, so that it is tried there', async (t) => {
  const { admission, slots } = make(0)
  slots.elsewhere = true
  for (const name of ['f', 'reserved']) await t.rejects(admission.wait(A, name).admitted, { code: 'ERR_ACCOUNT_ELSEWHERE', params: [2] })
  admission.close()
})

t.test('the first call is admitted in the same turn; those beyond what is given are refused', async (t) => {
  const { admission } = make(2)
  t.equal(admission.enter(A, 'f'), null)
  const waits = [admission.wait(A, 'f'), admission.wait(A, 'f'), admission.wait(A, 'f')]
  const [first, second, third] = await Promise.allSettled(waits.map(({ admitted }) => admitted))
  t.same([first?.status, second?.status, third?.status], ['fulfilled', 'fulfilled', 'rejected'])
  t.equal(admission.stats().inUse, 2)
  t.equal(admission.enter(A, 'f'), null)
  if (first?.status === 'fulfilled') admission.leave(first.value)
  t.not(admission.enter(A, 'f'), null, 'at hand now')
  admission.close()
})

t.test('while idle slots are called back a call waits, in order, and no longer than its time', async (t) => {
  const { admission, clock, slots } = make(0, 3)
  const order: string[] = []
  const wait = (name: string): Promise<void> => admission.wait(A, 'f').admitted.then(() => void order.push(name), (error: unknown) => void order.push(`${name} ${(error as { code: string }).code}`))
  void wait('first')
  void wait('second')
  await turn()
  clock.advance(500)
  await turn()
  t.same(order, [])
  slots.now = 1
  clock.advance(200)
  await turn()
  t.same(order, ['first'])
  clock.advance(ADMISSION_WAIT_MS)
  await turn()
  t.same(order, ['first', 'second ERR_ACCOUNT_LIMIT'])
  admission.close()
})

t.test('who gives up waits no longer, and who is closed out is told so', async (t) => {
  const { admission } = make(0, 1)
  const [gone, closed] = [admission.wait(A, 'f'), admission.wait(A, 'f')]
  gone.cancel()
  gone.cancel()
  await t.rejects(gone.admitted, { code: 'ERR_CANCELED' })
  t.equal(admission.waiting, 1)
  admission.close()
  await t.rejects(closed.admitted, { code: 'ERR_DRAINING' })
})
