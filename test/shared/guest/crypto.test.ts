import { test } from 'tap'
import { Machine } from './harness.ts'
import { parity } from './parity.ts'

void test('crypto behaves as in Node', async (t) => {
  const same = await parity(t)
  same('getRandomValues refuses floats', `crypto.getRandomValues(new Float32Array(1))`)
  same('getRandomValues refuses no view', `crypto.getRandomValues([])`)
  same('getRandomValues has a bound', `crypto.getRandomValues(new Uint8Array(65537))`)
  same('digest refuses an unknown algorithm', `await crypto.subtle.digest('MD5', new Uint8Array())`)
  same('digest refuses what is not bytes', `await crypto.subtle.digest('SHA-1', 'x')`)
  for (const name of ['SHA-1', 'SHA-256', 'SHA-384', 'sha-512']) same(`digest ${name}`, `return [...new Uint8Array(await crypto.subtle.digest('${name}', new TextEncoder().encode('abc')))]`)
  same('digest takes an object and a part of a buffer', `return [...new Uint8Array(await crypto.subtle.digest({ name: 'SHA-256' }, new Uint16Array([1, 2, 3]).subarray(1)))]`)
  same('getRandomValues gives the view back', `const v = new Uint32Array(8); const r = crypto.getRandomValues(v.subarray(2, 6)); return [r.length, v[0], v[7], v.slice(2, 6).some((x) => x > 0)]`)
  same('randomUUID', `const u = crypto.randomUUID(); return [/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(u), u !== crypto.randomUUID()]`)
  same('classes', `return [String(crypto), String(crypto.subtle), typeof Crypto, typeof SubtleCrypto]`)
  same('Crypto is not constructed', `new Crypto()`)
})

for (const code of ['crypto.getRandomValues(new Uint8Array(1))', 'crypto.randomUUID()']) {
  void test(`${code} at top level is refused`, async (t) => {
    await t.rejects(Machine.create(`${code}; export default { fetch() {} }`), { message: /ERR_BUNDLE_ENTROPY/ })
  })
}

void test('Math.random at top level warns once and works', async (t) => {
  const machine = await Machine.create(`const a = [Math.random(), Math.random()]; const kept = Math.random; export default { fetch() { return Response.json([a.length, kept() < 1, Math.random() < 1, /native/.test(Math.random.toString())]) } }`)
  t.same(machine.warnings, ['math-random'])
  t.equal(machine.invoke().text, '[2,true,true,true]')
  t.same(machine.warnings, ['math-random'])
})

void test('a bundle without Math.random does not warn', async (t) => {
  t.same((await Machine.create(`export default { fetch() { return new Response(String(Math.random())) } }`)).warnings, [])
})
