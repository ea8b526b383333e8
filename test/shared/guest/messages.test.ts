import { test } from 'tap'
import { Machine, run } from './harness.ts'
import { parity } from './parity.ts'

void test('structuredClone moves what is transferred, as in Node', async (t) => {
  const same = await parity(t)
  same('without a list', `const b = new ArrayBuffer(4); const c = structuredClone({ b }); return [b.byteLength, c.b.byteLength, c.b === b]`)
  same('a buffer moves', `const b = new Uint8Array([1, 2, 3]).buffer; const c = structuredClone({ b }, { transfer: [b] }); return [b.byteLength, [...new Uint8Array(c.b)]]`)
  same('a buffer beside the value moves too', `const b = new ArrayBuffer(4); structuredClone(1, { transfer: [b] }); return b.byteLength`)
  same('twice in the list', `const b = new ArrayBuffer(4); structuredClone(b, { transfer: [b, b] })`)
  same('once more', `const b = new ArrayBuffer(4); structuredClone(b, { transfer: [b] }); structuredClone(b, { transfer: [b] })`)
  same('what cannot move', `structuredClone({}, { transfer: [{}] })`)
  same('what cannot be cloned', `const b = new ArrayBuffer(4); try { structuredClone({ b, f() {} }, { transfer: [b] }) } catch (e) { return [e.name, b.byteLength] }`)
  same('a port that is not in the list', `structuredClone(new MessageChannel().port1)`)
  same('nothing', `structuredClone()`)
})

const SOURCE = `
const channel = () => { const { port1, port2 } = new MessageChannel(); return [port1, port2] }
const turn = () => new Promise((resolve) => setTimeout(resolve, 1))
export default { async fetch(request) { return Response.json(await new (async () => {}).constructor('channel', 'turn', await request.text())(channel, turn)) } }`

const CASES: Readonly<Record<string, readonly [code: string, answer: unknown]>> = {
  'messages arrive in order, as copies, each in a turn of its own': [`
    const [a, b] = channel(); const heard = []; b.onmessage = ({ data }) => { heard.push(data); Promise.resolve().then(() => heard.push('job')) }
    const value = { n: 1 }; a.postMessage(value); value.n = 2; a.postMessage('two'); heard.push('sync'); await turn(); return heard`, ['sync', { n: 1 }, 'job', 'two', 'job']],
  'nothing is told before start': [`
    const [a, b] = channel(); const heard = []; b.addEventListener('message', ({ data }) => heard.push(data)); a.postMessage(1); await turn(); heard.push('started'); b.start(); await turn(); return heard`, ['started', 1]],
  'after close nothing arrives, and what was posted before does': [`
    const [a, b] = channel(); const heard = []; b.onmessage = ({ data }) => heard.push(data); a.postMessage(1); a.close(); a.postMessage(2); await turn(); b.postMessage(3); return heard`, [1]],
  'a closed port tells nothing': [`const [a, b] = channel(); const heard = []; b.onmessage = ({ data }) => heard.push(data); a.postMessage(1); b.close(); await turn(); return heard`, []],
  'a port moves through another, and its old object is dead': [`
    const [a, b] = channel(); const [c, d] = channel(); const heard = []
    b.onmessage = ({ data, ports }) => { heard.push(data.port === ports[0], ports.length); ports[0].onmessage = ({ data }) => heard.push(data) }
    a.postMessage({ port: d }, [d]); await turn(); c.postMessage('through'); d.postMessage('lost'); await turn(); return heard`, [true, 1, 'through']],
  'a buffer moves': [`const [a, b] = channel(); const heard = []; b.onmessage = ({ data }) => heard.push(data.byteLength); const buffer = new ArrayBuffer(8); a.postMessage(buffer, { transfer: [buffer] }); heard.push(buffer.byteLength); await turn(); return heard`, [0, 8]],
  'a port cannot send itself, nor what cannot be cloned': [`const [a] = channel(); const names = []; for (const send of [() => a.postMessage(1, [a]), () => a.postMessage(() => 1), () => a.postMessage({ a })]) try { send() } catch (e) { names.push(e.name) } return names`, ['DataCloneError', 'DataCloneError', 'DataCloneError']],
  'a listener that fails does not stop the next message': [`const [a, b] = channel(); const heard = []; b.onmessage = ({ data }) => { heard.push(data); throw new Error('x') }; a.postMessage(1); a.postMessage(2); await turn(); return heard`, [1, 2]],
  'classes': [`const names = []; for (const make of [() => new MessagePort(), () => MessageChannel()]) try { make() } catch (e) { names.push(e.name) } return [...names, String(new MessageChannel()), new MessageEvent('message', { data: 1, origin: 'o' }).origin]`, ['TypeError', 'TypeError', '[object MessageChannel]', 'o']],
}

void test('message channels', async (t) => {
  const machine = await Machine.create(SOURCE)
  for (const [title, [code, answer]] of Object.entries(CASES)) {
    void t.test(title, async (t) => {
      const out = machine.invoke({ method: 'POST', body: code })
      t.equal(out.failure, null)
      t.same(JSON.parse(out.text), answer)
    })
  }
})

void test('a message that waits keeps the request no longer than its turn', async (t) => {
  const out = await run(`export default { fetch() { const { port1, port2 } = new MessageChannel(); port2.onmessage = () => port2.postMessage(1); port1.onmessage = () => {}; port1.postMessage(0); return new Response('now') } }`)
  t.equal(out.text, 'now')
})
