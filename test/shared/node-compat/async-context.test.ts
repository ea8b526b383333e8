/** AsyncLocalStorage keeps its context as in Node: the same program, run there and in a machine. */
import t, { type Test } from 'tap'
import { Machine } from '../guest/harness.ts'
import { bundleText } from './run-both.ts'

/** Each is the body of an async function that has `storage`, `other` (AsyncLocalStorage), `hooks` and `sleep`; what it returns must be equal. */
const PROGRAMS: Readonly<Record<string, string>> = {
  'run, and after it': `const inside = storage.run(1, () => storage.getStore()); return [inside, storage.getStore() ?? null]`,
  'across await, then, catch and finally': `return await storage.run('a', async () => {
    const seen = []
    await null; seen.push(storage.getStore())
    await sleep(3); seen.push(storage.getStore())
    await Promise.resolve().then(() => seen.push(storage.getStore())).finally(() => seen.push(storage.getStore()))
    await Promise.reject(new Error('x')).catch(() => seen.push(storage.getStore()))
    await Promise.all([sleep(2), (async () => { await sleep(1); seen.push(storage.getStore()) })()])
    return seen
  })`,
  'a hundred contexts in parallel keep to themselves': `
    const work = async (id) => { const seen = []; for (let i = 0; i < 5; i++) { await sleep((id * 7 + i * 3) % 5); seen.push(storage.getStore().id === id); await null } return seen.every(Boolean) }
    return [(await Promise.all(Array.from({ length: 100 }, (_, id) => storage.run({ id }, work, id)))).every(Boolean), storage.getStore() ?? null]`,
  'nested runs': `return await storage.run(1, async () => { const before = storage.getStore(); const inner = await storage.run(2, async () => { await sleep(1); return storage.getStore() }); await null; return [before, inner, storage.getStore()] })`,
  'two storages': `return await storage.run(1, () => other.run(2, async () => { await sleep(1); return [storage.getStore(), other.getStore(), storage.exit(() => [storage.getStore() ?? null, other.getStore()])] }))`,
  'exit': `return await storage.run(1, async () => [await storage.exit(async () => { await sleep(1); return storage.getStore() ?? null }), storage.getStore()])`,
  'enterWith lasts over awaits and ends with its function': `
    const f = async () => { storage.enterWith('in'); await sleep(1); return storage.getStore() }
    return await storage.run('out', async () => { const inner = await other.run(0, f); await null; return inner })`,
  'timers, microtasks, intervals, immediates, nextTick': `return await storage.run('t', () => new Promise((resolve) => {
    const seen = []
    setTimeout((a) => seen.push(['timeout', a, storage.getStore()]), 1, 'x')
    queueMicrotask(() => seen.push(['microtask', storage.getStore()]))
    process.nextTick(() => { storage.getStore() })
    const timer = setInterval(() => { seen.push(['interval', storage.getStore()]); clearInterval(timer); resolve(seen) }, 9)
  }))`,
  'errors: thrown, rejected, and the context after': `
    const failing = () => { throw new Error('a' + storage.getStore()) }
    const seen = []
    try { storage.run(1, failing) } catch (error) { seen.push(error.message, storage.getStore() ?? null) }
    await storage.run(2, async () => { await sleep(1); failing() }).catch((error) => seen.push(error.message, storage.getStore() ?? null))
    return seen`,
  'generators run in the context of who asks': `
    function* numbers() { yield storage.getStore() ?? null; yield storage.getStore() ?? null }
    const it = storage.run(1, () => numbers())
    return [it.next().value, storage.run(2, () => it.next().value)]`,
  'async generators and for await': `
    async function* numbers() { for (let i = 0; i < 3; i++) { await sleep(1); yield storage.getStore() } }
    return await storage.run('g', async () => { const seen = []; for await (const value of numbers()) seen.push([value, storage.getStore()]); return seen })`,
  'a thenable is asked in the context of who awaits it': `
    const lazy = { then(resolve) { const store = storage.getStore(); setTimeout(() => resolve(store), 1) } }
    return await storage.run('lazy', async () => [await lazy, storage.getStore()])`,
  'AsyncResource, bind, snapshot': `
    const resource = storage.run('made', () => new hooks.AsyncResource('Thing'))
    const bound = storage.run('bound', () => hooks.AsyncResource.bind((x) => [x, storage.getStore()]))
    const free = storage.run('snap', () => hooks.AsyncLocalStorage.snapshot())
    const plain = storage.run('static', () => hooks.AsyncLocalStorage.bind(() => storage.getStore()))
    return storage.run('now', () => [resource.runInAsyncScope(() => storage.getStore()), resource.runInAsyncScope(function (a) { return [this.x, a] }, { x: 1 }, 2), bound(5), free(() => storage.getStore()), plain(), storage.getStore()])`,
  'emitters run listeners in the context of who emits, or of who made them': `
    const { EventEmitter, EventEmitterAsyncResource } = events
    const seen = []
    const emitter = new EventEmitter(), own = storage.run('made', () => new EventEmitterAsyncResource({ name: 'x' }))
    storage.run('on', () => { emitter.on('x', () => seen.push(storage.getStore())); own.on('x', () => seen.push(storage.getStore())) })
    storage.run('emit', () => { emitter.emit('x'); own.emit('x') })
    return seen`,
  'streams': `
    const { Readable, Transform, pipeline } = stream
    return await storage.run('s', () => new Promise((resolve, reject) => {
      const seen = []
      const read = new Readable({ read() { setTimeout(() => { this.push('a'); this.push(null) }, 1) } })
      const change = new Transform({ transform(chunk, _, done) { seen.push(storage.getStore()); done(null, chunk) } })
      change.on('data', () => seen.push(storage.getStore()))
      pipeline(read, change, (error) => (error ? reject(error) : resolve(seen)))
    }))`,
  'diagnostics_channel binds stores': `
    const channel = diagnostics.channel('t'); const seen = []
    channel.bindStore(storage, (message) => message.id); channel.subscribe((message, name) => seen.push([name, storage.getStore() ?? null]))
    channel.runStores({ id: 7 }, () => seen.push(storage.getStore())); channel.unbindStore(storage)
    return [seen, storage.getStore() ?? null]`,
  'disable': `return storage.run(1, () => { storage.disable(); return storage.getStore() ?? null })`,
}

const MODULE = `
  import * as hooks from 'node:async_hooks'
  import process from 'node:process'
  import * as events from 'events'
  import * as stream from 'stream'
  import * as diagnostics from 'node:diagnostics_channel'
  const storage = new hooks.AsyncLocalStorage(), other = new hooks.AsyncLocalStorage()
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
  export const programs = {
    ${Object.entries(PROGRAMS).map(([title, body]) => `${JSON.stringify(title)}: async () => {\n${body}\n}`).join(',\n')}
  }`

const FETCH = `
  export default { async fetch(request) {
    const result = await programs[decodeURIComponent(new URL(request.url).pathname.slice(1))]()
    return new Response(JSON.stringify({ result, left: storage.getStore() ?? null, globals: [typeof AsyncLocalStorage, typeof process_, typeof Buffer] }))
  } }
  const process_ = undefined`

interface Programs {
  readonly programs: Readonly<Record<string, () => Promise<unknown>>>
}

const { code } = await bundleText(t, MODULE + FETCH)
const machine = await Machine.create(Buffer.from(code).toString())
const { programs } = (await import(`data:text/javascript;base64,${Buffer.from(MODULE).toString('base64')}`)) as Programs

for (const [title, run] of Object.entries(programs)) {
  t.test(title, async (t) => {
    const expected: unknown = JSON.parse(JSON.stringify(await run()))
    const out = machine.invoke({ url: `http://x.localhost/${encodeURIComponent(title)}` })
    t.equal(out.failure, null)
    t.same(JSON.parse(out.text), { result: expected, left: null, globals: ['undefined', 'undefined', 'undefined'] })
  })
}

t.test('what a handler has entered is not there in the next request of its session', async (t) => {
  const { code } = await bundleText(t, `
    import { AsyncLocalStorage } from 'async_hooks'
    const storage = new AsyncLocalStorage()
    export default { fetch(request) { const before = storage.getStore(); storage.enterWith(request.url); return new Response(String(before) + ' ' + storage.getStore()) } }`)
  const machine = await Machine.create(Buffer.from(code).toString())
  const answers = [1, 2].map((n) => machine.invoke({ url: `http://x.localhost/${n}` }).text)
  t.same(answers, ['undefined http://x.localhost/1', 'undefined http://x.localhost/2'])
})

t.test('hooks cannot be enabled, and say so', async (t) => {
  const { code } = await bundleText(t, `import { createHook } from 'async_hooks'; export default { fetch() { try { createHook({}).enable() } catch (error) { return new Response(error.code) } } }`)
  t.equal((await Machine.create(Buffer.from(code).toString())).invoke().text, 'ERR_METHOD_NOT_IMPLEMENTED')
})

t.test('only bundles with AsyncLocalStorage are lowered', async (t) => {
  const text = async (t: Test, source: string): Promise<string> => Buffer.from((await bundleText(t, source)).code).toString()
  t.match(await text(t, `import 'events'; export const handler = async () => 1`), /async \(\) => 1/)
  t.notMatch(await text(t, `import { AsyncLocalStorage } from 'async_hooks'; const s = new AsyncLocalStorage(); export const handler = async () => s.getStore()`), /async \(\)/)
})
