/** Strings on their way out of a machine: always UTF-8, with U+FFFD for what is no text. */
import t from 'tap'
import { bundlePrelude } from '../../../shared/guest/bundle.ts'
import { testEngine, testExecutor } from '../../support/engine.ts'

const engine = testEngine({ prelude: await bundlePrelude() })
/** The body of a handler's response, which is the last expression. Lone surrogates come out as one U+FFFD; anything else invalid as several. */
function answer(expression: string): { readonly body: string; readonly logs: readonly string[] } {
  const { run, ended, logs } = testExecutor(engine)
  const image = engine.image(`export default { async fetch() { return new Response(${expression}) } }`)
  const id = run(image, 'id\n127.0.0.1\nGET\nhttp://localhost/', { limits: { memoryMib: 128, cpuMs: 5_000 } })
  return { body: ended.get(id)?.body ?? 'no answer', logs }
}

const TEXTS = [
  ['a high surrogate', "'a\\ud83d!'", 'a\ufffd!'],
  ['a low surrogate at the end', "'a\\ude00'", 'a\ufffd'],
  ['surrogates in the wrong order', "'\\ude00\\ud83d'", '\ufffd\ufffd'],
  ['a high surrogate before a pair', "'\\ud83d\\ud83d\\ude00'", '\ufffd😀'],
  ['pairs', "'😀\\ud83d\\ude00'", '😀😀'],
  ['letters whose UTF-8 begins like that of surrogates', "'\\ud000\\ud7ff\\ue000'", '\ud000\ud7ff\ue000'],
  ['one behind much plain text', "'x'.repeat(5000) + '\\udfff'", `${'x'.repeat(5000)}\ufffd`],
  ['a string that is put together late', "'x'.repeat(20000) + '\\udbff' + 'y'.repeat(20000)", `${'x'.repeat(20_000)}\ufffd${'y'.repeat(20_000)}`],
  ['plain text', "'plain'", 'plain'],
  ['Latin-1', "'\\xe9\\xed\\xa0\\x80'", '\u00e9\u00ed\u00a0\u0080'],
] as const

for (const [what, expression, expected] of TEXTS) {
  await t.test(`${what} in a body, in bytes and in a log line`, (t) => {
    t.equal(answer(expression).body, expected, 'body')
    t.equal(answer(`await new Blob([${expression}]).arrayBuffer()`).body, expected, 'bytes')
    t.equal(answer(`new TextEncoder().encode(${expression})`).body, expected, 'TextEncoder')
    if (expected.length < 10_000) t.same(answer(`(console.log(${expression}), '')`).logs, [expected], 'log line')
    t.end()
  })
}

await t.test('bytes of a string too long for the memory that there is yet', (t) => {
  t.equal(answer("String((await new Blob(['x'.repeat(20_000_000)]).arrayBuffer()).byteLength)").body, '20000000')
  t.end()
})
