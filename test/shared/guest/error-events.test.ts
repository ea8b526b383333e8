import { test } from 'tap'
import { Machine, run } from './harness.ts'

void test('reportError tells the listeners, and logs unless one of them cancels', async (t) => {
  const machine = await Machine.create(`
    const heard = []
    export default { async fetch(request) {
      heard.length = 0
      globalThis.onerror = null
      const listener = (event) => { heard.push([event.type, event.message, event.error?.message, event.lineno > 0]); if (request.url.endsWith('/cancel')) event.preventDefault() }
      addEventListener('error', listener)
      if (request.url.endsWith('/handler')) globalThis.onerror = (...parts) => { heard.push(parts.map((part) => typeof part)); return true }
      reportError(request.url.endsWith('/text') ? 'only text' : new Error('told'))
      removeEventListener('error', listener)
      return Response.json(heard)
    } }`)
  const plain = machine.invoke({ url: 'http://localhost/plain' })
  t.same(JSON.parse(plain.text), [['error', 'Error: told', 'told', true]])
  t.match(plain.logs.join(), /Uncaught Error: told/)
  const text = machine.invoke({ url: 'http://localhost/text' })
  t.match(JSON.parse(text.text), [['error', /only text/, null, false]])
  const cancelled = machine.invoke({ url: 'http://localhost/cancel' })
  t.same(cancelled.logs, [])
  const handled = machine.invoke({ url: 'http://localhost/handler' })
  t.same((JSON.parse(handled.text) as unknown[])[0], ['string', 'string', 'number', 'number', 'object'])
  t.same(handled.logs, [])
})

void test('errors of timers and listeners are told; a listener for errors that fails is logged and told nobody', async (t) => {
  const out = await run(`export default { async fetch() {
    let told = 0
    addEventListener('error', (event) => { told++; event.preventDefault(); if (event.error.message === 'again') throw new Error('from the listener') })
    setTimeout(() => { throw new Error('timer') }, 1)
    const target = new EventTarget(); target.addEventListener('x', () => { throw new Error('listener') }); target.dispatchEvent(new Event('x'))
    reportError(new Error('again'))
    await new Promise((resolve) => setTimeout(resolve, 2))
    return new Response(String(told))
  } }`)
  t.equal(out.text, '3')
  t.same(out.logs.length, 1)
  t.match(out.logs[0], /from the listener/)
})

void test('a rejection that nobody handles is told', async (t) => {
  const source = (listener: string): string => `export default { async fetch() {
    let reason = 'nothing'
    ${listener}
    Promise.reject(new Error('left alone'))
    await new Promise((resolve) => setTimeout(resolve, 1))
    return new Response(String(reason))
  } }`
  const cancelled = await run(source(`addEventListener('unhandledrejection', (event) => { reason = event.reason.message; event.preventDefault() })`))
  t.equal(cancelled.text, 'left alone')
  t.same(cancelled.logs, [])
  const told = await run(source(`globalThis.onunhandledrejection = (event) => { reason = event.type }`))
  t.equal(told.text, 'unhandledrejection')
  t.match(told.logs.join(), /Uncaught \(in promise\) Error: left alone/)
})

void test('shapes of the events', async (t) => {
  const out = await run(`export default { fetch() {
    const names = []
    for (const make of [() => reportError(), () => new PromiseRejectionEvent('x'), () => new PromiseRejectionEvent('x', {}), () => addEventListener.call({}, 'error', () => 1)]) try { make(); names.push('made') } catch (error) { names.push(error.name) }
    const event = new ErrorEvent('error', { message: 'm', filename: 'f', lineno: 1, colno: 2, error: 3 })
    return Response.json([names, event.message, event.filename, event.lineno, event.colno, event.error, String(event), 'onerror' in globalThis, globalThis.onerror])
  } }`)
  t.same(JSON.parse(out.text), [['TypeError', 'TypeError', 'TypeError', 'TypeError'], 'm', 'f', 1, 2, 3, '[object ErrorEvent]', true, null])
})
