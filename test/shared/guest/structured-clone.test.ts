import { test } from 'tap'
import { parity } from './parity.ts'

void test('structuredClone copies as Node does', async (t) => {
  const same = await parity(t)
  for (const refused of ['Symbol()', '() => 1', 'Promise.resolve()', 'new WeakMap()', 'new WeakSet()']) same(`refused: ${refused}`, `structuredClone({ member: ${refused} })`)
  same('wrappers stay wrappers', `return [new Boolean(false), new Number(-0), new String('a\\ud800'), Object(5n)].map((value) => { const copy = structuredClone(value); return [copy !== value, typeof copy, copy.constructor.name, String(copy), Object.is(copy.valueOf(), value.valueOf())] })`)
  same('arrays keep their length, holes and members', `const list = [1, , 3]; list.length = 10; list.extra = 'x'; const copy = structuredClone(list); return [copy.length, Object.keys(copy), copy.extra, 1 in copy, Array.isArray(copy)]`)
  same('one object twice is one object in the copy, and circles close', `const a = { v: 1 }; a.self = a; const copy = structuredClone({ x: a, y: [a], m: new Map([[a, a]]), s: new Set([a]) }); return [copy.x === copy.y[0], copy.x.self === copy.x, copy.m.get(copy.x) === copy.x, copy.s.has(copy.x)]`)
  same('views share their buffer as before', `const b = new ArrayBuffer(8); const copy = structuredClone([new Uint8Array(b, 2, 3), new DataView(b, 1, 4), new Float64Array(b), b]); copy[0][0] = 7; return [copy[0].length, copy[0].byteOffset, copy[1].getUint8(1), copy[2].byteLength, copy[3] === copy[0].buffer, copy[3] === copy[1].buffer]`)
  same('dates, expressions, bigints', `const copy = structuredClone({ d: new Date(5), n: new Date(NaN), r: Object.assign(/a(b)/giu, { lastIndex: 3 }), b: 2n ** 70n, u: undefined, z: -0 }); return [copy.d.getTime(), String(copy.n.getTime()), copy.r.source, copy.r.flags, copy.r.lastIndex, String(copy.b), 'u' in copy, Object.is(copy.z, -0)]`)
  same('errors', `const e = new RangeError('no', { cause: { code: 1 } }); e.extra = 1; const copy = structuredClone(e); const own = structuredClone(Object.assign(new Error('x'), { name: 'Mine' })); return [copy instanceof RangeError, copy.name, copy.message, typeof copy.stack, 'extra' in copy, own.name, Object.keys(copy)]`)
  same('blobs and files', `const copy = structuredClone({ b: new Blob(['ab'], { type: 'text/plain' }) }); return [copy.b instanceof Blob, copy.b.type, await copy.b.text()]`)
  same('objects of classes become plain', `class P { #x = 1; y = 2; get z() { return 3 } } const copy = structuredClone(new P()); return [copy.constructor === Object, copy, Object.getPrototypeOf(structuredClone(Object.create(null))) === Object.prototype]`)
  same('only own enumerable members, getters once', `let reads = 0; const o = Object.create({ inherited: 1 }, { hidden: { value: 1 }, shown: { enumerable: true, get: () => ++reads } }); const copy = structuredClone(o); return [copy, reads, structuredClone(JSON.parse('{"__proto__": 5}')).__proto__]`)
  same('a getter that throws is heard', `structuredClone({ get x() { throw new RangeError('mine') } })`)
  same('an object that says it is another thing', `return [structuredClone({ [Symbol.toStringTag]: 'Date', a: 1 }), structuredClone(Object.create(Date.prototype) instanceof Date)]`)
  same('a detached buffer', `const b = new ArrayBuffer(4); structuredClone(b, { transfer: [b] }); structuredClone(b)`)
  same('a port deep in the value', `const { port1, port2 } = new MessageChannel(); const copy = structuredClone({ deep: { list: [port1] } }, { transfer: [port1] }); const told = new Promise((resolve) => { port2.onmessage = (event) => resolve(event.data) }); copy.deep.list[0].postMessage('hi'); const text = await told; port2.close(); return text`)
})

void test('objects of the platform have no copy, where Node makes some of them empty objects', async (t) => {
  const { run } = await import('./harness.ts')
  const out = await run(`export default { fetch() {
    const values = [new URL('http://a/'), new URLSearchParams(), new Headers(), new Request('http://a/'), new Response(), new FormData(), new AbortController().signal, new Event('a'), new EventTarget(), new (class extends EventTarget {})(), new TextDecoder(), new ReadableStream()]
    return Response.json(values.map((value) => { try { structuredClone({ value }); return 'copied' } catch (error) { return error.name } }))
  } }`)
  t.same(new Set(JSON.parse(out.text) as string[]), new Set(['DataCloneError']))
})

void test('what Node does not have: a File stays one, a DOMException too', async (t) => {
  const { run } = await import('./harness.ts')
  const out = await run(`export default { async fetch() {
    const file = structuredClone(new File(['x'], 'a.txt', { type: 'text/plain', lastModified: 5 }))
    const error = structuredClone(new DOMException('m', 'AbortError'))
    return Response.json([file instanceof File, file.name, file.lastModified, file.type, await file.text(), error instanceof DOMException, error.name, error.message])
  } }`)
  t.same(JSON.parse(out.text), [true, 'a.txt', 5, 'text/plain', 'x', true, 'AbortError', 'm'])
})
