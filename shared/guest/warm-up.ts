/**
 * Uses the prelude once before its image is captured. QuickJS makes most built-in functions on first access, and shapes,
 * atoms and inline caches on first use: without this each request would make them again and dirty the pages they lie in.
 */
import type { BuildMachine, SyntheticRequest } from '../microvm/build-machine.ts'
import { allocateText } from '../microvm/runtime.ts'
import { CodedError } from '../errors.ts'

const WARM_UP_MAX_MS = 5_000

/** A function that does what most do. Its completion value stands for a module's namespace. */
const SAMPLE = `(() => {
  const seen = new Set()
  const touch = (value, depth) => {
    if ((typeof value !== 'object' && typeof value !== 'function') || value === null || seen.has(value) || depth > 4) return
    seen.add(value)
    for (const key of Reflect.ownKeys(value)) {
      const descriptor = Object.getOwnPropertyDescriptor(value, key)
      if (descriptor !== undefined && 'value' in descriptor) touch(descriptor.value, depth + 1)
    }
    touch(Object.getPrototypeOf(value), depth + 1)
  }
  touch(globalThis, 0)
  class Point { #x = 1; get x() { return this.#x } }
  const work = async (value) => {
    const { a, ...rest } = { a: 1, b: [1, 2, 3], c: 'text', ...value }
    const list = [...rest.b].map((each) => each * 2).filter((each) => each > 2).concat([a]).sort((x, y) => x - y)
    await Promise.all([1, Promise.resolve(2)])
    const map = new Map(Object.entries(rest))
    return { list, point: new Point().x, keys: [...map.keys()].join(','), text: 'a-b'.split('-').at(0), match: /(a+)(?<rest>.*)/.exec('aab')?.groups?.rest }
  }
  return {
    default: {
      async fetch(request, env, ctx) {
        const url = new URL(request.url)
        const accept = request.headers.get('accept')
        ctx.waitUntil(Promise.resolve())
        if (request.method === 'POST') return Response.json({ ...(await request.json()), ...(await work({})) })
        if (url.pathname === '/text') return new Response('text', { status: 200, headers: { 'content-type': 'text/plain', 'x-a': accept ?? '' } })
        return new Response(url.searchParams.get('q') ?? (await request.text()))
      },
    },
    handler: async (event, context) => ({ event, remaining: context.getRemainingTimeInMillis(), name: context.functionName, ...(await work(event)) }),
  }
})()`

const REQUESTS: readonly SyntheticRequest[] = [
  { kind: 'http', method: 'GET', url: 'http://localhost/?q=1', headers: 'accept\ntext/html\nhost\nlocalhost', body: null },
  { kind: 'http', method: 'GET', url: 'http://localhost/text', headers: 'accept\n*/*', body: null },
  { kind: 'http', method: 'POST', url: 'http://localhost/', headers: 'content-type\napplication/json', body: '{"id":1,"name":"a","list":[1,2.5,null,true]}' },
  { kind: 'event', method: 'POST', url: 'arn:aws:lambda:local:000000000000:function:warm-up', headers: '', body: '{"a":1,"list":[1,2]}' },
]

export function warmUpPrelude(machine: BuildMachine): void {
  const { binding, call } = machine
  for (const handlerExport of ['default', 'handler']) {
    machine.within(WARM_UP_MAX_MS, () => {
      const configure = (name: string | null): void => {
        const configuration = { vars: {}, secretNames: [], functionName: 'warm-up', version: '$LATEST', memoryMib: 128, accountId: '', arn: '', handlerExport: name }
        binding.call(machine.entries.configure, [binding.newString(JSON.stringify(configuration))])
      }
      configure(handlerExport)
      const code = allocateText(binding, call, SAMPLE)
      const file = allocateText(binding, call, 'outpost:warm-up')
      const module = call('qjs_eval', code, Buffer.byteLength(SAMPLE), file, 0)
      if (binding.isException(module)) throw new CodedError('ERR_INTERNAL', [`the warm-up does not run: ${binding.takeException().message}`])
      binding.call(machine.entries.load, [module])
      call('wasm_free', code)
      call('wasm_free', file)
    })
    for (const request of REQUESTS) {
      const { problem } = machine.request(WARM_UP_MAX_MS, request)
      if (problem !== null) throw new CodedError('ERR_INTERNAL', [`the warm-up fails: ${problem}`])
    }
  }
}
