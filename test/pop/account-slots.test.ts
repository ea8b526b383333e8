import t from 'tap'
import { grantQuestionSchema, type GrantQuestion, type GrantResult } from '../../shared/concurrency/grant-protocol.ts'
import { LINK_SILENCE_MAX_MS } from '../../shared/limits.ts'
import { makeBuild, makeImage, makePop, settle, type PopHarness, type PopHarnessOptions } from './harness.ts'

const IMAGE = makeImage([1, 2])
const BUILD = makeBuild('hello', IMAGE, '4')
const STALE_MAX_MS = 20_000
/** Until a POP that was cut off without a word has noticed, and stays so for `staleMax`. */
const LEASE_MS = STALE_MAX_MS + LINK_SILENCE_MAX_MS + 2_000

interface Lender extends PopHarness {
  readonly questions: GrantQuestion[]
  /** Slots that the region has to give, and what it knows of reservations. */
  readonly region: { slots: number; reserved: readonly string[]; revision: number; answers: 'all' | 'nonsense' }
}

/** A POP at which `hello` is hot, before a region that lends slots. */
async function hot(slots: number, options: PopHarnessOptions = {}): Promise<Lender> {
  const pop = makePop({ admitCount: 1, slots: 'leased', staleMaxMs: STALE_MAX_MS, ...options })
  const questions: GrantQuestion[] = []
  const region: Lender['region'] = { slots, reserved: [], revision: 1, answers: 'all' }
  pop.link.onAsk = (_topic, payload) => {
    const question = grantQuestionSchema.parse(payload)
    questions.push(question)
    if (region.answers === 'nonsense') return { items: [{ slots: 1_000_000 }] }
    return {
      items: question.items.map(({ pool, revision, question: { number, parts, need, spare, leaseMs } }): GrantResult => {
        const held = parts[0]?.held ?? 0
        const given = pool === null ? Math.max(held, Math.min(region.slots, held + need + spare)) : held
        return {
          reservations: revision === region.revision ? null : { revision: region.revision, functions: region.reserved },
          answer: { number, parts: [{ share: 0, slots: given, validMs: leaseMs, give: 0, scarce: false, recallable: 0 }] }, missing: 0, recallable: 0, elsewhere: false,
        }
      }),
    }
  }
  pop.link.deploy(BUILD, [IMAGE])
  pop.link.connect()
  await pop.call('hello')
  await pop.call('hello')
  await settle()
  return { ...pop, questions, region }
}

t.test('a region that lends nothing, or nonsense: everything is forwarded, and nothing waits', async (t) => {
  const none = await hot(0)
  t.equal((await none.call('hello')).place, 'region; limit')
  const nonsense = await hot(5)
  nonsense.region.answers = 'nonsense'
  nonsense.host.onInvoke = () => {}
  const places = Array.from({ length: 8 }, () => nonsense.begin('hello').sink)
  await settle()
  t.ok(places.every(({ place }) => place === 'nothing' || place === 'region; limit'))
  t.ok(nonsense.host.runs.length <= 5)
})

t.test('as many run here as slots are held, the next ones in the region', async (t) => {
  const pop = await hot(2)
  pop.host.onInvoke = () => {}
  const before = pop.host.runs.length
  for (let call = 0; call < 3; call++) {
    pop.begin('hello')
    await settle()
  }
  const { sink } = pop.begin('hello')
  await settle()
  t.equal(pop.host.runs.length - before, 2)
  t.equal(sink.place, 'region; limit')
  pop.host.runs.at(-1)?.reply('x')
  pop.host.onInvoke = (run) => run.reply('local')
  t.equal((await pop.call('hello')).place, 'local', 'a slot that is free again is used again')
})

t.test('cut off: what is held goes on, more is refused with a code, and at the end of the lease what runs is stopped', async (t) => {
  const pop = await hot(1)
  pop.clock.advance(1_500)
  await settle()
  pop.link.disconnect()
  pop.host.onInvoke = () => {}
  const before = pop.host.runs.length
  pop.begin('hello')
  t.equal(pop.begin('hello').sink.place, 'ERR_ACCOUNT_LIMIT')
  t.equal(pop.host.runs.length - before, 1)
  pop.clock.advance(LEASE_MS - 2_000)
  t.equal(pop.host.runs.at(-1)?.cancels, 0)
  pop.clock.advance(2_500)
  t.equal(pop.host.runs.at(-1)?.cancels, 1)
})

t.test('a function that is reserved, or switched off, leaves the pool of the others as soon as the POP hears of it', async (t) => {
  const pop = await hot(4)
  t.equal((await pop.call('hello')).place, 'local')
  Object.assign(pop.region, { reserved: ['hello'], revision: 2 })
  pop.clock.advance(1_250)
  await settle()
  t.equal((await pop.call('hello')).place, 'region; limit')
})

t.test('each connect says which life of the POP this is, also with nothing to ask', async (t) => {
  const pop = await hot(1)
  const before = pop.questions.length
  pop.link.disconnect()
  pop.link.connect()
  await settle()
  t.ok(pop.questions.length > before)
  t.equal(new Set(pop.questions.map(({ life }) => life)).size, 1)
})
