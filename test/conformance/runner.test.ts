/** The conformance run itself, on tests of its own: it has to see what fails, what passes against expectation, what does not end and what breaks. */
import t, { type Test } from 'tap'
import { spawn } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url))
const HARNESS = fileURLToPath(new URL('../fixtures/conformance/testharness.js', import.meta.url))

/** A suite of these files, and what the command says of it. */
function suite(t: Test, files: Readonly<Record<string, string>>): { readonly run: (...rest: string[]) => Promise<{ code: number | null; out: string }>; readonly expected: string } {
  const root = t.testdir({ wpt: { resources: {} }, expected: {} })
  cpSync(HARNESS, join(root, 'wpt/resources/testharness.js'))
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, 'wpt', path)), { recursive: true })
    writeFileSync(join(root, 'wpt', path), text)
  }
  const expected = join(root, 'expected')
  return {
    expected,
    run: (...rest) => command('--wpt', join(root, 'wpt'), '--expected', expected, '--timeout', '3000', ...rest),
  }
}

function command(...rest: string[]): Promise<{ code: number | null; out: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN, ...rest])
    let out = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (out += chunk.toString()))
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, out }))
  })
}

t.test('without a suite it says how to get one, and that is a failure', async (t) => {
  const { code, out } = await command()
  t.equal(code, 2)
  t.match(out, /apt-get source --download-only nodejs/)
  t.equal((await command('--wpt', t.testdir({}))).code, 2)
})

t.test('each way of not passing is told: a failure, a timeout, a broken script, a killed guest, a file left out', async (t) => {
  const { run, expected } = suite(t, {
    'dir/good.any.js': '// META: script=helper.js\n\'use strict\'\ntest(() => assert_equals(helper(), 7), "adds")\nasync_test((t) => setTimeout(() => t.done(), 5), "waits")',
    'dir/helper.js': 'const seven = 7\nfunction helper() { return seven }',
    'dir/bad.any.js': 'test(() => assert_equals(1, 2), "one is two")\ntest(() => assert_equals(1, 1), "one is one")\npromise_test(() => Promise.reject(new Error("no")), "rejects")',
    'hard/slow.any.js': '// META: variant=?a\n// META: variant=?b\nif (location.search === "?b") async_test(() => undefined, "never ends")\nelse test(() => undefined, "only b waits")',
    'dir/broken.any.js': 'test(() => undefined, "before")\nnonsense(',
    'hard/hungry.any.js': 'test(() => { const list = []; for (;;) list.push(new Uint8Array(1e7).fill(1)) }, "eats everything")',
    'dir/remote.any.js': 'promise_test(() => fetch("resources/echo.py"), "echoes")',
    'dir/page.html': '<script src=/resources/testharness.js></script>',
  })
  const { code, out } = await run('dir', 'hard')
  t.equal(code, 1)
  t.match(out, /hard\/slow\.any\.js\?b: fails: never ends/)
  t.notMatch(out, /slow\.any\.js\?a/)
  t.match(out, /hard\/hungry\.any\.js: fails: /)
  t.match(out, /dir\/bad\.any\.js: fails: one is two/)
  t.match(out, /dir\/bad\.any\.js: fails: rejects: .*no/)
  t.notMatch(out, /fails: one is one/)
  t.notMatch(out, /dir\/good\.any\.js/)
  t.match(out, /dir\/broken\.any\.js: fails: \(harness\): SyntaxError/)
  t.match(out, /dir\/remote\.any\.js: is not run, needs the suite's server/)
  t.match(out, /dir\/page\.html: is not run, is a document/)

  await t.test('--update writes it all down, and then the run is as expected', async (t) => {
    t.equal((await run('dir', '--update')).code, 0)
    const again = await run('dir')
    t.match(again.out, /as expected/)
    t.equal(again.code, 0)
  })

  await t.test('what is expected to fail and passes, or is gone, is a difference as well', async (t) => {
    const file = join(expected, 'dir.json')
    const written = JSON.parse(readFileSync(file, 'utf8')) as { notRun: object; fails: object[] }
    written.fails.push({ file: 'dir/good.any.js', reason: 'a guess', subtests: ['adds'] }, { file: 'dir/gone.any.js', reason: 'a memory', subtests: ['was'] })
    writeFileSync(file, JSON.stringify({ ...written, notRun: { ...written.notRun, 'a memory': ['dir/good.any.js'] } }))
    const { code, out } = await run('dir')
    t.equal(code, 1)
    t.match(out, /dir\/good\.any\.js: does not fail as expected: adds/)
    t.match(out, /dir\/gone\.any\.js: is expected to fail and was not run/)
    t.match(out, /dir\/good\.any\.js: is written down as not run and is run or gone/)
  })
})

t.test('the same files run in Node, and a directory below it is told', async (t) => {
  const { run } = suite(t, {
    'fetch/api/headers/only-node.any.js': 'test(() => assert_equals(typeof process, "object"), "is Node")\ntest(() => undefined, "is anything")',
    'fetch/api/headers/resources/value.json': '{"value":42}',
    'fetch/api/headers/file.any.js': 'promise_test(async () => assert_equals((await (await fetch("resources/value.json")).json()).value, 42), "reads a file of the suite")',
  })
  const { code, out } = await run('fetch/api/headers', '--native')
  t.equal(code, 1)
  t.match(out, /^fetch\/api\/headers +2 of 3 +Node 3 of 3 +2 files run, 0 not run$/m)
  t.match(out, /bar fetch headers: 2 of 3 pass, in Node 3/)
})
