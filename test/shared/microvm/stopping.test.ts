/** A run that is stopped at a limit says where it was, whatever it does to keep that from being found out; its slot is clean afterwards. */
import t from 'tap'
import { bundlePrelude } from '../../../shared/guest/bundle.ts'
import type { FunctionLimits } from '../../../shared/limits.ts'
import type { InvocationResult } from '../../../shared/worker/types.ts'
import { testEngine, testExecutor } from '../../support/engine.ts'

const engine = testEngine({ prelude: await bundlePrelude() })
const { run, ended, executor } = testExecutor(engine)

/** `body` runs in a function named `busy` and stands on line 2 and following. */
function stop(body: string, limits: Partial<FunctionLimits> = {}): NonNullable<InvocationResult['exception']> {
  const source = `async function busy() {\n${body}\n}\nconst tick = async () => { await null }\nexport default { async fetch() { await busy(); return new Response('done') } }\n`
  const id = run(engine.image(source), 'id\n127.0.0.1\nGET\nhttp://localhost/', { limits: { cpuMs: 20, ...limits } })
  const exception = ended.get(id)?.run.result(0).exception
  if (exception === null || exception === undefined) throw new Error(`${body} was not stopped`)
  for (const slot of executor.idleSlots) t.equal(slot.verify(), null, 'the slot equals its image')
  return exception
}

for (const [what, body, expected] of [
  ['a loop', 'let i = 0\nfor (;;) {\n  i++\n}', /^ERR_LIMIT_CPU: [^\n]*\n {4}at busy \(index\.mjs:4:/],
  ['a loop after an await', 'await tick()\nlet i = 0\nwhile (true) i += 2', /\n {4}at busy \(index\.mjs:4:\d+\)$/],
  ['a loop in a generator', 'function* g() {\n  let i = 0\n  for (;;)\n    i++\n}\nfor (const x of g());', /\n {4}at g \(index\.mjs:5:\d+\)\n {4}at busy \(index\.mjs:7:/],
  ['a loop in an async generator', 'async function* g() {\n  let i = 0\n  for (;;)\n    i++\n}\nfor await (const x of g());', /\n {4}at g \(index\.mjs:5:/],
  ['a loop in a callback', '[1].map(function each() {\n  let i = 0\n  for (;;) i++ })', /\n {4}at each \(index\.mjs:4:\d+\)\n {4}at map \(<anonymous>\)\n {4}at busy \(index\.mjs:2:/],
  ['recursion', 'const f = (n) => n < 2 ? 1 :\n  f(n - 1) + f(n - 2)\nf(60)', /\n {4}at f \(index\.mjs:3:\d+\)\n {4}at f \(index\.mjs:3:/],
  ['a native loop', 'const list = new Array(100_000).fill({ a: 1 })\nfor (;;)\n  JSON.stringify(list)', /\n {4}at stringify \(<anonymous>\)\n {4}at busy \(index\.mjs:4:/],
  ['a regular expression', 'const text = "a".repeat(40)\n;/(a+)+b/.test(text)', /\n {4}at test \(<anonymous>\)\n {4}at busy \(index\.mjs:3:/],
  ['one that catches everything', 'let i = 0\ntry {\n  for (;;) i++\n} catch { for (;;); } finally { for (;;); }', /\n {4}at busy \(index\.mjs:4:/],
  ['one that wants no stacks', 'Error.stackTraceLimit = 0\nlet i = 0\nfor (;;) i++', /\n {4}at busy \(index\.mjs:4:/],
  ['one that makes its own stacks', 'Error.prepareStackTrace = () => { for (;;); }\nlet i = 0\nfor (;;) i++', /\n {4}at busy \(index\.mjs:4:/],
  ['one with names that could be frames', 'let i = 0\nconst o = { ["x)\\n    at evil (y"]() {\n  for (;;) i++ } }\nObject.values(o)[0]()', /\n {4}at x__ {4}at evil _y \(index\.mjs:4:\d+\)\n {4}at busy/],
] as const) {
  await t.test(`at the CPU limit: ${what}`, (t) => {
    t.match(stop(body).stack, expected)
    t.notMatch(stop(body).stack, /outpost:/)
    t.end()
  })
}

await t.test('at the memory limit: the line that asked for more, what was allowed and what was used', (t) => {
  for (const [body, line] of [['const kept = []\nfor (;;)\n  kept.push(new Uint8Array(1 << 20))', 4], ['let text = "x"\nfor (;;)\n  text += text.slice(1) + "y"', 4]] as const) {
    t.match(stop(body, { memoryMib: 16, cpuMs: 5_000 }).stack, new RegExp(`^ERR_LIMIT_MEMORY: Exceeded the memory limit of 16 MiB \\(used \\d+ MiB\\)[^\\n]*\\n {4}at busy \\(index\\.mjs:${line}:`))
  }
  t.end()
})

await t.test('what a guest does in its last slice reaches nobody', (t) => {
  const source = 'export default { fetch(request, env, ctx) { Error.prepareStackTrace = () => { console.log("late"); fetch("http://a/") }\nfor (;;) { try { for (;;); } finally { console.log("finally") } } } }'
  const { run, ended, fetches, logs } = testExecutor(engine)
  const id = run(engine.image(source), 'id\n127.0.0.1\nGET\nhttp://localhost/', { limits: { cpuMs: 20 } })
  t.equal(ended.get(id)?.run.kill?.outcome, 'exceededCpu')
  t.same([fetches.length, logs], [0, []])
  t.end()
})

await t.test('at the wall limit, waiting: what for', (t) => {
  const { executor, run, ended } = testExecutor(engine)
  const source = 'export default { async fetch() { await Promise.all([new Promise((r) => setTimeout(r, 9e5)), fetch("http://a/"), fetch("http://b/")]) } }'
  const id = run(engine.image(source), 'id\n127.0.0.1\nGET\nhttp://localhost/', { deadlineAtMs: performance.now() - 1 })
  executor.runTimers()
  t.match(ended.get(id)?.run.result(0).exception?.stack, /^ERR_LIMIT_WALL: [^\n]*\n {4}while waiting for a timer, fetch \(2\)$/)
  t.end()
})
