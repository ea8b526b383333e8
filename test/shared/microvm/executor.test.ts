import t from 'tap'
import { OPERATIONS } from '../../../shared/guest/abi.ts'
import { MIB } from '../../../shared/limits.ts'
import { testEngine, testExecutor } from '../../support/engine.ts'
import { difference } from '../../support/oracle.ts'

const engine = testEngine()

/** Handlers by what they do; `host` is the raw host object, which only the mini prelude hands out. */
const image = engine.image(`
let count = 0
const acts = {
  count: () => ++count,
  spin: () => { for (;;); },
  memory: () => { const kept = []; for (;;) kept.push(new Uint8Array(1 << 20).fill(1)) },
  respond: (host, bytes) => 'x'.repeat(bytes),
  log: (host, lines) => { for (let i = 0; i < lines; i++) host.log(1, 'line ' + i); return 'logged' },
  subrequests: async (host, times) => { for (let i = 0; i < times; i++) host.start(2, 'GET\\nhttp://h/\\nfollow', null); return 'all started' },
  sleep: async (host, ms) => { await sleep(ms); return 'slept ' + ++count },
  operation: (host, op) => { host.start(op, op === 2 ? 'GET\\nhttp://h/\\nfollow' : 1, null); return new Promise(() => {}) },
  fetch: () => fetchText('http://h/'),
  random: () => [Math.random(), [...new Uint8Array(hostRandom(8))].join()],
  hangs: () => new Promise(() => {}),
  recursion: () => { const dive = (n) => dive(n + 1) + 1; try { dive(0) } catch (error) { return error.name } },
  clock: () => { const before = Date.now(); let turns = 0; while (turns < 1e5) turns++; return [before, Date.now()] },
}
export default (head, host) => {
  const [act, argument] = JSON.parse(head)
  return acts[act](host, argument)
}`)
const other = engine.image('export default () => "other account"')
const ask = (act: string, argument: unknown = null): string => JSON.stringify([act, argument])

await t.test('a run that exceeds its CPU limit ends with the limit and what was used, and the next is unaffected', (t) => {
  const { run, ended } = testExecutor(engine)
  const spun = ended.get(run(image, ask('spin'), { limits: { cpuMs: 15 } }))
  t.equal(spun?.run.kill?.outcome, 'exceededCpu')
  t.equal(spun?.run.kill?.error.code, 'ERR_LIMIT_CPU')
  const [limit, used] = spun?.run.kill?.error.params ?? []
  t.equal(limit, 15)
  t.ok(Number(used) >= 15)
  t.equal(ended.get(run(image, ask('count')))?.body, '1')
  t.end()
})

await t.test('a run that exceeds its wall time ends, while it spins and while it waits', (t) => {
  let nowMs = 0
  const { executor, run, ended } = testExecutor(engine, { nowMs: () => (nowMs += 1), threadCpuMs: () => 0 })
  const spun = ended.get(run(image, ask('spin'), { deadlineAtMs: 50 }))
  t.equal(spun?.run.kill?.error.code, 'ERR_LIMIT_WALL')
  const waiting = run(image, ask('sleep', 1e9), { deadlineAtMs: nowMs + 1_000 })
  t.notOk(ended.has(waiting))
  nowMs += 2_000
  executor.runTimers()
  t.equal(ended.get(waiting)?.run.kill?.outcome, 'exceededWall')
  t.end()
})

await t.test('memory beyond the limit is an error with the limit; the slot shrinks back to its image', (t) => {
  const { executor, run, ended } = testExecutor(engine)
  const grown = ended.get(run(image, ask('memory'), { limits: { memoryMib: 16, cpuMs: 5_000 } }))
  t.equal(grown?.run.kill?.error.code, 'ERR_LIMIT_MEMORY')
  t.same(grown?.run.kill?.error.params[0], 16)
  t.ok((grown?.run.memoryBytes ?? 0) <= 16 * MIB)
  for (const slot of executor.idleSlots) t.equal(difference(engine.arena, slot), null)
  t.equal(ended.get(run(image, ask('count')))?.body, '1')
  t.end()
})

await t.test('a response beyond its limit is an error', (t) => {
  const { run, ended } = testExecutor(engine)
  const large = ended.get(run(image, ask('respond', 2_000), { limits: { responseMaxBytes: 1_000 } }))
  t.equal(large?.status, null)
  t.same(large?.run.kill?.error, { code: 'ERR_LIMIT_RESPONSE', params: [1_000, 2_000] })
  t.end()
})

await t.test('log lines beyond the limit are dropped and the log says so once', (t) => {
  const { run, ended, logs } = testExecutor(engine)
  const id = run(image, ask('log', 100), { limits: { logMaxBytes: 70 } })
  t.equal(ended.get(id)?.body, 'logged')
  t.equal(logs.filter((line) => line.startsWith('line ')).length, 11)
  t.equal(logs.filter((line) => line.includes('truncated at 70 bytes')).length, 1)
  t.end()
})

await t.test('a subrequest beyond the limit rejects in the guest', (t) => {
  const { run, ended } = testExecutor(engine)
  const id = run(image, ask('subrequests', 4), { limits: { subrequestMax: 3 } })
  t.match(ended.get(id)?.run.failure?.message, /limit of 3 subrequests/)
  t.end()
})

await t.test('cancel stops a guest that is busy', (t) => {
  let looks = 0
  const { run, ended } = testExecutor(engine, { isCanceled: () => ++looks > 3 })
  t.equal(ended.get(run(image, ask('spin'), { limits: { cpuMs: 10_000 } }))?.run.kill?.outcome, 'canceled')
  t.end()
})

await t.test('a handler that can never settle is told so at once', (t) => {
  const { run, ended } = testExecutor(engine)
  t.equal(ended.get(run(image, ask('hangs')))?.run.kill?.error.code, 'ERR_FUNCTION_HUNG')
  t.end()
})

await t.test('deep recursion is a RangeError that the guest can catch', (t) => {
  const { run, ended } = testExecutor(engine)
  t.equal(ended.get(run(image, ask('recursion'), { limits: { cpuMs: 1_000 } }))?.body, 'RangeError')
  t.end()
})

await t.test('every restore has randomness of its own', (t) => {
  const { run, ended } = testExecutor(engine)
  const seen = new Set(Array.from({ length: 50 }, () => ended.get(run(image, ask('random')))?.body))
  t.equal(seen.size, 50)
  t.end()
})

await t.test('the clock does not advance while a guest computes', (t) => {
  let epochMs = 1_750_000_000_000
  const { run, ended } = testExecutor(engine, { epochMs: () => epochMs++ })
  const [before, after] = JSON.parse(ended.get(run(image, ask('clock'), { limits: { cpuMs: 5_000 } }))?.body ?? '[]') as number[]
  t.equal(before, 1_750_000_000_000)
  t.equal(after, before)
  t.end()
})

for (const [name, operation] of Object.entries(OPERATIONS)) {
  await t.test(`a ${name} that settles after the reset is dropped and counted, also when the slot serves another account`, (t) => {
    const { executor, run, ended } = testExecutor(engine, { slotCount: 1 })
    const id = run(image, ask('operation', operation))
    executor.cancel(id)
    t.equal(ended.get(id)?.run.kill?.outcome, 'canceled')
    const late = (): void => {
      for (let operationId = 1; operationId < 20; operationId++) executor.settle(id, operationId, true, (binding) => binding.newString('late'))
      executor.settleRead(id, 1, Buffer.from('late'))
      executor.failFetch(id, 1, 'Error\nlate\n')
      executor.body(id, Buffer.from('late'))
      executor.acknowledge(id, 10, 100)
      executor.cancel(id)
    }
    late()
    for (const slot of executor.idleSlots) t.equal(difference(engine.arena, slot), null, 'after the reset')
    const next = run(other, '', { account: 'b' })
    late()
    t.equal(ended.get(next)?.body, 'other account')
    for (const slot of executor.idleSlots) t.equal(difference(engine.arena, slot), null, 'after the re-image')
    t.ok(executor.counts.lateSettles >= 40)
    t.end()
  })
}

await t.test('2,000 runs that wait need only two slots: they are parked and each goes on with its own state', (t) => {
  let nowMs = 0
  const { executor, run, ended } = testExecutor(engine, { slotCount: 2, residentMaxBytes: 2_048 * MIB, nowMs: () => nowMs })
  const ids = Array.from({ length: 2_000 }, () => run(image, ask('sleep', 1_000), { deadlineAtMs: 30_000 }))
  t.equal(executor.parkedCount, 1_998)
  nowMs = 1_001
  executor.runTimers()
  t.ok(ids.every((id) => ended.get(id)?.body === 'slept 1'))
  t.ok(executor.counts.resumed >= 1_998)
  t.equal(executor.parkedCount, 0)
  t.end()
})

await t.test('when parked machines would exceed the budget the new invocation is shed with a code', (t) => {
  const { executor, run, ended } = testExecutor(engine, { slotCount: 1, residentMaxBytes: 4 * MIB })
  const ids = Array.from({ length: 1_000 }, () => run(image, ask('sleep', 1_000)))
  const shed = ids.filter((id) => ended.get(id)?.run.kill?.error.code === 'ERR_NO_CAPACITY')
  t.ok(shed.length > 0 && shed.length < 1_000)
  t.ok(executor.residentBytes <= 4 * MIB)
  t.end()
})

await t.test('slots that once grew give way when the budget is short, so that large requests of many functions fit one after another', (t) => {
  const { executor, run, ended } = testExecutor(engine, { slotCount: 6, residentMaxBytes: 120 * MIB })
  const images = Array.from({ length: 6 }, (_, index) => engine.image(`export default () => { const kept = []; for (let i = 0; i < 60; i++) kept.push(new Uint8Array(1 << 20).fill(1)); return ${index} }`))
  images.forEach((each, index) => t.equal(ended.get(run(each, '', { limits: { cpuMs: 10_000, memoryMib: 80 } }))?.body, String(index)))
  t.ok(executor.residentBytes <= 120 * MIB)
  while (executor.idle(false));
  t.equal(executor.slotCount, 6)
  t.end()
})

await t.test('a reader that catches up before the guest waits for it does not leave the guest waiting', (t) => {
  let nowMs = 0
  const writer = engine.image('export default async (head, host) => { host.respond(200 + 0x400, null, ""); const more = host.write("x"); await sleep(5); await drained(); host.write(String(more)); host.end() }')
  const { executor, run, ended } = testExecutor(engine, { nowMs: () => nowMs, acceptsData: () => false })
  const id = run(writer, '', { deadlineAtMs: 1_000 })
  executor.acknowledge(id, 1, 100)
  for (let turn = 0; turn < 5; turn++) {
    nowMs += 10
    executor.runTimers()
  }
  t.equal(ended.get(id)?.body, 'xfalse')
  t.end()
})

await t.test('a slot that differs from its image is found by the scrubber, destroyed and replaced', (t) => {
  const { executor, run, ended, incidents } = testExecutor(engine, { slotCount: 2 })
  for (const slot of executor.idleSlots) slot.bytes[5_000_00] = 99
  for (let times = 0; times < 10; times++) executor.idle(true)
  t.equal(incidents.length, 2)
  while (executor.idle(false));
  t.equal(executor.idleSlots.length, 2)
  t.equal(ended.get(run(image, ask('count')))?.body, '1')
  t.end()
})

await t.test('what fails once the handler\'s promise has settled ends the run with that failure', (t) => {
  const image = engine.image('export default async () => { const circle = {}; circle.self = circle; return circle }')
  const { ended, run } = testExecutor(engine)
  const result = ended.get(run(image))?.run.result(0)
  t.match(result, { outcome: 'exception', exception: { name: 'TypeError', message: /circular/ } })
  t.end()
})
