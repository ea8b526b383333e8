import fc from 'fast-check'
import t from 'tap'
import wabt from 'wabt'
import { GUEST_MEMORY_MAX_PAGES, loadEngine } from '../../../shared/microvm/engine.ts'
import { createMemories } from '../../../shared/microvm/instance.ts'
import { bindPageOps, compilePageOps } from '../../../shared/microvm/page-ops.ts'
import { CONTROL_OFFSET, rewriteModule, STORE_KINDS, type StoreKind } from '../../../shared/microvm/rewrite/index.ts'
import { testEngine, type TestEngine, testExecutor } from '../../support/engine.ts'
import { difference } from '../../support/oracle.ts'

/** Every array lies in the image, so that a store into it dirties a page that nothing else writes. */
const GUEST = `
const arrays = {
  i8: new Int8Array(65536), i16: new Int16Array(32768), i32: new Int32Array(16384), f32: new Float32Array(16384),
  f64: new Float64Array(8192), i64: new BigInt64Array(8192), u8: new Uint8Array(65536).fill(7),
}
const kept = [], dates = new Array(1024).fill(0.25), numbers = Array.from({ length: 3000 }, (_, i) => i + 0.5), floats = Float64Array.from({ length: 9000 }, (_, i) => (i * 7919) % 9001)
const registry = new Map([['a', 1]])
let text = 'x'.repeat(10000)
const actions = {
  store: ({ array, at, value }) => { arrays[array][at % arrays[array].length] = array === 'i64' ? BigInt(value) : value },
  fill: ({ array, at, value, length }) => { arrays[array].fill(array === 'i64' ? BigInt(value) : value, at, at + length) },
  copy: ({ array, at, length }) => { arrays[array].copyWithin(at, 0, length) },
  set: ({ at, length }) => { arrays.u8.set(arrays.i8.subarray(0, length), at % (65536 - length)) },
  view: ({ at, value }) => {
    const view = new DataView(arrays.i16.buffer), base = at % 60000
    view.setInt8(base, value); view.setInt16(base + 4096 * (at % 3), value); view.setUint32(base, value, true); view.setFloat64(base, value); view.setFloat32(base, value); view.setBigInt64(base, BigInt(value))
  },
  date: ({ value }) => { const date = new Date(value); date.setUTCHours(5, 6, 7, 8); dates[value & 1023] = date.getTime() + 0.5; kept.push(date.toISOString()) },
  sort: ({ value }) => { numbers.sort((a, b) => (a * value) % 17 - (b * value) % 17); floats.sort() },
  retain: ({ length }) => { kept.push(new Array(length % 1000).fill({ a: length })) },
  grow: ({ length }) => { kept.push(new Uint8Array((length % 64) * 65536).fill(3)) },
  string: ({ length }) => { text += 'yz'.repeat(length % 5000); kept.push(text.split('z').length) },
  map: ({ at, value }) => { registry.set('k' + at, value); registry.delete('a') },
  json: ({ value }) => { kept.push(JSON.parse(JSON.stringify({ value, arrays: Array.from(arrays.i8.subarray(0, 50)) }))) },
  regexp: ({ at }) => { kept.push(/(a+)+b/.exec('aaaaaaaa' + at)) },
  prototype: ({ value }) => { Array.prototype.extra = value; globalThis.leak = value; Object.defineProperty(Math, 'PI2', { value }) },
  url: ({ at }) => { kept.push(new URL('http://host/' + at + '?a=b')); new TextEncoder().encode(text) },
  clone: () => { kept.push(structuredClone([...registry])) },
  closure: ({ value }) => { let f = () => value; for (let i = 0; i < 20; i++) { const g = f; f = () => g() + 1 } kept.push(f()) },
  random: () => { kept.push(Math.random(), Date.now()) },
}
const endings = {
  normal: () => 'done',
  throw: () => { throw new TypeError('thrown') },
  loop: () => { for (;;) kept.push(1) },
  spin: () => { for (;;); },
  recursion: () => { const dive = (n) => dive(n + 1) + 1; return dive(0) },
  caughtRecursion: () => { const dive = (n) => dive(n + 1) + 1; try { return dive(0) } catch (error) { return String(error) } },
  memory: () => { for (;;) kept.push(new Uint8Array(1 << 20).fill(1)) },
  memoryCaught: () => { try { for (;;) kept.push(new Uint8Array(1 << 20)) } catch (error) { return 'caught' } },
  microtasks: async () => { for (;;) await null },
  waits: () => sleep(5).then(() => { arrays.f64[1] = 2; return 'late' }),
  waitsForever: () => sleep(1e9),
  hangs: () => new Promise(() => {}),
  unhandled: () => { Promise.reject(new Error('unhandled')); return 'done' },
  badRegexp: () => /^(([a-z])+.)+[A-Z]([a-z])+$/.test('a'.repeat(60)),
}
export default (head) => {
  const { steps, ending } = JSON.parse(head)
  for (const [name, argument] of steps) actions[name](argument)
  return endings[ending]()
}`

const ACTIONS = ['store', 'fill', 'copy', 'set', 'view', 'date', 'sort', 'retain', 'grow', 'string', 'map', 'json', 'regexp', 'prototype', 'url', 'clone', 'closure', 'random']
const ENDINGS = [
  'normal', 'throw', 'loop', 'spin', 'recursion', 'caughtRecursion', 'memory', 'memoryCaught', 'microtasks', 'waits', 'waitsForever', 'hangs', 'unhandled', 'badRegexp',
]

const step = fc.tuple(fc.constantFrom(...ACTIONS), fc.record({
  array: fc.constantFrom('i8', 'i16', 'i32', 'f32', 'f64', 'i64', 'u8'), at: fc.nat(65_535), value: fc.integer({ min: -1_000_000, max: 1_000_000 }), length: fc.nat(20_000),
}))
const guestRun = fc.record({ steps: fc.array(step, { maxLength: 12 }), ending: fc.constantFrom(...ENDINGS), interference: fc.constantFrom('none', 'cancel', 'crowd') })

/**
 * Kinds that a JavaScript guest brings to a page which no other kind of store also dirties. The engine has others (in
 * its sscanf, and spills to a stack that is dirty anyway); for those the second mutation test stands.
 */
const REACHED_BY_JAVASCRIPT = ['i32.store', 'i64.store', 'f32.store', 'i32.store8', 'i32.store16', 'memory.fill', 'memory.copy'] as const satisfies readonly StoreKind[]

interface Bench {
  readonly engine: TestEngine
  readonly check: (run: { steps: unknown; ending: string; interference: string }) => string | null
}

/** Runs one random guest to its end, whatever that is, and judges every slot. */
function bench(engine: TestEngine): Bench {
  const image = engine.image(GUEST)
  const other = engine.image('export default () => sleep(20).then(() => "other")')
  let nowMs = 0
  let canceled = -1
  const { executor, run } = testExecutor(engine, { slotCount: 2, nowMs: () => nowMs + performance.now(), isCanceled: (id) => id === canceled })
  return {
    engine,
    check({ steps, ending, interference }) {
      const id = run(image, JSON.stringify({ steps, ending }), { limits: { cpuMs: 20, memoryMib: 24 } })
      if (interference === 'cancel') executor.cancel(id)
      if (interference === 'crowd') for (let each = 0; each < 3; each++) run(other)
      for (let turn = 0; turn < 40 && executor.runCount > 0; turn++) {
        nowMs += 1_000
        executor.runTimers()
      }
      if (executor.runCount > 0) return 'runs are left'
      while (executor.idle(false));
      canceled = -1
      for (const slot of executor.idleSlots) {
        const found = difference(engine.arena, slot)
        if (found !== null) return found
      }
      return null
    },
  }
}

await t.test('whatever a guest did and however it ended, its slot equals its image bit for bit', (t) => {
  const { check } = bench(testEngine())
  fc.assert(fc.property(guestRun, (run) => {
    const found = check(run)
    if (found !== null) throw new Error(found)
  }), { numRuns: Number(process.env['OUTPOST_ORACLE_RUNS'] ?? 120) })
  t.end()
})

/** Guests that between them use every kind of store that the engine has. */
const WORKLOAD = [
  ...['i8', 'i16', 'i32', 'f32', 'f64', 'i64', 'u8'].flatMap((array) => [4_000, 60_000].map((at) => ['store', { array, at, value: 5, length: 0 }] as const)),
  ...['i8', 'i16', 'i32', 'f32', 'f64', 'i64'].map((array) => ['fill', { array, at: 1_000, value: 9, length: 7_000 }] as const),
  ['copy', { array: 'u8', at: 30_000, value: 0, length: 8_000 }] as const,
  ['set', { array: 'u8', at: 20_000, value: 0, length: 9_000 }] as const,
  ...ACTIONS.slice(4).map((action) => [action, { array: 'i8', at: 777, value: 12, length: 4_321 }] as const),
]

await t.test('the oracle fails when the marking of one kind of store is left out of the engine', (t) => {
  for (const kind of REACHED_BY_JAVASCRIPT) {
    const { check } = bench(testEngine({ engine: loadEngine({ omitMarking: kind }) }))
    const found = check({ steps: WORKLOAD, ending: 'normal', interference: 'none' }) ?? check({ steps: WORKLOAD, ending: 'throw', interference: 'none' })
    t.not(found, null, `${kind}: ${String(found)}`)
  }
  t.end()
})

await t.test('the oracle fails for every kind of store that a module can use, when its marking is left out', async (t) => {
  const assembler = await wabt()
  const operand = { i32: '(i32.const -1)', i64: '(i64.const -1)', f32: '(f32.const 1)', f64: '(f64.const 1)', v128: '(v128.const i64x2 -1 -1)' }
  const instruction = (kind: StoreKind): string => {
    if (kind === 'memory.fill') return '(memory.fill (i32.const 8192) (i32.const 5) (i32.const 300))'
    if (kind === 'memory.copy') return '(memory.copy (i32.const 8192) (i32.const 0) (i32.const 300))'
    if (kind === 'memory.init') return '(memory.init 0 (i32.const 8192) (i32.const 0) (i32.const 4))'
    const lane = kind.endsWith('_lane') ? '1 ' : ''
    return `(${kind} ${lane}(i32.const 8192) ${operand[kind.slice(0, kind.indexOf('.')) as keyof typeof operand]})`
  }
  for (const kind of STORE_KINDS) {
    const source = `(module (memory (export "memory") 1) (data "abcd") (func (export "run") ${instruction(kind)}))`
    const parsed = assembler.parseWat('kind.wat', source, { simd: true, bulk_memory: true })
    const original = parsed.toBinary({}).buffer
    t.equal(leftover(original), null, `${kind} marked: nothing is left after a reset`)
    t.not(leftover(original, kind), null, `${kind} not marked: something is left`)
  }
})

/** Runs `run` in a rewritten module over a memory that begins with "zzz...", resets it, and tells what is left. */
function leftover(original: Uint8Array, omitMarking?: StoreKind): number | null {
  const rewritten = rewriteModule(original, { selfResolve: false, maximumPages: GUEST_MEMORY_MAX_PAGES, ...(omitMarking === undefined ? {} : { omitMarking }) })
  const { memory, flags } = createMemories(1)
  const arena = new WebAssembly.Memory({ initial: 1, maximum: 16, shared: true })
  // A page table of two entries at 4096: page 0 is the frame at 8192, all else zeros.
  new Int32Array(arena.buffer, 4096, 2)[0] = 8192
  new Uint8Array(arena.buffer, 8192, 4096).fill(122)
  new Uint8Array(memory.buffer, 0, 4096).fill(122)
  const control = new Int32Array(flags.buffer, CONTROL_OFFSET, 3)
  control.set([1000, 1, 1])
  const instance = new WebAssembly.Instance(new WebAssembly.Module(rewritten.bytes), { outpost: { memory, flags, refuel: () => 1 } })
  const run = instance.exports['run'] as () => void
  run()
  if (Buffer.from(memory.buffer).subarray(8192).every((byte) => byte === 0)) throw new Error('the store did nothing')
  bindPageOps(compilePageOps(), arena, memory, flags).reset(4096, 2, 16)
  const left = Buffer.from(memory.buffer).findIndex((byte, at) => byte !== (at < 4096 ? 122 : 0))
  return left === -1 ? null : left
}
