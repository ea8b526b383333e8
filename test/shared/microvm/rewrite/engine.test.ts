/** The rewritten engine with its extensions behaves as the plain one, and its flags tell all that it wrote. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { createEngine, engineFile, EXTENSIONS, type TestEngine } from './engine.ts'
import { DIRTY_TAIL_BYTES, FLAGS_BYTES, rewriteModule } from '../../../../shared/microvm/rewrite/index.ts'

const GRANULE = 512

const SCRIPTS: readonly (readonly [what: string, source: string])[] = [
  ['arithmetic', '1+1'],
  ['objects and JSON', 'JSON.stringify(Array.from({ length: 500 }, (_, i) => ({ id: i, name: "n" + i, tags: [i, i * 2] }))).length'],
  ['regular expressions', '"the quick brown fox".replace(/(\\w+) (\\w+)/g, "$2 $1")'],
  ['typed arrays', 'let f = new Float64Array(3000); f.fill(1.5); f.copyWithin(10, 2000); f.subarray(1).set(f.subarray(0, 500)); f.reduce((a, b) => a + b)'],
  ['native URL', 'let u = new URL("http://exämple.com:80/a/../b?c=d#e"); u.href + u.host + u.pathname'],
  ['encodings', 'new TextDecoder().decode(new TextEncoder().encode("grüße ☃".repeat(100))).length'],
  ['headers', 'let h = new Headers({ a: "b" }); h.append("A", "c"); h.get("a")'],
  ['structured clone', 'JSON.stringify(structuredClone({ a: [1, new Date(0), new Map([[1, 2]])] }))'],
  ['growth', 'let list = []; for (let i = 0; i < 40; i++) list.push(new Uint8Array(65536).fill(i)); list.length'],
  ['errors', 'try { null.x } catch (error) { String(error) }'],
  ['large copies', 'let s = "abcdef".repeat(60000); s.slice(1, 250000).length'],
  ['large fills', 'new Uint8Array(300000).fill(3).length'],
  ['deep recursion', '(function f() { try { return 1 + f() } catch { return 0 } })() > 10'],
]

t.test('scripts give what they give in the plain engine', async (t) => {
  const plain = createEngine('plain')
  const rewritten = createEngine('rewritten')
  for (const [what, source] of SCRIPTS) t.equal(rewritten.evaluate(`{ ${source} }`), plain.evaluate(`{ ${source} }`), what)
})

t.test('copying back dirty pages and 16 bytes past each restores memory byte for byte', async (t) => {
  for (const [what, source] of SCRIPTS) {
    const engine = createEngine('rewritten')
    engine.evaluate('globalThis.kept = { list: [1, 2, 3], url: new URL("http://a.b/") }')
    const image = capture(engine)
    engine.evaluate(`{ ${source} }`)
    const dirty = restore(engine, image)
    t.ok(dirty > 0, `${what} dirtied pages`)
    t.ok(sameState(engine, image), `${what}: memory, globals and size are as before`)
    t.equal(engine.evaluate('kept.list.length + kept.url.host'), '3a.b', `${what}: the engine goes on`)
  }
})

t.test('dropping the marking of a kind of store breaks the restore', async (t) => {
  for (const kind of ['i32.store', 'i64.store', 'i32.store8', 'memory.copy', 'memory.fill'] as const) {
    const engine = createEngine('rewritten', { omitMarking: kind })
    // Each script from its own copy, because a page that another kind marked is put back all the same.
    const noticed = SCRIPTS.some(([, source]) => {
      const image = capture(engine)
      engine.evaluate(`{ ${source} }`)
      restore(engine, image)
      return !sameState(engine, image)
    })
    t.ok(noticed, kind)
  }
})

t.test('fuel ends a native loop and a script loop', async (t) => {
  for (const source of ['for (;;) ;', '"a".repeat(1e8)', 'new Uint8Array(1e6).map(() => 1); for (;;) new Array(1e6).fill(0).sort()', '/(x+x+)+y/.test("x".repeat(40))']) {
    const engine: TestEngine = createEngine('rewritten', { extensions: [], refuel: () => 1 })
    engine.setFuel(300_000)
    t.throws(() => engine.evaluate(source), WebAssembly.RuntimeError, source)
    t.equal(engine.refuels, 1, 'it asked once')
  }
})

t.test('engine and extensions rewrite in bounded time', async (t) => {
  const names = ['engine', ...EXTENSIONS]
  for (const name of names) rewriteModule(engineFile(name), { selfResolve: true, maximumPages: 4096 })
  const start = performance.now()
  const rewritten = rewriteModule(engineFile('engine'), { selfResolve: true, maximumPages: 4096 })
  // 60 to 100 ms on a machine of 2024; the bound leaves room for a busy one.
  t.ok(performance.now() - start < 1_500)
  t.ok(rewritten.counts.stores > 6_000 && rewritten.counts.bulk > 100 && rewritten.counts.payments > 1_000)
  // As published: inlining multiplies stores, and with them what is added.
  const published = readFileSync(fileURLToPath(import.meta.resolve('quickjs-wasi/quickjs.wasm')))
  t.ok(rewriteModule(published, { selfResolve: true, maximumPages: 4096 }).bytes.length < published.length * 1.4)
})

interface State {
  readonly memory: Uint8Array
  readonly globals: readonly number[]
}

/** A copy of all state, with flags cleared. */
function capture(engine: TestEngine): State {
  new Uint8Array(engine.flags.buffer, 0, FLAGS_BYTES).fill(0)
  return { memory: new Uint8Array(engine.memory.buffer).slice(), globals: engine.globals.map(valueOf) }
}

/** Puts back only what the flags tell. Returns the number of dirty granules. */
function restore(engine: TestEngine, image: State): number {
  const memory = new Uint8Array(engine.memory.buffer)
  const flags = new Uint8Array(engine.flags.buffer, 0, FLAGS_BYTES)
  let dirty = 0
  flags.forEach((flag, granule) => {
    if (flag === 0) return
    dirty++
    const end = Math.min((granule + 1) * GRANULE + DIRTY_TAIL_BYTES, memory.length)
    memory.fill(0, granule * GRANULE, end)
    if (granule * GRANULE < image.memory.length) memory.set(image.memory.subarray(granule * GRANULE, end), granule * GRANULE)
  })
  engine.globals.forEach((global, index) => { global.value = image.globals[index] ?? 0 })
  return dirty
}

function sameState(engine: TestEngine, image: State): boolean {
  const memory = Buffer.from(engine.memory.buffer)
  return memory.subarray(0, image.memory.length).equals(image.memory)
    && memory.subarray(image.memory.length).every((byte) => byte === 0)
    && engine.globals.every((global, index) => valueOf(global) === image.globals[index])
}

function valueOf(global: WebAssembly.Global): number {
  return Number(global.value)
}
