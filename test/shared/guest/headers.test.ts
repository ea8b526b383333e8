import { test } from 'tap'
import { parity } from './parity.ts'
import { run } from './harness.ts'

void test('Headers behaves as in Node', async (t) => {
  const same = await parity(t)
  for (const name of ['', 'a b', 'a:b', 'a\u0100', 'é', 'a\n']) same(`name ${JSON.stringify(name)} is refused`, `new Headers().append(${JSON.stringify(name)}, 'x')`)
  for (const value of ['a\nb', 'a\0b', 'a\rb', '\u0100', 'a\u{1F600}']) same(`value ${JSON.stringify(value)} is refused`, `new Headers({ a: ${JSON.stringify(value)} })`)
  for (const init of ['null', '1', '"x"', '[["a"]]', '[["a","b","c"]]', '[1]', 'Symbol()', '{ a: Symbol() }']) same(`init ${init} is refused`, `new Headers(${init})`)
  same('a record is read one member after the other', `const seen = []; const proxy = new Proxy({ c: '1', e: '2' }, { ownKeys: (target) => { seen.push('keys'); return Reflect.ownKeys(target) }, getOwnPropertyDescriptor: (target, key) => { seen.push('own ' + key); return Reflect.getOwnPropertyDescriptor(target, key) }, get: (target, key) => { if (typeof key === 'string') seen.push('get ' + key); return target[key] } }); new Headers(proxy); return seen`)
  same('a symbol in a record', `new Headers({ [Symbol('x')]: '1' })`)
  same('headers with an iterator of their own', `const h = new Headers({ a: '1' }); h[Symbol.iterator] = function* () { yield ['b', '2'] }; return [...new Headers(h).keys()]`)
  same('delete refuses an invalid name', `new Headers().delete('a b')`)
  same('forEach refuses what is not a function', `new Headers().forEach(1)`)
  same('bytes above ASCII are kept', `return new Headers({ a: '\\u00e9\\u00ff' }).get('a')`)
  same('values are trimmed of HTTP whitespace', `return new Headers({ a: ' \\t\\r\\n x y \\n' }).get('a')`)
  same('a record is read', `return [...new Headers({ B: '1', a: 2 })]`)
  same('a Map is read', `return [...new Headers(new Map([['x', 'y']]))]`)
  same('another Headers is read', `return [...new Headers(new Headers([['set-cookie', 'a'], ['set-cookie', 'b']]))]`)
  same('a generator of pairs is read', `return [...new Headers((function* () { yield ['a', 'b']; yield new Set(['c', 'd']) })())]`)
  same('undefined is an empty list', `return [...new Headers(undefined)]`)
  same('occurrences are combined', `const h = new Headers(); h.append('a', '1'); h.append('A', '2'); return h.get('a')`)
  same('iteration is sorted with each cookie by itself', `return [...new Headers([['z', '1'], ['set-cookie', 'b'], ['a', '2'], ['set-cookie', 'a'], ['Z', '3']])]`)
  same('getSetCookie gives each cookie', `const h = new Headers(); h.append('set-cookie', 'a=1'); h.append('Set-Cookie', 'b=2'); return [h.getSetCookie(), h.get('set-cookie'), new Headers().getSetCookie()]`)
  same('set replaces all occurrences at the first place', `const h = new Headers([['a', '1'], ['b', '2'], ['a', '3']]); h.set('A', '4'); return [...h]`)
  same('delete removes all occurrences', `const h = new Headers([['a', '1'], ['b', '2'], ['a', '3']]); h.delete('A'); return [[...h], h.has('a'), h.get('a')]`)
  same('a name equal to a value is not confused with it', `const h = new Headers([['x', 'host'], ['host', 'y']]); return [h.get('host'), h.has('y'), h.get('x')]`)
  same('keys, values and entries', `const h = new Headers({ b: '1', a: '2' }); return [[...h.keys()], [...h.values()], [...h.entries()]]`)
  same('forEach passes value, name and the object', `const h = new Headers({ b: '1', a: '2' }); const seen = []; h.forEach(function (v, k, o) { seen.push(v, k, o === h, this.x) }, { x: 1 }); return seen`)
  same('an iterator sees later changes', `const h = new Headers({ a: '1', c: '3' }); const i = h.keys(); const seen = [i.next().value]; h.append('b', '2'); seen.push(...i); return seen`)
  same('tags and names', `return [String(new Headers()), String(new Headers().keys()), Headers.name, Headers.prototype[Symbol.iterator] === Headers.prototype.entries, Object.keys(new Headers({ a: '1' }))]`)
  same('methods are enumerable on the prototype', `return Object.keys(Headers.prototype).sort()`)
  same('methods refuse another this', `Headers.prototype.get.call({}, 'a')`)
})

void test('headers of an incoming request are immutable', async (t) => {
  const source = `export default { fetch(request) { const out = []; for (const change of ['append', 'set', 'delete']) try { request.headers[change]('a', 'b') } catch (error) { out.push(error.name) } return Response.json(out) } }`
  t.equal((await run(source, { headers: [['a', '1']] })).text, '["TypeError","TypeError","TypeError"]')
})

void test('a copy of a request has mutable headers', async (t) => {
  const source = `export default { fetch(request) { const copy = new Request(request, { headers: request.headers }); copy.headers.set('a', '2'); return Response.json([copy.headers.get('a'), request.headers.get('a')]) } }`
  t.equal((await run(source, { headers: [['a', '1']] })).text, '["2","1"]')
})

void test('repeated request headers are combined, cookies by semicolon', async (t) => {
  const source = `export default { fetch(request) { return Response.json([request.headers.get('a'), request.headers.get('cookie'), [...request.headers].length]) } }`
  t.equal((await run(source, { headers: [['a', '1'], ['cookie', 'x=1'], ['a', '2'], ['cookie', 'y=2']] })).text, '["1, 2","x=1; y=2",2]')
})
