/**
 * Guest time of one invocation in the prelude, on the stock engine: `dispatch` and the jobs it leaves, host calls
 * answered by stubs that read nothing, strings made before the clock starts, reset excluded. Each case runs twice:
 * `repeat` calls again in the same machine, `reset` restores the pages that a call dirties before each call, as in
 * production. The tracked engine is about 1.15 times slower.
 *
 *   node bench/guest-prelude.ts [--count N] [--case NAME]
 */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { EvalFlags, QuickJS, type JSValueHandle } from 'quickjs-wasi'
import { callNumber, HOST_CALLS } from '../shared/guest/abi.ts'
import { bundlePrelude } from '../shared/guest/bundle.ts'

const PAGE_BYTES = 4096

/** The exports used here; handles are numbers. */
interface Exports {
  readonly memory: WebAssembly.Memory
  readonly __stack_pointer: WebAssembly.Global
  qjs_call(func: number, self: number, count: number, values: number): number
  qjs_dup_value(value: number): number
  qjs_free_value(value: number): void
  qjs_get_undefined(): number
  qjs_is_job_pending(): number
  qjs_execute_pending_job(): number
  qjs_is_promise(value: number): number
  qjs_promise_result(value: number): number
  qjs_is_exception(value: number): number
  qjs_run_gc(): void
  qjs_set_gc_threshold(bytes: number): void
  wasm_malloc(bytes: number): number
}

interface Case {
  readonly name: string
  readonly source: string
  readonly kind: 0 | 1
  readonly bodyState: 0 | 1
  readonly body: string
  readonly headers: string
  /** Bar on the tracked engine, us; null for comparison only. */
  readonly barUs: number | null
}

const BROWSER_HEADERS = 'host\nhello.localhost\nuser-agent\nMozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\naccept\n*/*\naccept-encoding\ngzip, br\naccept-language\nen\ncontent-type\napplication/json\nx-forwarded-for\n203.0.113.9'
const JSON_BODY = '{"name":"Ada","count":3,"tags":["a","b"]}'

const CASES: readonly Case[] = [
  { name: 'text', source: `export default { async fetch() { return new Response("ok") } }`, kind: 0, bodyState: 0, body: '', headers: BROWSER_HEADERS, barUs: 10 },
  { name: 'text-sync', source: `export default { fetch() { return new Response("ok") } }`, kind: 0, bodyState: 0, body: '', headers: BROWSER_HEADERS, barUs: null },
  { name: 'json-echo', source: `export default { async fetch(request) { const b = await request.json(); return Response.json({ hello: b.name, count: b.count + 1 }) } }`, kind: 0, bodyState: 1, body: JSON_BODY, headers: BROWSER_HEADERS, barUs: 16 },
  { name: 'event', source: `export const handler = async (event) => ({ hello: event.name, count: event.count + 1 })`, kind: 1, bodyState: 1, body: JSON_BODY, headers: '', barUs: 7 },
  { name: 'router', source: `export default { async fetch(request) { const url = new URL(request.url); if (request.method === "GET" && url.pathname === "/hello") return new Response("hello " + url.searchParams.get("name"), { headers: { "x-a": "b" } }); return new Response("no", { status: 404 }) } }`, kind: 0, bodyState: 0, body: '', headers: BROWSER_HEADERS, barUs: null },
  { name: 'headers', source: `export default { async fetch(request) { return new Response(request.headers.get("user-agent"), { status: 201, headers: { "content-type": "text/html", "cache-control": "no-store" } }) } }`, kind: 0, bodyState: 0, body: '', headers: BROWSER_HEADERS, barUs: null },
  { name: 'http-event', source: `export const handler = async (event) => ({ statusCode: 200, headers: { "content-type": "text/plain" }, body: event.rawPath })`, kind: 0, bodyState: 0, body: '', headers: BROWSER_HEADERS, barUs: null },
]

const read = (name: string): Uint8Array<ArrayBuffer> => readFileSync(new URL(import.meta.resolve(`quickjs-wasi/${name}`)))

class Bench {
  readonly exports: Exports
  readonly #vm: QuickJS
  #hostCalls = 0
  #bodyText = 0
  #responded = 0
  #loop: number | null = null
  readonly #undefined: number

  private constructor(vm: QuickJS) {
    this.#vm = vm
    this.exports = (vm as unknown as { _getExports(): Exports })._getExports()
    this.#undefined = this.exports.qjs_get_undefined()
  }

  static async create(script: string): Promise<Bench> {
    const vm = await QuickJS.create({ wasm: read('quickjs.wasm'), extensions: ['url', 'encoding', 'headers', 'structured-clone'].map((name) => ({ name, wasm: read(`${name}.so`) })) })
    const bench = new Bench(vm)
    const host = vm.newObject()
    for (const [name, letter] of Object.entries(HOST_CALLS)) vm.setProp(host, name, vm.newFunction(letter, () => vm.undefined))
    const fast = vm as unknown as { handleHostCall(namePointer: number): number }
    fast.handleHostCall = (namePointer) => bench.#hostCall(namePointer)
    const entries = vm.callFunction(vm.evalCode(script, 'prelude.js'), vm.undefined, host)
    bench.entry = (name) => entries.getProp(name)
    return bench
  }

  entry: (name: string) => JSValueHandle = () => this.#vm.undefined

  #hostCall(namePointer: number): number {
    this.#hostCalls++
    const letter = new Uint8Array(this.exports.memory.buffer)[namePointer]
    if (letter === 114) this.#responded++ // r
    return this.exports.qjs_dup_value(letter === 116 ? this.#bodyText : this.#undefined) // t
  }

  async load(test: Case): Promise<(times: number[] | null) => void> {
    const vm = this.#vm
    const configuration = { vars: {}, secretNames: [], functionName: 'hello', version: '1', memoryMib: 128, accountId: '1', arn: 'arn:aws:lambda:local:1:function:hello', handlerExport: null }
    vm.callFunction(this.entry('configure'), vm.undefined, vm.newString(JSON.stringify(configuration)))
    const evaluated = vm.resolvePromise(vm.evalCode(test.source, 'bundle.js', EvalFlags.TYPE_MODULE))
    vm.executePendingJobs()
    const module = await evaluated
    if ('error' in module) throw new Error(module.error.toString())
    const kind = vm.callFunction(this.entry('load'), vm.undefined, module.value).toString()
    if (kind === '') throw new Error('no handler')
    const head = vm.newString(`0b7c9d1e-4a52-4e9a-9f2e-0f3f3f3f3f3f\n203.0.113.9\n${test.body === '' ? 'GET' : 'POST'}\nhttp://hello.localhost/hello?name=ada\n${test.headers}`.replace(/\n$/, ''))
    this.#bodyText = vm.newString(test.body).ptr
    const { exports } = this
    const dispatch = this.entry('dispatch').ptr
    const self = vm.undefined.ptr
    const values = exports.wasm_malloc(12)
    const call = vm.newNumber(callNumber(test.kind, test.body === '' ? 'GET' : 'POST', test.bodyState)).ptr
    exports.qjs_set_gc_threshold(1 << 28)
    const settled = this.entry('settled').ptr
    const fulfilled = vm.newNumber(1).ptr
    return (times) => {
      new Uint32Array(exports.memory.buffer, values, 2).set([call, head.ptr])
      const start = process.hrtime.bigint()
      const result = exports.qjs_call(dispatch, self, 2, values)
      while (exports.qjs_is_job_pending() !== 0) exports.qjs_execute_pending_job()
      if (exports.qjs_is_promise(result) !== 0) {
        new Uint32Array(exports.memory.buffer, values, 2).set([fulfilled, exports.qjs_promise_result(result)])
        exports.qjs_call(settled, self, 2, values)
        while (exports.qjs_is_job_pending() !== 0) exports.qjs_execute_pending_job()
      }
      const end = process.hrtime.bigint()
      if (exports.qjs_is_exception(result) !== 0) throw new Error('dispatch threw')
      exports.qjs_free_value(result)
      times?.push(Number(end - start) / 1000)
    }
  }

  /** A fixed loop in the same engine: how fast this machine is right now. */
  reference(times: number[] | null): void {
    const { exports } = this
    this.#loop ??= this.#vm.evalCode('(() => { const list = [1, 2, 3]; return () => { let sum = 0; for (let i = 0; i < 80; i++) sum += list[i % 3] * i; return sum } })()').ptr
    const start = process.hrtime.bigint()
    const result = exports.qjs_call(this.#loop, this.#vm.undefined.ptr, 0, 0)
    times?.push(Number(process.hrtime.bigint() - start) / 1000)
    exports.qjs_free_value(result)
  }

  /** Calls and answers since the last time. */
  takeCounts(): { readonly hostCalls: number; readonly responded: number } {
    const counts = { hostCalls: this.#hostCalls, responded: this.#responded }
    this.#hostCalls = 0
    this.#responded = 0
    return counts
  }
}

function changedPages(memory: Uint8Array, image: Uint8Array): number[] {
  const pages: number[] = []
  for (let at = 0; at < image.length; at += PAGE_BYTES) {
    if (Buffer.compare(memory.subarray(at, at + PAGE_BYTES), image.subarray(at, at + PAGE_BYTES)) !== 0) pages.push(at / PAGE_BYTES)
  }
  return pages
}

function percentile(values: number[], share: number): number {
  values.sort((a, b) => a - b)
  return values[Math.floor((values.length - 1) * share)] ?? NaN
}

async function measure(script: string, test: Case, count: number): Promise<void> {
  const bench = await Bench.create(script)
  const call = await bench.load(test)
  // The image: primed once, as the builder does, and grown beforehand so that no call grows memory.
  call(null)
  bench.reference(null)
  bench.exports.qjs_run_gc()
  const memory = (): Uint8Array => new Uint8Array(bench.exports.memory.buffer)
  const image = memory().slice()
  const stack = bench.exports.__stack_pointer.value as number
  const dirty = new Set<number>()
  let pages = 0
  for (let i = 0; i < 10; i++) {
    call(null)
    const changed = changedPages(memory(), image)
    pages = Math.max(pages, changed.length)
    for (const page of changed) dirty.add(page)
    memory().set(image)
  }
  const list = [...dirty]
  const reset: number[] = []
  const reference: number[] = []
  bench.takeCounts()
  for (let i = 0; i < count + 500; i++) {
    call(i < 500 ? null : reset)
    if ((i & 15) === 0) bench.reference(i < 500 ? null : reference)
    const now = memory()
    for (const page of list) now.set(image.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES), page * PAGE_BYTES)
    bench.exports.__stack_pointer.value = stack
  }
  const counts = bench.takeCounts()
  if (counts.responded !== count + 500) throw new Error(`${test.name}: ${counts.responded} answers for ${count + 500} calls`)
  if (changedPages(memory(), image).length > 0) throw new Error(`${test.name}: the reset missed pages`)
  const repeat: number[] = []
  for (let i = 0; i < count + 500; i++) call(i < 500 ? null : repeat)
  const p50 = percentile(reset, 0.5)
  console.log(
    `${test.name.padEnd(12)} reset p50 ${p50.toFixed(2)} us  in loops ${(p50 / percentile(reference, 0.5)).toFixed(2)} (${percentile(reference, 0.5).toFixed(2)} us)  repeat p50 ${percentile(repeat, 0.5).toFixed(2)}  pages ${pages}  host calls ${counts.hostCalls / (count + 500)}` +
      (test.barUs === null ? '' : `  x1.15 ${(p50 * 1.15).toFixed(2)} of ${test.barUs}`),
  )
}

const { values: flags } = parseArgs({ options: { count: { type: 'string', default: '5000' }, case: { type: 'string' } } })
const script = await bundlePrelude()
console.log(`bundle ${script.length} bytes, Node ${process.version}`)
for (const test of CASES) if (flags.case === undefined || flags.case === test.name) await measure(script, test, Number(flags.count))
