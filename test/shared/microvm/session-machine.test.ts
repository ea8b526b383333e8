/** Machines that keep their memory from one request of a session to the next. */
import fc from 'fast-check'
import t from 'tap'
import { callNumber } from '../../../shared/guest/abi.ts'
import { bundlePrelude } from '../../../shared/guest/bundle.ts'
import { KIB, MIB } from '../../../shared/limits.ts'
import type { ResidentImage } from '../../../shared/microvm/arena.ts'
import type { Executor } from '../../../shared/microvm/executor.ts'
import { setCollectAbove } from '../../../shared/microvm/machine-state.ts'
import { type Ended, testEngine, testExecutor } from '../../support/engine.ts'
import { difference } from '../../support/oracle.ts'

const engine = testEngine({ prelude: await bundlePrelude() })
const COUNTER = 'let n = 0; export default { async fetch() { return Response.json(++n) } }'
const counter = engine.image(COUNTER)

interface Asked {
  readonly path?: string
  readonly body?: string
  readonly keepMaxBytes?: number
  readonly limits?: Parameters<ReturnType<typeof testExecutor>['run']>[2] extends infer Spec ? NonNullable<Spec> extends { readonly limits?: infer Limits } ? Limits : never : never
}

/** Sessions over one executor: each request starts from what the last one left. */
function sessions(options: Parameters<typeof testExecutor>[1] = {}) {
  let nowMs = 0
  let judged = 0
  const made = testExecutor(engine, { slotCount: 2, nowMs: () => nowMs + performance.now(), ...options })
  const { executor, ended, run } = made
  const finish = (id: number): Ended => {
    for (let turn = 0; turn < 40 && !ended.has(id); turn++) {
      nowMs += 1_000
      executor.runTimers()
    }
    const answer = ended.get(id)
    if (answer === undefined) throw new Error('it does not end')
    // The oracle written apart from the code takes 50 times as long as the code's own: now and then is enough.
    for (const slot of executor.idleSlots) {
      const found = judged++ % 16 === 0 ? difference(engine.arena, slot) : (slot.verify()?.what ?? null)
      if (found !== null) throw new Error(found)
    }
    return answer
  }
  const begin = (image: ResidentImage, state: Uint8Array | null, { path = '/', body, keepMaxBytes = 4 * MIB, limits = {} }: Asked = {}): number => {
    const head = `request\n127.0.0.1\n${body === undefined ? 'GET' : 'POST'}\nhttp://h${path}`
    return run(image, head, { call: callNumber(0, body === undefined ? 'GET' : 'POST', body === undefined ? 0 : 1), body: body === undefined ? null : Buffer.from(body), keepMaxBytes, state, limits: { cpuMs: 2_000, ...limits } })
  }
  return { ...made, begin, finish, ask: (image: ResidentImage, state: Uint8Array | null, asked: Asked = {}) => finish(begin(image, state, asked)) }
}

function stateOf({ run }: Ended): Uint8Array {
  if (run.kept.kind !== 'kept') throw new Error(`${run.kept.kind}: ${run.kill?.error.code ?? 'no error'}`)
  return run.kept.state
}

await t.test('a machine goes on where the last request left it, in whatever executor; others start from the image', (t) => {
  const executors = [sessions(), sessions()] as const
  let state: Uint8Array | null = null
  for (let n = 1; n <= 20; n++) {
    const { ask } = executors[n % 2 === 0 ? 0 : 1]
    const answer = ask(counter, state)
    t.equal(answer.body, String(n))
    t.equal(answer.run.startKind === 'resumed', n > 1)
    state = stateOf(answer)
    t.equal(ask(counter, null, { keepMaxBytes: 0 }).body, '1')
  }
  t.end()
})

await t.test('two sessions in one slot never mix', (t) => {
  const { ask } = sessions({ slotCount: 1 })
  const states = new Map<string, Uint8Array>()
  const image = engine.image('const seen = []; export default { fetch(r) { seen.push(new URL(r.url).pathname); return Response.json(seen) } }')
  for (let round = 1; round <= 5; round++) for (const name of ['/a', '/b', '/c']) {
    const answer = ask(image, states.get(name) ?? null, { path: name })
    t.same(JSON.parse(answer.body), Array.from({ length: round }, () => name))
    states.set(name, stateOf(answer))
  }
  t.end()
})

await t.test('an exception keeps what was changed before it; a promise that nothing settles does too', (t) => {
  const { ask } = sessions()
  const image = engine.image(`let n = 0; export default { fetch(r) { ++n; const { pathname } = new URL(r.url)
    if (pathname === '/throw') throw new Error('on purpose')
    if (pathname === '/reject') return Promise.reject(new Error('on purpose'))
    if (pathname === '/hang') return new Promise(() => {})
    return new Response(String(n)) } }`)
  let state = stateOf(ask(image, null))
  for (const path of ['/throw', '/reject', '/hang', '/throw']) {
    const failed = ask(image, state, { path })
    t.equal(failed.status, null)
    state = stateOf(failed)
  }
  t.equal(ask(image, state).body, '6')
  t.end()
})

await t.test('a guest that is stopped in the midst of something is lost', (t) => {
  const { ask, begin, ended, executor } = sessions()
  const image = engine.image(`const kept = []; export default { async fetch(r) { kept.push(1); const { pathname } = new URL(r.url)
    if (pathname === '/spin') for (;;);
    if (pathname === '/memory') for (;;) kept.push(new Uint8Array(1 << 20).fill(1))
    if (pathname === '/wait') await new Promise((resolve) => setTimeout(resolve, 1e8))
    if (pathname === '/large') return new Response('x'.repeat(100000))
    if (pathname === '/after') { await new Response('x').text(); for (;;); }
    return new Response(String(kept.length)) } }`)
  const state = stateOf(ask(image, null))
  for (const [path, limits, code] of [
    ['/spin', { cpuMs: 10 }, 'ERR_LIMIT_CPU'], ['/memory', { memoryMib: 16 }, 'ERR_LIMIT_MEMORY'], ['/large', { responseMaxBytes: 1_000 }, 'ERR_LIMIT_RESPONSE'],
    ['/after', { cpuMs: 10 }, 'ERR_LIMIT_CPU'], ['/wait', { wallMs: 10 }, 'ERR_LIMIT_WALL'],
  ] as const) {
    const stopped = ask(image, state, { path, limits })
    t.equal(stopped.run.kill?.error.code, code)
    t.same(stopped.run.kept, { kind: 'lost' })
  }
  const waiting = begin(image, state, { path: '/wait' })
  executor.cancel(waiting)
  t.equal(ended.get(waiting)?.run.kill?.outcome, 'canceled')
  t.same(ended.get(waiting)?.run.kept, { kind: 'lost' })
  t.equal(ask(image, state).body, '2', 'what was kept before still goes on')
  t.end()
})

await t.test('a recursion that ends in a trap is lost, one that the engine stops is not', (t) => {
  const { ask } = sessions()
  const image = engine.image('let n = 0; export default { fetch() { ++n; const dive = () => dive() + 1; return new Response(String(dive())) } }')
  const answer = ask(image, null)
  t.match(answer.run.failure?.message, /call stack/)
  t.equal(answer.run.kept.kind === 'kept', !answer.run.trapped)
  t.end()
})

await t.test('a machine that is larger than may be kept says so, after its answer', (t) => {
  const { ask } = sessions()
  const image = engine.image('const kept = []; export default { fetch() { for (let i = 0; i < 100; i++) kept.push(crypto.getRandomValues(new Uint8Array(1024))); return new Response(String(kept.length)) } }')
  const answer = ask(image, null, { keepMaxBytes: 64 * KIB })
  t.equal(answer.body, '100')
  t.same(answer.run.kept, { kind: 'tooLarge' })
  t.equal(ask(image, stateOf(ask(image, null))).body, '200')
  t.end()
})

await t.test('timers are gone, other operations reject with AbortError, and nothing of them holds the next request', (t) => {
  const image = engine.image(`
  export default { async fetch(r, env, ctx) { ctx.waitUntil(fetch('http://elsewhere/')); return new Response('left') } }`)
  const left = sessions().ask(image, null)
  t.equal(left.body, 'left')
  t.equal(left.run.kill?.error.code, 'ERR_LIMIT_WALL', 'what it said to wait for is waited for')
  t.same(left.run.kept, { kind: 'lost' })
  const { ask, logs } = sessions()
  const quick = engine.image(`const events = []; let pending
  export default { async fetch(r) { const { pathname } = new URL(r.url)
    if (pathname === '/leave') {
      setInterval(() => events.push('interval'), 10); setTimeout(() => events.push('timer'), 10)
      pending = fetch('http://elsewhere/').then(() => 'fetched', (error) => error.name)
      fetch('http://elsewhere/')
      return new Response('left')
    }
    if (pathname === '/wait') await new Promise((resolve) => setTimeout(resolve, 50))
    return Response.json([await pending, events]) } }`)
  let state = stateOf(ask(quick, null, { path: '/leave' }))
  const answer = ask(quick, state, { path: '/wait' })
  t.same(JSON.parse(answer.body), ['AbortError', []])
  state = stateOf(answer)
  t.same(JSON.parse(ask(quick, state).body), ['AbortError', []])
  t.same(logs.filter((line) => line.includes('Uncaught')), [], 'whoever gave up need not be told')
  t.end()
})

await t.test('a promise of an earlier request that settles late answers nothing', (t) => {
  const { ask } = sessions()
  const image = engine.image(`let resolveOld; export default { fetch(r, env, ctx) { const { pathname } = new URL(r.url)
    if (pathname === '/old') return new Promise((resolve) => (resolveOld = resolve))
    resolveOld(new Response('of the old request'))
    ctx.waitUntil(new Promise((resolve) => setTimeout(resolve, 20)).then(() => console.log('waited')))
    return new Promise((resolve) => setTimeout(() => resolve(new Response('of the new request')), 10)) } }`)
  const hung = ask(image, null, { path: '/old' })
  t.equal(hung.run.kill?.error.code, 'ERR_FUNCTION_HUNG')
  const answer = ask(image, stateOf(hung))
  t.equal(answer.body, 'of the new request')
  t.equal(answer.run.done, true, 'its own waitUntil was waited for')
  t.end()
})

await t.test('the body of an earlier request is not there in a later one', (t) => {
  const { ask } = sessions()
  const image = engine.image(`let old; export default { async fetch(r) {
    if (old === undefined) { old = r; return new Response('kept') }
    const stale = await old.text().catch((error) => error.name)
    return Response.json([stale, await r.text()]) } }`)
  const first = ask(image, null, { body: 'first' })
  t.same(JSON.parse(ask(image, stateOf(first), { body: 'second' }).body), ['AbortError', 'second'])
  t.end()
})

await t.test('callback handlers are not held up by what an earlier request left', (t) => {
  const { executor, run, ended } = sessions()
  const image = engine.image('let n = 0; export const handler = (event, context, callback) => { if (n++ === 0) { context.callbackWaitsForEmptyEventLoop = false; fetch("http://h/").catch((error) => callback(error)) } callback(null, n) }')
  const ask = (state: Uint8Array | null): Ended => {
    const id = run(image, 'request\n127.0.0.1\nPOST\narn', { call: callNumber(1, 'POST', 1), body: Buffer.from('{}'), keepMaxBytes: MIB, state })
    executor.runTimers()
    const answer = ended.get(id)
    if (answer === undefined) throw new Error('it waits')
    return answer
  }
  const first = ask(null)
  t.equal(first.body, '1')
  const second = ask(stateOf(first))
  t.equal(second.body, '2')
  t.equal(second.run.failure, null)
  t.end()
})

await t.test('each resume has randomness and a clock of its own', (t) => {
  let epochMs = 1_000
  const { ask } = sessions({ epochMs: () => (epochMs += 1_000) })
  const image = engine.image('export default { fetch: () => Response.json([Math.random(), crypto.randomUUID(), Date.now()]) }')
  const state = stateOf(ask(image, null))
  const answers = Array.from({ length: 20 }, () => JSON.parse(ask(image, state).body) as unknown[])
  for (const index of [0, 1, 2]) t.equal(new Set(answers.map((answer) => answer[index])).size, 20)
  t.end()
})

await t.test('a machine does not grow by what its requests used, and cycles are collected', (t) => {
  const { ask } = sessions()
  const image = engine.image(`let n = 0; export default { async fetch(r) { for (let i = 0; i < 40; i++) { const a = { text: 'x'.repeat(50) + i }; a.self = a }
    return Response.json({ n: ++n, body: await r.text() + 'y'.repeat(5000) }) } }`)
  let state: Uint8Array | null = null
  let largest = 0
  for (let n = 1; n <= 150; n++) {
    const answer = ask(image, state, { body: 'z'.repeat(3_000 + n) })
    t.match(JSON.parse(answer.body), { n })
    state = stateOf(answer)
    largest = Math.max(largest, state.length)
  }
  t.ok(largest < 160 * KIB, `${largest} bytes`)
  t.end()
})

await t.test('a session that waits is parked and goes on elsewhere with its state', (t) => {
  const { executor, begin, finish } = sessions({ slotCount: 1 })
  const image = engine.image('let n = 0; export default { async fetch() { n++; await new Promise((resolve) => setTimeout(resolve, 100)); return Response.json(++n) } }')
  let states: (Uint8Array | null)[] = [null, null, null]
  for (let round = 1; round <= 3; round++) {
    const ids = states.map((state) => begin(image, state))
    t.ok(executor.parkedCount >= 2)
    states = ids.map((id) => {
      const answer = finish(id)
      t.equal(answer.body, String(round * 2))
      return stateOf(answer)
    })
  }
  t.end()
})

const program = fc.array(fc.record({
  action: fc.constantFrom('set', 'delete', 'grow', 'shrink', 'fill', 'closure', 'garbage', 'throw', 'timer', 'reject', 'sort'),
  key: fc.nat(20), value: fc.integer(), length: fc.nat(3_000),
}), { maxLength: 8 })

/** Keeps its state in many kinds of objects; what they hold together is what it answers. */
const PROGRAM = `
const map = new Map(), floats = new Float64Array(4000), list = []; let buffers = [], closures = [], rejected = 0
const acts = {
  set: ({ key, value }) => { map.set('k' + key, { value, text: 't'.repeat(key) }) },
  delete: ({ key }) => { map.delete('k' + key) },
  grow: ({ length, value }) => { buffers.push(new Uint8Array(length * 20).fill(value)) },
  shrink: () => { buffers = buffers.slice(1) },
  fill: ({ key, value, length }) => { floats.fill(value, key * 100, key * 100 + length) },
  closure: ({ value }) => { const before = closures.at(-1) ?? (() => 0); closures.push(() => before() + value) },
  garbage: ({ length }) => { for (let i = 0; i < length; i++) { const a = { i }; a.a = a } },
  throw: () => { throw new Error('thrown') },
  timer: () => { setTimeout(() => { list.push('never') }, 1e6) },
  reject: () => { fetch('http://h/').catch(() => { rejected++ }) },
  sort: () => { list.push(list.length * 7919 % 101); list.sort((a, b) => a - b) },
}
const digest = () => JSON.stringify([[...map], floats.reduce((a, b) => a + b, 0), list, buffers.map((b) => [b.length, b[0]]), closures.at(-1)?.(), closures.length])
export default { async fetch(r) { const steps = JSON.parse(await r.text()); try { for (const step of steps) acts[step.action](step) } catch {} return new Response(digest()) } }`

await t.test('whatever requests a session makes, it answers as one machine that is never captured would', (t) => {
  const image = engine.image(PROGRAM)
  const whole = sessions()
  fc.assert(fc.property(fc.array(program, { minLength: 1, maxLength: 6 }), fc.boolean(), (requests, collectEachTime) => {
    const { ask } = sessions({ slotCount: 1 })
    let state: Uint8Array | null = null
    for (const [index, steps] of requests.entries()) {
      const answer = ask(image, state, { body: JSON.stringify(steps) })
      // A throw ends a request's steps: those of the others still count.
      const upTo = requests.slice(0, index + 1).flatMap((each) => each.slice(0, each.findIndex(({ action }) => action === 'throw') === -1 ? each.length : each.findIndex(({ action }) => action === 'throw')))
      const expected = whole.ask(image, null, { body: JSON.stringify(upTo), keepMaxBytes: 0 })
      if (answer.body !== expected.body) throw new Error(`${answer.body} instead of ${expected.body}`)
      state = stateOf(answer)
      if (collectEachTime) setCollectAbove(state, 0)
    }
  }), { numRuns: Number(process.env['OUTPOST_ORACLE_RUNS'] ?? 25) })
  t.end()
})

await t.test('a state that is altered, cut, of another image or too large is refused or is just another guest', (t) => {
  const other = engine.image('let n = 5; export default { fetch: () => Response.json(++n) }')
  const { ask, executor, incidents } = sessions()
  const good = stateOf(ask(counter, stateOf(ask(counter, null))))
  const view = (state: Uint8Array): DataView => new DataView(state.buffer, state.byteOffset, state.byteLength)
  const altered = (change: (view: DataView) => void): Uint8Array => {
    const state = Uint8Array.from(good)
    change(view(state))
    return state
  }
  const runsAt = 48 + view(good).getUint32(40, true) * 8
  const refused: readonly (readonly [string, Uint8Array, ResidentImage])[] = [
    ['nothing', new Uint8Array(0), counter],
    ['cut in its header', good.subarray(0, 40), counter],
    ['cut in its globals', good.subarray(0, 52), counter],
    ['cut within a run', good.subarray(0, good.length - 4), counter],
    ['not of whole words', good.subarray(0, good.length - 1), counter],
    ['of another image', good, other],
    ['another format', altered((at) => at.setUint32(32, 9, true)), counter],
    ['smaller than its image', altered((at) => at.setUint32(36, 1, true)), counter],
    ['beyond the limit', altered((at) => at.setUint32(36, 65_535, true)), counter],
    ['more globals', altered((at) => at.setUint32(40, 400, true)), counter],
    ['a global that is no integer', altered((at) => at.setFloat64(48, Number.NaN, true)), counter],
    ['a run beyond its memory', altered((at) => at.setUint32(runsAt, 0xffff_ff01, true)), counter],
  ]
  for (const [what, state, image] of refused) {
    const answer = ask(image, state)
    t.equal(answer.run.kill?.error.code, 'ERR_SESSION_STATE', what)
    t.same(answer.run.kept, { kind: 'lost' }, what)
  }
  // Authentication keeps these out; should one get in, it is a guest with odd memory, which the reset does away with.
  fc.assert(fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 40 }), (bytes) => {
    const state = Uint8Array.from(good)
    for (const [at, byte] of bytes) state[at] = byte
    ask(counter, state, { limits: { cpuMs: 20, memoryMib: 24, wallMs: 100 } })
  }), { numRuns: 120 })
  idle(executor)
  t.same(incidents, [])
  t.equal(ask(counter, null).body, '1')
  t.end()
})

function idle(executor: Executor): void {
  while (executor.idle(true));
}
