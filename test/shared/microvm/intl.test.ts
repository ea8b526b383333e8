/** `Intl` in machines of the real engine: in images and sessions, within limits, and without a trace in the slot. */
import t from 'tap'
import { callNumber } from '../../../shared/guest/abi.ts'
import { bundlePrelude } from '../../../shared/guest/bundle.ts'
import { FormatterCache } from '../../../shared/intl/formatter-cache.ts'
import { INTL_CACHE_ACCOUNT_MAX_BYTES, INTL_CACHE_MAX_BYTES, MIB } from '../../../shared/limits.ts'
import { testEngine, testExecutor } from '../../support/engine.ts'
import { difference } from '../../support/oracle.ts'

const engine = testEngine({ prelude: await bundlePrelude() })
/** CPU of a request, and what a machine five times slower may take beyond its limit. */
const CPU_MS = 50
const CPU_SLACK_MS = 500

function answer(made: ReturnType<typeof testExecutor>, source: string, spec: Parameters<typeof made.run>[2] = {}): { readonly body: string; readonly code: string | null; readonly cpuMs: number; readonly failure: string | null } {
  const id = made.run(engine.image(source), 'request\n127.0.0.1\nGET\nhttp://h/', { call: callNumber(0, 'GET', 0), ...spec })
  const ended = made.ended.get(id)
  if (ended === undefined) throw new Error('it does not end')
  for (const slot of made.executor.idleSlots) t.equal(difference(engine.arena, slot), null, 'the slot equals its image')
  return { body: ended.body, code: ended.run.kill?.error.code ?? null, cpuMs: ended.run.cpuUs / 1000, failure: ended.run.failure?.message ?? null }
}

const HOSTILE: Readonly<Record<string, string>> = {
  'formatters without end': `for (let i = 0; ; i++) new Intl.DateTimeFormat('zh', { dateStyle: 'full', timeZone: 'Etc/GMT+' + (i % 12), calendar: ['hebrew', 'chinese', 'islamic'][i % 3], minute: undefined }).format(-8.64e15 + i)`,
  'comparisons of short runs of marks': `const c = new Intl.Collator('vi').compare, a = ('a' + '\\u0301\\u0323\\u0300').repeat(3000), b = a + 'x'; for (;;) c(a, b)`,
  'comparisons of long runs of marks': `const a = '\\u0301\\u0323'.repeat(8000); const c = new Intl.Collator('vi', { sensitivity: 'base' }); for (let i = 0; ; i++) c.compare(a + i, '\\u0323' + a)`,
  'segments of megabytes': `const s = new Intl.Segmenter('th', { granularity: 'word' }), text = 'ก'.repeat(1e6); for (;;) for (const each of s.segment(text)) each`,
  'one segment of megabytes': `const s = new Intl.Segmenter('en', { granularity: 'sentence' }), text = 'a '.repeat(1e6); for (;;) for (const each of s.segment(text)) each`,
  'segments around every place': `const s = new Intl.Segmenter('th', { granularity: 'word' }).segment('ก'.repeat(1e5)); for (let i = 0; ; i++) s.containing(i % 1e5)`,
  'long lists': `const f = new Intl.ListFormat('de'), list = Array.from({ length: 4000 }, (_, i) => 'x' + i); for (;;) f.format(list)`,
  'large numbers': `const f = new Intl.NumberFormat('en'), text = '1'.repeat(100000); for (;;) f.formatToParts(text)`,
  'every time zone': `for (;;) Intl.supportedValuesOf('timeZone')`,
  'the case of long texts': `const text = 'iı'.repeat(1e6); for (;;) text.toLocaleUpperCase('tr')`,
  'many locales': `const list = Array.from({ length: 1000 }, (_, i) => 'en-x-a' + i); for (;;) try { new Intl.NumberFormat(list) } catch {}`,
}
for (const [what, code] of Object.entries(HOSTILE)) {
  await t.test(`a guest that does nothing but ${what} meets its CPU limit`, (t) => {
    const { code: killed, cpuMs } = answer(testExecutor(engine, { slotCount: 1 }), `export default { fetch() { ${code} } }`, { limits: { cpuMs: CPU_MS } })
    t.equal(killed, 'ERR_LIMIT_CPU')
    t.ok(cpuMs < CPU_MS + CPU_SLACK_MS, `${cpuMs} ms`)
    t.end()
  })
}

await t.test('what has no bound of its own is refused by its size', (t) => {
  const made = testExecutor(engine, { slotCount: 1 })
  const name = (code: string): string => answer(made, `export default { fetch() { try { ${code}; return new Response('done') } catch (error) { return new Response(error.name + (error instanceof RangeError)) } } }`, { limits: { cpuMs: 5_000 } }).body
  t.equal(name(`new Intl.ListFormat('en').format(['x'.repeat(200000)])`), 'RangeErrortrue')
  t.equal(name(`new Intl.NumberFormat('en').format('1'.repeat(200000))`), 'RangeErrortrue')
  t.equal(name(`new Intl.NumberFormat('en-' + 'x-abc'.repeat(10000))`), 'RangeErrortrue')
  t.equal(name(`new Intl.NumberFormat(Array(1100).fill('de'))`), 'RangeErrortrue')
  t.equal(name(`new Intl.Collator('en').compare('x'.repeat(100000), 'x'.repeat(100000) + 'y')`), 'done')
  t.equal(name(`new Intl.DisplayNames('en', { type: 'language' }).of('en-' + 'x-abc'.repeat(50000))`), 'RangeErrortrue')
  t.end()
})

await t.test('a call leaves nothing in the memory of the guest', (t) => {
  const made = testExecutor(engine, { slotCount: 1 })
  const { code } = answer(made, `export default { fetch() { const { compare } = new Intl.Collator('de'), a = 'ä'.repeat(2000), b = a + 'x'; for (let i = 0; i < 20000; i++) compare(a, b); return new Response('x') } }`, { limits: { cpuMs: 20_000, memoryMib: 16 } })
  t.equal(code, null)
  t.end()
})

const MADE_AT_TOP = `
  const money = new Intl.NumberFormat('de', { style: 'currency', currency: 'EUR' }), { format } = new Intl.DateTimeFormat('fr', { dateStyle: 'long', timeZone: 'Asia/Tokyo' })
  const sorted = ['ö', 'z', 'a'].sort(new Intl.Collator('sv').compare).join(''), words = new Intl.Segmenter('ja', { granularity: 'word' })
  let n = 0
  export default { fetch() { return Response.json([++n, money.format(n), format(86400000 * n), sorted, [...words.segment('吾輩は猫である')].length]) } }`
const atTop = (n: number): string => JSON.stringify([n, new Intl.NumberFormat('de', { style: 'currency', currency: 'EUR' }).format(n), new Intl.DateTimeFormat('fr', { dateStyle: 'long', timeZone: 'Asia/Tokyo' }).format(86_400_000 * n), 'azö', [...new Intl.Segmenter('ja', { granularity: 'word' }).segment('吾輩は猫である')].length])

await t.test('what was made while the image was built works in each request', (t) => {
  const made = testExecutor(engine, { slotCount: 2 })
  for (let request = 0; request < 3; request++) t.equal(answer(made, MADE_AT_TOP).body, atTop(1))
  t.end()
})

await t.test('and goes on in a session, in another executor', (t) => {
  const image = engine.image(MADE_AT_TOP)
  let state: Uint8Array | null = null
  for (let n = 1; n <= 4; n++) {
    const { run, ended } = testExecutor(engine, { slotCount: 1 })
    const found = ended.get(run(image, 'request\n127.0.0.1\nGET\nhttp://h/', { call: callNumber(0, 'GET', 0), keepMaxBytes: 4 * MIB, state }))
    t.equal(found?.body, atTop(n))
    state = found?.run.kept.kind === 'kept' ? found.run.kept.state : null
  }
  t.end()
})

await t.test('formatters that were dropped are collected before they weigh much', (t) => {
  let collected = 0
  const cache = new FormatterCache(() => collected++)
  for (let index = 0; index < 500; index++) cache.add('a', `key ${index}`, { formatter: {}, resolved: null }, 'D')
  t.equal(collected, 0)
  for (let index = 500; index < 5_000; index++) cache.add('a', `key ${index}`, { formatter: {}, resolved: null }, 'D')
  t.ok(collected >= 5 && collected <= 10, `${collected} times`)
  const before = collected
  for (let index = 0; index < 1_000; index++) cache.add('a', `${'x'.repeat(5_000)}${index}`, { formatter: {}, resolved: null }, 'D')
  t.ok(collected > before, 'those that are never kept count too')
  t.end()
})

await t.test('an account that fills the cache empties its own part, and many accounts stay within the whole', (t) => {
  const cache = new FormatterCache(() => undefined)
  const add = (account: string, key: string): void => cache.add(account, key, { formatter: {}, resolved: null }, 'D')
  add('a', 'kept')
  for (let index = 0; index < 1_000; index++) add('b', `key ${index}`)
  t.ok(cache.get('a', 'kept'))
  t.equal(cache.get('b', 'key 0'), undefined)
  t.ok(cache.get('b', 'key 999'))
  t.equal(cache.get('a', 'key 999'), undefined, 'of another account')
  t.ok(cache.bytes <= 2 * INTL_CACHE_ACCOUNT_MAX_BYTES)
  for (let account = 0; account < 100; account++) for (let index = 0; index < 100; index++) add(`account ${account}`, `key ${index}`)
  t.ok(cache.bytes <= INTL_CACHE_MAX_BYTES)
  t.ok(cache.get('account 99', 'key 99'))
  t.equal(cache.get('a', 'kept'), undefined, 'served longest ago')
  cache.add('a', 'x'.repeat(10_000), { formatter: {}, resolved: null }, 'N')
  t.equal(cache.get('a', 'x'.repeat(10_000)), undefined, 'long keys are not kept')
  t.end()
})
