/** Sessions at a POP whose function has lost its place, or is not known any more: what it needs is brought before the request runs. */
import t from 'tap'
import type { BuildSpec } from '../../shared/worker/types.ts'
import { OK, makeBuild, makeImage, makePop, settle, type FakeSink, type HostRun, type PopHarness, type PopHarnessOptions } from './harness.ts'

const MINUTE_MS = 60_000
const IMAGE = makeImage([1, 2])
const PLAIN = makeBuild('hello', IMAGE, '4')
const BUILD: BuildSpec = { ...PLAIN, traits: { ...PLAIN.traits, sessions: { header: 'x-session', cookie: null, idleMs: 600 * MINUTE_MS, maxAgeMs: 600 * MINUTE_MS } } }
const WAIT_MS = 10_000

/** Counts, and keeps that as its machine. */
function count(run: HostRun): void {
  const state = run.input.session?.state ?? null
  const n = state === null ? 1 : (state[0] ?? 0) + 1
  run.reply(String(n), { ...OK, machine: { kind: 'kept', state: Uint8Array.of(n) } })
}

async function withSession(options: PopHarnessOptions = {}): Promise<{ readonly pop: PopHarness; readonly id: string }> {
  const pop = makePop({ admitCount: 3, ...options })
  pop.host.onInvoke = count
  pop.link.deploy(BUILD, [IMAGE])
  pop.link.connect()
  for (let times = 0; times < 3; times++) await pop.call('hello')
  const begun = await pop.call('hello', { headers: 'x-session\nnew' })
  t.equal(begun.place, 'local')
  return { pop, id: begun.heads[0]?.placement.session?.id ?? '' }
}

/** Lets time pass until it is answered. Returns how long that took, ms. */
async function untilAnswered({ clock }: PopHarness, sink: FakeSink): Promise<number> {
  for (let waitedMs = 0; waitedMs <= WAIT_MS; waitedMs += 10) {
    await settle()
    if (sink.ends.length + sink.failures.length > 0) return waitedMs
    clock.advance(10)
  }
  throw new Error('not answered')
}

t.test('its function is gone after an idle hour: the image comes back for the session, and the request waits for it', async (t) => {
  const { pop, id } = await withSession()
  pop.clock.advance(60 * MINUTE_MS)
  await pop.residency.sweep()
  t.notOk(pop.host.hasImage(IMAGE.imageId))
  pop.host.onInvoke = (run) => queueMicrotask(() => count(run))
  const { sink, answer } = pop.begin('hello', { headers: `x-session\n${id}`, method: 'POST', bodyMore: true })
  answer.write(Buffer.from('of the body'))
  answer.writeEnd()
  t.ok((await untilAnswered(pop, sink)) < 1_000)
  pop.host.onInvoke = count
  t.match([sink.place, sink.body, sink.heads[0]?.placement.session], ['local', '2', { id, state: 'resumed' }])
  t.same([pop.host.runs.at(-1)?.written, pop.host.runs.at(-1)?.writeEnds], [['of the body'], 1])
  t.equal(pop.dispatcher.inFlight, 0)
  t.equal((await pop.call('hello', { headers: 'x-session\npelsewhere.AAAAAAAAAAAAAAAAAAAAAA' })).place, 'local', 'it has a place again')
})

t.test('no room for it, or no image: the session begins anew in the region at once, and nothing waits in vain', async (t) => {
  const { pop, id } = await withSession()
  pop.clock.advance(60 * MINUTE_MS)
  await pop.residency.sweep()
  pop.host.imagesMax = 0
  const { sink } = pop.begin('hello', { headers: `x-session\n${id}` })
  t.ok((await untilAnswered(pop, sink)) < 1_000)
  t.match(sink.place, /^region; /)
  t.equal(pop.dispatcher.inFlight, 0)
})

t.test('a client that leaves while its function is brought: nothing runs', async (t) => {
  const { pop, id } = await withSession()
  pop.clock.advance(60 * MINUTE_MS)
  await pop.residency.sweep()
  const runs = pop.host.runs.length
  const { sink, answer } = pop.begin('hello', { headers: `x-session\n${id}` })
  answer.cancel()
  t.equal(sink.place, 'ERR_CANCELED')
  for (let times = 0; times < 20; times++) {
    await settle()
    pop.clock.advance(10)
  }
  t.equal(pop.host.runs.length, runs)
  t.equal(pop.dispatcher.inFlight, 0)
})
