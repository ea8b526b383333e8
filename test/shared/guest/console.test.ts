import { test } from 'tap'
import { formatWithOptions, inspect } from 'node:util'
import { Machine, run } from './harness.ts'

const SOURCE = `const AsyncFunction = (async () => {}).constructor
export default { async fetch(request) { await new AsyncFunction(await request.text())(); return new Response('') } }`

/** The lines that code logs in the guest, with their levels. */
async function lines(code: string): Promise<readonly string[]> {
  return (await run(SOURCE, { method: 'POST', body: code })).logs
}

void test('values look as Node prints them', async (t) => {
  const machine = await Machine.create(SOURCE)
  const cases = [
    `'text'`, `12, 'a', true, null, undefined`, `-0, 1n, Symbol('x')`, `{}`, `[]`, `{ a: 1, b: 'x', 'c-d': [1, 2] }`, `[ 'it\\'s', "a\\"b", 'x\\ny' ]`,
    `{ a: { b: { c: { d: 1 } } } }`, `[[[[1]]]]`, `[1, , 3]`, `new Map([['a', { b: 1 }]])`, `new Set([1, 'a'])`, `[undefined, null]`, `() => 1`, `function f() {}`, `class A {}`, `class extends Array {}`,
    `new (class Foo { x = 1 })()`, `Object.create(null)`, `{ __proto__: null, a: 1 }`, `/a+/gi`, `new Date(0)`, `new Date(NaN)`, `{ get a() { return 1 }, set b(v) {}, get c() { return 1 }, set c(v) {} }`, `new Uint8Array([1, 2])`,
    `{ [Symbol('s')]: 1 }`, `async () => {}`, `function* g() {}`, `new Number(1)`, `new String('ab')`, `[ { a: 1 }, { b: 2 } ]`, `Object.assign(() => 1, { x: 1 })`,
    `{ aaaaaaaaaaaaaaaaaaaaaaaaa: 'aaaaaaaaaaaaaaaaaaaaaaaaa', bbbbbbbbbbbbbbbbbbbbbbb: 'bbbbbbbbbbbbbbbbbbbbbbb', c: { d: 1 } }`,
    `'%s is %d or %i and %f', 'x', 1.5, 1.5, '2.5', 'rest', { a: 1 }`, `'%j %% %s', { a: [1] }`, `'%o', [1]`, `'%O %c|', { a: { b: 1 } }, 'css'`, `'100%', 5`, `'%s %s', 'only'`, `'%d', '0x10'`, `'%s', null, undefined`, `'%s', { a: { b: 1 } }`, `'%x', 1`, `'%s %s', 1n, Symbol('a')`, `'a', 'b', ['c']`,
  ]
  const AsFunction = Function as unknown as new (code: string) => () => unknown[]
  for (const code of cases) {
    void t.test(code, (t) => {
      const expected = code.startsWith("'%o'") ? '[ 1 ]' : formatWithOptions({ colors: false }, ...new AsFunction(`return [${code}]`)())
      t.equal(machine.invoke({ method: 'POST', body: `console.log(${code})` }).logs[0], `1 ${expected}`)
      t.end()
    })
  }
})

void test('a cycle is marked', async (t) => {
  t.match((await lines(`const a = { x: 1 }; a.a = a; console.log(a)`))[0], /a: \[Circular \*1\]/)
})

void test('a proxy that throws is survived', async (t) => {
  t.match((await lines(`console.log(new Proxy({}, { getOwnPropertyDescriptor() { throw new Error('x') }, ownKeys() { throw new Error('x') }, get() { throw new Error('x') } }))`))[0], /^1 \[uninspectable: x\]$/)
})

void test('getters are not called', async (t) => {
  t.same(await lines(`console.log({ get a() { console.log('called') } })`), ['1 { a: [Getter] }'])
})

void test('an endless structure is bounded', async (t) => {
  const [line = ''] = await lines(`const wide = Array.from({ length: 1e4 }, (_, i) => ({ i, text: 'x'.repeat(100), more: [1, 2, 3, [4, [5]]] })); console.log(wide)`)
  t.ok(line.length < 20_000)
  t.match(line, /more items/)
})

void test('a long string is cut', async (t) => {
  const [line = ''] = await lines(`console.log('x'.repeat(1e6))`)
  t.ok(line.length < 17_000)
  t.match(line, /truncated/)
})

void test('errors show name, message, frames and cause', async (t) => {
  const [line = ''] = await lines(`const e = new RangeError('outer', { cause: new Error('inner') }); console.error(e)`)
  t.match(line, /^3 RangeError: outer\n {4}at .*\[cause\]: Error: inner/s)
})

void test('each method has its level', async (t) => {
  t.same(await lines(`console.debug('a'); console.log('b'); console.info('c'); console.warn('d'); console.error('e')`), ['0 a', '1 b', '1 c', '2 d', '3 e'])
})

void test('assert speaks only when false', async (t) => {
  t.same(await lines(`console.assert(1, 'no'); console.assert(0); console.assert(0, 'x %d', 1); console.assert(false, { a: 1 })`), ['3 Assertion failed', '3 Assertion failed: x 1', '3 Assertion failed: { a: 1 }'])
})

void test('count counts by label', async (t) => {
  t.same(await lines(`console.count(); console.count('x'); console.count(); console.countReset(); console.count()`), ['1 default: 1', '1 x: 1', '1 default: 2', '1 default: 1'])
})

void test('time tells milliseconds once', async (t) => {
  const out = await lines(`console.time('x'); console.timeLog('x', 'y'); console.timeEnd('x'); console.timeEnd('x')`)
  t.equal(out.length, 2)
  t.match(out[0], /^1 x: [\d.]+ms y$/)
  t.match(out[1], /^1 x: [\d.]+ms$/)
})

void test('group indents', async (t) => {
  t.same(await lines(`console.group('a'); console.log('b\\nc'); console.groupEnd(); console.log('d')`), ['1 a', '1   b\n  c', '1 d'])
})

void test('trace shows where', async (t) => {
  t.match((await lines(`console.trace('here')`))[0], /^3 Trace: here\n {4}at /)
})

void test('table draws rows', async (t) => {
  t.same((await lines(`console.table([{ a: 1, b: 'x' }, { a: 2 }])`))[0]?.split('\n'), ['1 ┌─────────┬───┬─────┐', '│ (index) │ a │ b   │', '├─────────┼───┼─────┤', "│ 0       │ 1 │ 'x' │", '│ 1       │ 2 │     │', '└─────────┴───┴─────┘'])
})

void test('methods work without console', async (t) => {
  t.same(await lines(`const { log } = console; [1].forEach((x) => log(x))`), ['1 1'])
})

void test('web objects show what they are', async (t) => {
  const [a = '', b = '', c = ''] = await lines(`console.log(new Response('x', { status: 201 })); console.log(new Headers({ a: 'b' })); console.log(new URL('http://a/b'))`)
  t.match(a, /Response \{.*status: 201/s)
  t.match(b, /Headers \{ a: 'b' \}/)
  t.match(c, /http:\/\/a\/b/)
})

void test('console prints itself', async (t) => {
  t.match(inspect(await lines(`console.log(console)`)), /log/)
})
