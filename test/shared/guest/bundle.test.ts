import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import { GUEST_ENTRIES, HOST_CALLS } from '../../../shared/guest/abi.ts'
import { bundlePrelude } from '../../../shared/guest/bundle.ts'
import { Machine } from './harness.ts'

void test('the bundle is the same each time: images are keyed by it', async (t) => {
  t.equal(await bundlePrelude(), await bundlePrelude())
})

void test('the bundle is one script without imports and within its size', async (t) => {
  const script = await bundlePrelude()
  // Streams and web APIs 158 kB, Intl 13, entry points, response streams and what handlers are told 11.
  t.ok(script.length < 190_000, `${script.length} bytes`)
  t.notMatch(script, /\bimport\s*[({*]|\brequire\(/)
  t.match(script, /web-streams-polyfill/, 'the licence of what is bundled is kept')
})

void test('every entry and call of the contract has one name and one letter', (t) => {
  t.equal(new Set(Object.values(HOST_CALLS)).size, Object.keys(HOST_CALLS).length)
  t.equal(new Set(GUEST_ENTRIES).size, GUEST_ENTRIES.length)
  t.end()
})

void test('installing leaves no trace of host or install', async (t) => {
  const machine = await Machine.create(`export default { fetch() {} }`)
  t.equal(machine.eval(`[typeof install, typeof host, typeof module, typeof exports].join()`), 'undefined,undefined,undefined,undefined')
})

void test('the benchmark runs and checks its answers', (t) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [fileURLToPath(new URL('../../../bench/guest-prelude.ts', import.meta.url)), '--count', '20'], { encoding: 'utf8' })
  t.equal(status, 0, stderr)
  for (const name of ['text', 'json-echo', 'event', 'http-event']) t.match(stdout, new RegExp(`^${name} .*reset p50`, 'm'))
  t.end()
})
