import { test } from 'tap'
import { Machine } from './harness.ts'

const CASES: readonly (readonly [code: string, answer: unknown])[] = [
  [`new URLPattern({ pathname: '/books/:id(\\\\d+)' }).exec('https://example.com/books/12')?.pathname.groups`, { id: '12' }],
  [`new URLPattern({ pathname: '/books/:id(\\\\d+)' }).test('https://example.com/books/x')`, false],
  [`new URLPattern('/a/*', 'https://example.com').exec('https://example.com/a/b/c').pathname.groups`, { 0: 'b/c' }],
  [`new URLPattern({ hostname: '{:sub.}?example.com' }).exec({ hostname: 'cdn.example.com' }).hostname.groups.sub`, 'cdn'],
  [`new URLPattern({ search: 'q=:what' }).exec('https://e.com/?q=ada').search.groups.what`, 'ada'],
  [`new URLPattern('https://example.com/:a/:b?').pathname`, '/:a/:b?'],
  [`(() => { try { new URLPattern({ pathname: '/(' }) } catch (error) { return error.name } })()`, 'TypeError'],
  [`[String(URLPattern.name), Object.prototype.toString.call(new URLPattern())]`, ['URLPattern', '[object URLPattern]']],
]

void test('URLPattern', async (t) => {
  const machine = await Machine.create(`export default { async fetch(request) { return Response.json(await new (async () => {}).constructor('return ' + await request.text())() ?? null) } }`)
  for (const [code, answer] of CASES) {
    void t.test(code, async (t) => t.same(JSON.parse(machine.invoke({ method: 'POST', body: code }).text), answer))
  }
})
