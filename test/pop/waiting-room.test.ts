import t from 'tap'
import type { RequestId } from '../../shared/brand.ts'
import { ManualClock } from '../../shared/clock.ts'
import type { InvocationInput, InvocationSink } from '../../shared/worker/types.ts'
import { WaitingRoom } from '../../pop/waiting-room.ts'
import { FakeHost, makeBuild, makeImage, makePop, settle, type HostRun, type PopHarness, type PopHarnessOptions } from './harness.ts'

const INPUT: InvocationInput = { requestId: 'r' as RequestId, kind: 'http', method: 'GET', url: 'http://x/', headers: '', body: null, bodyMore: false, clientIp: '', deadlineAtMs: Infinity, wantLogs: false, build: makeBuild('hello', makeImage([1]), '4') }
const IMAGE = makeImage([1, 2])
const BUILD = makeBuild('hello', IMAGE, '4')

/** A POP at which `hello` is hot, and whose host has others waiting: what it is given stays in its queue. */
async function busy(options: PopHarnessOptions = {}): Promise<PopHarness> {
  const pop = makePop({ admitCount: 1, ...options })
  pop.link.deploy(BUILD, [IMAGE])
  pop.link.connect()
  pop.link.onRtt(50)
  await pop.call('hello')
  pop.host.queued = 1
  pop.host.onInvoke = (run) => void (run.unstarted = true)
  return pop
}

const last = (pop: PopHarness): HostRun | undefined => pop.host.runs.at(-1)

t.test('with no region in reach one waits longer, and is then told to come back', async (t) => {
  const pop = await busy()
  pop.link.disconnect()
  const { sink } = pop.begin('hello')
  pop.clock.advance(4_999)
  t.equal(sink.place, 'nothing')
  pop.clock.advance(25)
  t.equal(sink.ends[0]?.result.error?.code, 'ERR_QUEUE_FULL')
  t.equal(pop.dispatcher.counts.shed, 1)
  t.same([pop.dispatcher.inFlight, pop.dispatcher.localInFlight], [0, 0])
})

t.test('when the region that is asked then has gone, or has no room either, the client is told that there is none', async (t) => {
  for (const [code, told] of [['ERR_REGION_UNREACHABLE', 'ERR_QUEUE_FULL'], ['ERR_NO_CAPACITY', 'ERR_NO_CAPACITY'], ['ERR_QUEUE_FULL', 'ERR_QUEUE_FULL']] as const) {
    const pop = await busy()
    pop.link.onOpen = (stream) => queueMicrotask(() => stream.sink.error({ code, params: [1] }))
    const { sink } = pop.begin('hello')
    pop.clock.advance(20)
    await settle()
    t.equal(sink.place, told)
    t.equal(sink.failures[0]?.error.status, 503)
  }
})

t.test('who has waited as long as the trip takes goes to the region', async (t) => {
  const pop = await busy()
  const { sink } = pop.begin('hello', { body: Buffer.from('whole'), method: 'POST' })
  pop.clock.advance(19)
  t.equal(sink.place, 'nothing')
  pop.clock.advance(1)
  await settle()
  t.equal(sink.place, 'region; capacity')
  t.equal(Buffer.from(pop.link.streams.at(-1)?.frame.body ?? []).toString(), 'whole')
  t.same(pop.dispatcher.waits, { watched: 1, withdrawn: 1 })
  t.same([pop.dispatcher.inFlight, pop.dispatcher.localInFlight], [0, 0])
  const near = await busy()
  for (let sample = 0; sample < 100; sample++) near.link.onRtt(1)
  const early = near.begin('hello').sink
  near.clock.advance(5)
  await settle()
  t.equal(early.place, 'region; capacity')
})

t.test('what has begun stays, and so does what has sent a part of its body', async (t) => {
  const pop = await busy()
  const begun = pop.begin('hello')
  const run = last(pop)
  if (run !== undefined) run.unstarted = false
  const streamed = pop.begin('hello', { bodyMore: true, method: 'POST' })
  pop.clock.advance(1_000)
  t.same([begun.sink.place, streamed.sink.place], ['nothing', 'nothing'])
  run?.reply('here')
  last(pop)?.reply('here too')
  t.same([begun.sink.place, streamed.sink.place], ['local', 'local'])
  t.equal(pop.dispatcher.waits.withdrawn, 0)
})

t.test('no more wait than may, and those that do not mind the trip go before', async (t) => {
  const pop = await busy({ waitingMax: 10 })
  pop.host.queued = 10
  t.equal((await pop.call('hello')).place, 'region; capacity')
  pop.host.queued = 0
  pop.host.onInvoke = (run) => run.reply('here')
  t.equal((await pop.call('hello')).place, 'local')
  t.equal(pop.dispatcher.waits.watched, 0)
})

t.test('a region that does not answer its pings is none to send anybody to', async (t) => {
  const pop = await busy()
  pop.link.unansweredMs = 2_000
  const { sink } = pop.begin('hello')
  pop.clock.advance(1_000)
  t.equal(sink.place, 'nothing')
  pop.link.unansweredMs = 0
  pop.clock.advance(100)
  await settle()
  t.equal(sink.place, 'region; capacity')
})

t.test('a region that comes back is asked by those that wait', async (t) => {
  const pop = await busy()
  pop.link.disconnect()
  const { sink } = pop.begin('hello')
  pop.clock.advance(1_000)
  pop.link.connect([{ account: '000000000000', functionName: 'hello', seq: 0, builds: [BUILD.key] }])
  pop.clock.advance(100)
  await settle()
  t.equal(sink.place, 'region; capacity')
})

t.test('many at once: each is looked at in its turn, oldest first, and who stays is not looked at without end', async (t) => {
  const clock = new ManualClock()
  const host = new FakeHost()
  host.clock = clock
  host.onInvoke = (run) => void (run.unstarted = true)
  let asked = 0
  const stays = new Set<InvocationSink>()
  const withdraw = (sink: InvocationSink): boolean => {
    asked++
    return !stays.has(sink) && host.runs.find((run) => run.sink === sink)?.withdraw() === true
  }
  const room = new WaitingRoom({ clock, host, withdraw, waitMs: () => 20, regionInReach: () => true })
  const ended: number[] = []
  const sinkOf = (index: number): InvocationSink => ({ head() {}, data: () => true, bodyEnd() {}, end: () => void ended.push(index) })
  for (let index = 0; index < 1_000; index++) {
    host.invoke(INPUT, sinkOf(index))
    room.watch()
    if (index % 10 === 0) clock.advance(1)
  }
  clock.advance(100)
  t.same(ended, Array.from({ length: 1_000 }, (_, index) => index))
  t.same(room.counts, { watched: 1_000, withdrawn: 1_000 })
  const stayer = sinkOf(1_000)
  stays.add(stayer)
  host.invoke(INPUT, stayer)
  room.watch()
  asked = 0
  clock.advance(1_000)
  t.ok(asked > 0 && asked <= 50, `${asked} looks in a second`)
  host.invoke(INPUT, sinkOf(1_001))
  clock.advance(40)
  t.equal(ended.at(-1), 1_001, 'behind one that stays too')
  room.close()
  host.invoke(INPUT, sinkOf(1_002))
  clock.advance(1_000)
  t.equal(ended.at(-1), 1_001)
})
