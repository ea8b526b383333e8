import { test } from 'tap'
import { run } from './harness.ts'

/** Collects every object that code can get at from `roots`; `note` sees each. The harness names host calls `host.*`. */
const REACH = `
  const hostCalls = new Set(), seen = new Set()
  const { getOwnPropertyDescriptors, getPrototypeOf, getOwnPropertyDescriptor } = Object
  const { ownKeys } = Reflect
  function walk(root) {
    const queue = [root]
    while (queue.length > 0) {
      const value = queue.pop()
      if ((typeof value !== 'object' && typeof value !== 'function') || value === null || seen.has(value)) continue
      seen.add(value)
      if (typeof value === 'function' && String(getOwnPropertyDescriptor(value, 'name')?.value).startsWith('host.')) hostCalls.add(value.name)
      queue.push(getPrototypeOf(value))
      for (const key of ownKeys(value)) {
        const d = getOwnPropertyDescriptor(value, key)
        queue.push(d.value, d.get, d.set)
        if (d.get) try { queue.push(d.get.call(value)) } catch (error) { queue.push(error) }
      }
    }
  }`

void test('no host call is reachable from the global object, the request, env or ctx', async (t) => {
  const source = `${REACH}
    export default { async fetch(request, env, ctx) {
      for (const root of [globalThis, request, env, ctx, request.headers, request.signal, new Response('x'), new Response('x').body, fetch('http://a/').catch(() => {}), setTimeout(() => {}, 1e9), this, arguments])
        walk(root)
      return Response.json([seen.size > 500, [...hostCalls]])
    } }`
  t.equal((await run(source, { method: 'POST', body: 'x' }, { secrets: { S: 'x' } })).text, '[true,[]]')
})

void test('the walk would find one', async (t) => {
  t.equal((await run(`${REACH}; export default { fetch() { const f = () => 1; Object.defineProperty(f, 'name', { value: 'host.x' }); walk({ get a() { return [f] } }); return Response.json([...hostCalls]) } }`)).text, '["host.x"]')
})

void test('patched built-ins never see a host call', async (t) => {
  const source = `${REACH}
    const record = (values) => { for (const value of values) if (typeof value === 'function' && String(value.name).startsWith('host.')) hostCalls.add(value.name) }
    const { apply } = Reflect
    function spy(holder, name) {
      const native = holder[name]
      if (typeof native !== 'function') return
      holder[name] = function (...values) { record([this, ...values]); for (const v of values) if (Array.isArray(v)) record(v); return new.target ? Reflect.construct(native, values, new.target) : apply(native, this, values) }
    }
    for (const holder of [Function.prototype, Promise.prototype, Array.prototype, Map.prototype, Set.prototype, String.prototype, RegExp.prototype, Object, Reflect, JSON, Uint8Array, Object.getPrototypeOf(Uint8Array.prototype)])
      for (const name of Object.getOwnPropertyNames(holder)) if (!['constructor', 'apply', 'isArray', 'push', 'pop', 'startsWith'].includes(name)) try { spy(holder, name) } catch { continue }
    export default { async fetch(request, env, ctx) {
      console.log('%s %o', 'x', { a: [1, new Map([[1, 2]])] })
      ctx.waitUntil(new Promise((ok) => setTimeout(ok, 1)))
      const clone = request.clone()
      const sums = [await request.json(), (await clone.arrayBuffer()).byteLength, crypto.randomUUID().length, (await crypto.subtle.digest('SHA-1', new Uint8Array(1))).byteLength, env.S, new Intl.NumberFormat('de').format(1.5) + ['b', 'ä'].sort(new Intl.Collator('de').compare) + new Intl.Locale('de').maximize()]
      const up = await fetch('http://a/', { method: 'POST', body: 'x', signal: AbortSignal.timeout(1000) })
      const form = await new Response(new URLSearchParams('a=1')).formData()
      return Response.json([sums, await up.text(), [...form], new URL('http://a/?b=c').searchParams.get('b'), [...hostCalls]], { headers: { a: 'b' } })
    } }`
  const out = await run(source, { method: 'POST', body: '{"a":1}' }, { secrets: { S: 's' }, fetch: () => ({ chunks: ['up'] }) })
  t.equal(out.failure, null)
  t.same(JSON.parse(out.text), [[{ a: 1 }, 7, 36, 20, 's', '1,5ä,bde-Latn-DE'], 'up', [['a', '1']], 'c', []])
})

const broken: readonly string[] = [
  `Promise.prototype.then = () => { throw 1 }`, `Array.prototype.push = () => { throw 1 }`, `Array.prototype.join = () => 'x'`, `Array.prototype[Symbol.iterator] = () => { throw 1 }`, `Function.prototype.call = Function.prototype.apply = () => { throw 1 }`,
  `String.prototype.slice = String.prototype.indexOf = String.prototype.split = () => { throw 1 }`, `Map.prototype.get = Map.prototype.set = () => { throw 1 }`, `RegExp.prototype.exec = RegExp.prototype.test = () => { throw 1 }`, `JSON.parse = JSON.stringify = () => { throw 1 }`,
  `Object.defineProperty(Object.prototype, 'status', { get() { return 500 }, set() { throw 1 }, configurable: true })`, `Object.prototype.headers = { x: 'y' }`, `globalThis.Promise = globalThis.Map = globalThis.Uint8Array = null`, `Object.keys = Reflect.ownKeys = () => { throw 1 }`,
]
for (const patch of broken) {
  void test(`text and JSON are answered after ${patch}`, async (t) => {
    const out = await run(`${patch}; export default { async fetch(request) { const b = await request.json(); return Response.json({ a: b.a, m: request.method, h: request.headers.get('x-a') }) } }`, { method: 'POST', body: '{"a":1}', headers: [['x-a', '1']] })
    t.equal(out.failure, null)
    t.equal(out.text, '{"a":1,"m":"POST","h":"1"}')
    t.same(out.headers, [['content-type', 'application/json']])
  })
}

void test('spreading, assigning, cloning and writing web objects reveal nothing', async (t) => {
  const source = `export default { fetch(request, env, ctx) { const all = [request, new Response('x'), new Headers({ a: 'b' }), ctx, new URLSearchParams('a=b'), new Blob(['x']), new AbortController(), new Event('x')]; return Response.json(all.map((x) => [Object.getOwnPropertyNames(x), Object.getOwnPropertySymbols(x).length, { ...x }, Object.assign({}, x), JSON.stringify(x)])) } }`
  const rows = JSON.parse((await run(source)).text) as unknown[]
  for (const row of rows) t.same(row, [[], 0, {}, {}, '{}'])
})

void test('a stack shows prelude frames without source and no functions', async (t) => {
  const source = `export default { fetch() { let functions; Error.prepareStackTrace = (e, sites) => { functions = sites.map((s) => [typeof s.getFunction(), typeof s.getThis?.()]).flat(); return 'x' }; try { new Response('x', { status: 1 }) } catch (e) { e.stack } return Response.json([...new Set(functions)]) } }`
  t.equal((await run(source)).text, '["undefined"]')
})
