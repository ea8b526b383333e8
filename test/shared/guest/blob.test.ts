import { test } from 'tap'
import { parity } from './parity.ts'

void test('Blob, File and FormData behave as in Node', async (t) => {
  const same = await parity(t)
  for (const init of ['"x"', '1', '{}']) same(`Blob of ${init} is refused`, `new Blob(${init})`)
  for (const options of ['123', 'true', '"x"', 'null', 'undefined', '{}']) same(`options ${options}`, `return new Blob(['a'], ${options}).size`)
  same('File wants a name', `new File([])`)
  same('append wants a value', `new FormData().append('a')`)
  same('a text entry takes no file name', `new FormData().append('a', 'b', 'c')`)
  same('FormData takes no form', `new FormData(1)`)
  same('parts are joined', `const b = new Blob(['hé', new Uint8Array([65]), new Blob(['x']), new Uint8Array([1, 2]).buffer, 12], { type: 'A/B' }); return [b.size, b.type, [...await b.bytes()], [...new Uint8Array(await b.arrayBuffer())]]`)
  same('a wrong type is empty', `return new Blob([], { type: 'a\\u00e9' }).type`)
  same('slice', `const b = new Blob(['hello']); return [await b.slice(1, 3).text(), await b.slice(-2).text(), b.slice(0, 1, 'x/Y').type, b.slice(3, 1).size]`)
  same('stream', `let n = 0; for await (const c of new Blob(['hello']).stream()) n += c.length; return n`)
  same('File', `const f = new File(['x'], 'a/b', { type: 't/x', lastModified: 5 }); return [f.name, f.type, f.lastModified, f.size, f instanceof Blob, String(f), String(new Blob())]`)
  same('FormData entries', `const f = new FormData(); f.append('a', 1); f.append('b', 'x'); f.append('a', 'y'); return [[...f], f.get('a'), f.getAll('a'), f.get('z'), f.has('b'), [...f.keys()], [...f.values()]]`)
  same('set and delete', `const f = new FormData(); f.append('a', '1'); f.append('b', '2'); f.append('a', '3'); f.set('a', '4'); f.delete('b'); f.set('c', '5'); return [...f]`)
  same('a Blob becomes a File', `const f = new FormData(); f.append('a', new Blob(['x'], { type: 't/x' })); f.append('b', new Blob(['y']), 'n'); const a = f.get('a'); return [a.name, a.type, a instanceof File, f.get('b').name, await a.text()]`)
  same('forEach', `const f = new FormData(); f.append('a', '1'); const out = []; f.forEach((v, k, o) => out.push(v, k, o === f)); return out`)
})
