import { test } from 'tap'
import { Machine, run } from './harness.ts'
import { parity } from './parity.ts'

void test('events and abort signals behave as in Node', async (t) => {
  const same = await parity(t)
  same('abort: all dependents are aborted before anybody is told, and told in the order of their making', `const c = new AbortController(); const one = AbortSignal.any([c.signal]); const two = AbortSignal.any([one]); const three = AbortSignal.any([two, c.signal]); const out = []; for (const [i, each] of [three, two, one, c.signal].entries()) each.addEventListener('abort', () => out.push([i, one.aborted, two.aborted, three.aborted])); c.abort(); return [out, three.reason === c.signal.reason]`)
  same('abort: the handler property sees the target, in the order in which it was set', `const c = new AbortController(); const out = []; c.signal.addEventListener('abort', () => out.push(1)); c.signal.onabort = (event) => out.push(event.target === c.signal, event.isTrusted); c.signal.addEventListener('abort', () => out.push(2)); c.signal.onabort = (event) => out.push('new', event.target === c.signal, event.isTrusted); c.abort(); return [out, new Event('a').isTrusted]`)
  same('initEvent', `const e = new Event('a'); e.initEvent('b', true, true); return [e.type, e.bubbles, e.cancelable, e.defaultPrevented]`)
  same('returnValue', `const t = new EventTarget(); const e = new Event('a', { cancelable: true }); t.addEventListener('a', (event) => { event.returnValue = true; event.returnValue = false }); return [t.dispatchEvent(e), e.defaultPrevented, e.returnValue]`)
  same('options are read without a listener', `const seen = []; const options = { get capture() { seen.push('capture') }, get once() { seen.push('once') }, get passive() { seen.push('passive') } }; new EventTarget().addEventListener('a', null, options); const all = seen.length; new EventTarget().removeEventListener('a', null, options); return [all, seen.includes('passive')]`)
  same('an Event wants a type', `new Event()`)
  same('dispatchEvent wants an Event', `new EventTarget().dispatchEvent({ type: 'x' })`)
  same('an event in flight is not dispatched again', `const t = new EventTarget(); let name; t.addEventListener('x', (e) => { try { t.dispatchEvent(e) } catch (error) { name = error.name } }); t.dispatchEvent(new Event('x')); return typeof name`)
  same('AbortSignal is not constructed', `new AbortSignal()`)
  same('any wants signals', `AbortSignal.any([1])`)
  same('timeout wants a number', `AbortSignal.timeout('x')`)
  same('timeout refuses a negative', `try { AbortSignal.timeout(-1) } catch (error) { return true }`)
  same('throwIfAborted throws the reason', `AbortSignal.abort(new RangeError('x')).throwIfAborted()`)
  same('the default reason', `const s = AbortSignal.abort(); return [s.aborted, s.reason.name, s.reason instanceof DOMException]`)
  same('listeners run in order, once each', `const t = new EventTarget(); const seen = []; const f = () => seen.push('f'); t.addEventListener('x', f); t.addEventListener('x', f); t.addEventListener('x', () => seen.push('g'), { once: true }); t.dispatchEvent(new Event('x')); t.dispatchEvent(new Event('x')); return seen`)
  same('removed listeners do not run', `const t = new EventTarget(); const seen = []; const f = () => seen.push('f'); t.addEventListener('x', () => t.removeEventListener('x', f)); t.addEventListener('x', f); t.dispatchEvent(new Event('x')); return seen`)
  same('an object listener', `const t = new EventTarget(); let got; t.addEventListener('x', { handleEvent(e) { got = [this.a, e.type, e.target === t, e.currentTarget === t, e.eventPhase] }, a: 1 }); t.dispatchEvent(new Event('x')); return got`)
  same('this is the target', `const t = new EventTarget(); let got; t.addEventListener('x', function () { got = this === t }); t.dispatchEvent(new Event('x')); return got`)
  same('preventDefault needs cancelable', `const t = new EventTarget(); t.addEventListener('x', (e) => e.preventDefault()); return [t.dispatchEvent(new Event('x')), t.dispatchEvent(new Event('x', { cancelable: true }))]`)
  same('stopImmediatePropagation', `const t = new EventTarget(); const seen = []; t.addEventListener('x', (e) => { seen.push(1); e.stopImmediatePropagation() }); t.addEventListener('x', () => seen.push(2)); t.dispatchEvent(new Event('x')); return seen`)
  same('a signal removes a listener', `const t = new EventTarget(); const c = new AbortController(); const seen = []; t.addEventListener('x', () => seen.push(1), { signal: c.signal }); t.dispatchEvent(new Event('x')); c.abort(); t.dispatchEvent(new Event('x')); return seen`)
  same('CustomEvent', `const e = new CustomEvent('x', { detail: { a: 1 }, bubbles: true }); return [e.type, e.detail, e.bubbles, e.cancelable, new CustomEvent('y').detail, e instanceof Event]`)
  same('after dispatch', `const t = new EventTarget(); const e = new Event('x'); t.dispatchEvent(e); return [e.target === t, e.currentTarget, e.eventPhase, e.composedPath().length]`)
  same('abort tells once, handler first', `const c = new AbortController(); const seen = []; c.signal.onabort = (e) => seen.push('on', e.type); c.signal.addEventListener('abort', () => seen.push('listener')); c.abort('why'); c.abort('again'); return [seen, c.signal.reason, c.signal.aborted]`)
  same('any follows the first', `const a = new AbortController(); const b = new AbortController(); const s = AbortSignal.any([a.signal, b.signal]); let told = 0; s.addEventListener('abort', () => told++); b.abort('b'); a.abort('a'); return [s.aborted, s.reason, told]`)
  same('any of an aborted one', `return AbortSignal.any([new AbortController().signal, AbortSignal.abort(5)]).reason`)
  same('any of none never aborts', `return AbortSignal.any([]).aborted`)
  same('a subclass of EventTarget', `class T extends EventTarget { x() { this.dispatchEvent(new Event('y')) } } const t = new T(); let n = 0; t.addEventListener('y', () => n++); t.x(); return n`)
  same('tags', `return [String(new Event('x')), String(new EventTarget()), String(new AbortController()), String(AbortSignal.abort())]`)
  same('DOMException', `const e = new DOMException('m', 'AbortError'); return [e.name, e.message, e.code, e instanceof Error, String(e), new DOMException('x').name]`)
})

void test('a listener that throws does not stop the others and is logged', async (t) => {
  const out = await run(`export default { fetch() { const t = new EventTarget(); let n = 0; t.addEventListener('x', () => { throw new Error('boom') }); t.addEventListener('x', () => n++); t.dispatchEvent(new Event('x')); return new Response(String(n)) } }`)
  t.equal(out.text, '1')
  t.match(out.logs[0], /^3 Uncaught Error: boom/)
})

void test('AbortSignal.timeout aborts with TimeoutError', async (t) => {
  const out = await run(`export default { async fetch() { const s = AbortSignal.timeout(10); await new Promise((resolve) => s.addEventListener('abort', resolve)); return new Response(s.reason.name) } }`)
  t.equal(out.text, 'TimeoutError')
})

void test('timers fire in order of their delay and pass their arguments', async (t) => {
  const out = await run(`export default { async fetch() { const seen = []; await new Promise((resolve) => { setTimeout((x) => seen.push(x), 20, 'b'); setTimeout(resolve, 30); setTimeout(() => seen.push('a'), 10) }); return Response.json(seen) } }`)
  t.equal(out.text, '["a","b"]')
})

void test('a cleared timer does not fire and is cancelled at the host', async (t) => {
  const out = await run(`export default { async fetch() { let n = 0; const id = setTimeout(() => n++, 1); clearTimeout(id); clearTimeout(id); clearTimeout('x'); await new Promise((r) => setTimeout(r, 5)); return Response.json([n, typeof id]) } }`)
  t.equal(out.text, '[0,"number"]')
  t.equal(out.canceled, 1)
})

void test('an interval repeats until cleared, also from inside', async (t) => {
  const out = await run(`export default { async fetch() { let n = 0; await new Promise((resolve) => { const id = setInterval(() => { if (++n === 3) { clearInterval(id); setTimeout(resolve, 50) } }, 5) }); return Response.json(n) } }`)
  t.equal(out.text, '3')
})

void test('a timer that throws is logged and fails nothing', async (t) => {
  const out = await run(`export default { async fetch() { setTimeout(() => { throw new TypeError('late') }, 1); await new Promise((r) => setTimeout(r, 5)); return new Response('ok') } }`)
  t.equal(out.text, 'ok')
  t.match(out.logs[0], /^3 Uncaught TypeError: late/)
})

void test('a timer wants a function', async (t) => {
  const out = await run(`export default { fetch() { try { setTimeout('x') } catch (error) { return new Response(error.name) } } }`)
  t.equal(out.text, 'TypeError')
})

void test('microtasks run before timers', async (t) => {
  const out = await run(`export default { async fetch() { const seen = []; setTimeout(() => seen.push('timer'), 0); queueMicrotask(() => seen.push('micro')); await new Promise((r) => setTimeout(r, 1)); return Response.json(seen) } }`)
  t.equal(out.text, '["micro","timer"]')
})

void test('setTimeout at top level is refused', async (t) => {
  await t.rejects(Machine.create(`setTimeout(() => {}, 1); export default { fetch() {} }`), { message: /ERR_BUNDLE_HANDLE/ })
})
