import t from 'tap'
import { CALL_EVENT } from '../../../shared/guest/abi.ts'
import { bundlePrelude } from '../../../shared/guest/bundle.ts'
import { WAIT_UNTIL_MAX_MS } from '../../../shared/limits.ts'
import { testEngine, testExecutor } from '../../support/engine.ts'

const engine = testEngine({ prelude: await bundlePrelude() })
const HEAD = 'r\n127.0.0.1\nGET\nhttp://localhost/'
const LATER = Number.MAX_SAFE_INTEGER

await t.test('work after the answer is stopped after its time, which is no failure and stands in the log', (t) => {
  let nowMs = 1_000
  const { executor, run, ended, logs } = testExecutor(engine, { nowMs: () => nowMs })
  const image = engine.image(`export default { async fetch(request, env, ctx) {
    await new Promise((done) => setTimeout(done, 5_000))
    ctx.waitUntil((async () => { for (;;) await new Promise((done) => setTimeout(done, 1_000)) })())
    return new Response('answered')
  } }`)
  const id = run(image, HEAD, { deadlineAtMs: LATER })
  const until = (targetMs: number): void => {
    for (; nowMs < targetMs; nowMs += 500) executor.runTimers()
  }
  until(6_500)
  t.notOk(ended.has(id))
  until(6_000 + WAIT_UNTIL_MAX_MS)
  t.notOk(ended.has(id), 'its time begins with the answer')
  until(7_500 + WAIT_UNTIL_MAX_MS)
  t.match(ended.get(id), { body: 'answered', run: { kill: null } })
  t.equal(ended.get(id)?.run.result(nowMs).outcome, 'ok')
  t.match(logs, [/^waitUntil\(\) work did not end within 30 s after the answer/])
  t.end()
})

await t.test('a rejection does not keep other work from its end, work may add work, and the wall time of the function counts first', (t) => {
  let nowMs = 1_000
  const { executor, run, ended, logs } = testExecutor(engine, { nowMs: () => nowMs })
  const image = engine.image(`export default { fetch(request, env, ctx) {
    const pause = (ms) => new Promise((done) => setTimeout(done, ms))
    ctx.waitUntil(Promise.reject(new Error('one')))
    ctx.waitUntil(pause(1_000).then(() => { console.log('first'); ctx.waitUntil(pause(1_000).then(() => console.log('second'))) }))
    return new Response('answered')
  } }`)
  const whole = run(image, HEAD, { deadlineAtMs: LATER })
  const cut = run(image, HEAD, { deadlineAtMs: 2_500 })
  for (; nowMs < 4_000; nowMs += 100) executor.runTimers()
  t.equal(ended.get(whole)?.run.result(nowMs).outcome, 'ok')
  t.equal(ended.get(cut)?.run.kill?.error.code, 'ERR_LIMIT_WALL')
  t.same(logs.map((line) => line.split('\n')[0]), ['Uncaught (in waitUntil) Error: one', 'Uncaught (in waitUntil) Error: one', 'first', 'first', 'second'])
  t.end()
})

await t.test('an event may go on for as long as its function may', (t) => {
  let nowMs = 1_000
  const { executor, run, ended } = testExecutor(engine, { nowMs: () => nowMs })
  const image = engine.image(`export const handler = (event, context, callback) => { setTimeout(() => console.log('late'), 60_000); callback(null, 1) }`)
  const id = run(image, 'r\n127.0.0.1\nPOST\narn', { call: CALL_EVENT, deadlineAtMs: LATER })
  for (; nowMs < 62_000; nowMs += 1_000) executor.runTimers()
  t.equal(ended.get(id)?.run.result(nowMs).outcome, 'ok')
  t.end()
})
