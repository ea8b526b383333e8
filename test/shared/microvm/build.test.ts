import t from 'tap'
import { bundlePrelude } from '../../../shared/guest/bundle.ts'
import { buildImage } from '../../../shared/microvm/build.ts'
import type { BuildRequest, BuildResult } from '../../../shared/microvm/build-types.ts'
import { DEFAULT_FUNCTION_LIMITS } from '../../../shared/limits.ts'
import { decodeManifest } from '../../../shared/microvm/manifest.ts'
import { buildRequest, testEngine, testExecutor } from '../../support/engine.ts'

const engine = testEngine({ prelude: await bundlePrelude() })
const build = (source: string, request: Partial<BuildRequest> = {}): BuildResult => buildImage(engine.images, engine.arena, buildRequest(source, { prime: null, ...request }))
const refusal = (source: string, request: Partial<BuildRequest> = {}): string => {
  const result = build(source, request)
  return result.kind === 'refused' ? `${result.error.code} ${result.error.params.join(' ')}` : 'built'
}
const report = (source: string, request: Partial<BuildRequest> = {}): { primed: boolean; primeNote: string; warnings: readonly string[] } => {
  const result = build(source, request)
  if (result.kind === 'refused') throw new Error(result.error.code)
  return result.report
}

for (const [what, source, expected] of [
  ['does not compile', 'export default {\n  fetch( {', /^ERR_BUNDLE_SYNTAX .*index\.mjs:2/],
  ['throws at top level', '\nthrow new TypeError("top")', /^ERR_BUNDLE_THROWS TypeError: top .*index\.mjs:2/],
  ['reads entropy at top level', '\n\nconst id = crypto.randomUUID()\nexport default { fetch: () => new Response(id) }', /^ERR_BUNDLE_ENTROPY .*index\.mjs:3/],
  ['hides that it reads entropy', 'try { crypto.getRandomValues(new Uint8Array(4)) } catch {}\nexport default { fetch: () => new Response("") }', /^ERR_BUNDLE_ENTROPY .*index\.mjs:1/],
  ['starts a timer at top level', 'setTimeout(() => {}, 1)\nexport default { fetch: () => new Response("") }', /^ERR_BUNDLE_HANDLE a timer .*index\.mjs:1/],
  ['fetches at top level', '\nfetch("http://example.com/").catch(() => {})\nexport default { fetch: () => new Response("") }', /^ERR_BUNDLE_HANDLE a fetch .*index\.mjs:2/],
  ['sends something at top level', '\n\nawait fetch("http://example.com/", { method: "POST", body: "x" })\nexport default { fetch: () => new Response("") }', /^ERR_BUNDLE_HANDLE a fetch .*index\.mjs:3/],
  ['streams something at top level', 'const body = new ReadableStream({ pull: (controller) => controller.close() })\nfetch("http://example.com/", { method: "POST", body, duplex: "half" }).catch(() => {})\nexport default { fetch: () => new Response("") }', /^ERR_BUNDLE_HANDLE a fetch in something that the top level began/],
  ['awaits for ever', 'await new Promise(() => {})\nexport default {}', /^ERR_BUNDLE_HANDLE/],
  ['exports no handler', 'export const nothing = 1', /^ERR_BUNDLE_NO_HANDLER/],
] as const) {
  await t.test(`a bundle that ${what} is refused and told where`, (t) => {
    t.match(refusal(source), expected)
    t.end()
  })
}

await t.test('a bundle that never ends is stopped at the time limit', (t) => {
  t.match(refusal('for (;;);'), /^ERR_BUNDLE_LIMIT time/)
  t.end()
})

await t.test('a bundle that takes more memory than the function may have is refused', (t) => {
  t.match(refusal('const kept = []; for (;;) kept.push(new Uint8Array(1 << 20))', { limits: { ...DEFAULT_FUNCTION_LIMITS, memoryMib: 16 } }), /^ERR_(BUNDLE_THROWS|BUNDLE_LIMIT)/)
  t.end()
})

await t.test('reading a secret at top level is refused with its name and line, and its value is found if it got in otherwise', (t) => {
  const secrets = { TOKEN: 'hunter2-hunter2' }
  t.match(refusal('import { env } from "x"', { secrets }), /^ERR_BUNDLE/)
  t.match(refusal(`const copy = ${JSON.stringify(secrets.TOKEN)}\nexport default { fetch: () => new Response(copy) }`, { secrets }), /^ERR_BUNDLE_SECRET TOKEN/)
  t.equal(refusal('export default { fetch: (request, env) => new Response(env.TOKEN) }', { secrets }), 'built')
  t.end()
})

await t.test('priming: kept when answers stay the same, not kept when the handler counts, asks the host, or throws', (t) => {
  t.match(report('export default { fetch: () => new Response("ok") }'), { primed: true, primeNote: 'primed with GET /' })
  t.match(report('let n = 0; export default { fetch: () => new Response(String(++n)) }'), { primed: false, primeNote: /answered differently/ })
  t.match(report('let first; export default { fetch: (r) => new Response(first ??= r.headers.get("host") ?? r.url) }'), { primed: false, primeNote: /answered differently/ })
  t.match(report('export default { fetch: () => new Response(crypto.randomUUID()) }'), { primed: false, primeNote: /entropy/ })
  t.match(report('export default { fetch: async () => fetch("http://example.com/") }'), { primed: false, primeNote: /a fetch/ })
  t.match(report('export default { fetch: () => { throw new Error("no") } }'), { primed: false, primeNote: /Error: no/ })
  t.match(report('export default { fetch: async (r) => Response.json(await r.json()) }'), { primed: true, primeNote: 'primed with POST /' })
  t.match(report('export const handler = async (event) => event'), { primed: true, primeNote: 'primed with the event {}' })
  t.match(report('export default { fetch: () => new Response("ok") }', { prime: [] }), { primed: false, primeNote: /switched off/ })
  t.match(report('export default { fetch: () => new Response("ok") }', { prime: ['/a', '/b'] }), { primed: true, primeNote: 'primed with GET /a, GET /b' })
  t.end()
})

await t.test('Math.random at top level is a warning with its line', (t) => {
  t.match(report('\nconst r = Math.random(); export default { fetch: () => new Response(String(r)) }').warnings, [/Math\.random.*index\.mjs:2/])
  t.end()
})

await t.test('passThroughOnException without an origin does nothing, which the publish report says once with its line', (t) => {
  const source = 'export default { fetch(request, env, ctx) {\n  ctx.passThroughOnException()\n  return new Response("ok") } }'
  const { primed, warnings } = report(source)
  t.equal(primed, true)
  t.equal(warnings.length, 1)
  t.match(warnings[0], /passThroughOnException.*no origin.*Set "origin" in outpost\.jsonc.*index\.mjs:2/)
  t.match(report(source, { origin: 'https://origin.example' }), { primed: true, warnings: [] })
  t.end()
})

await t.test('an origin is in the image, and that a priming request asked for it is not', (t) => {
  const source = `export default { async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url)
    if (pathname !== '/plain') ctx.passThroughOnException()
    if (pathname !== '/') throw new Error('failed')
    return new Response('ok') } }`
  const head = (path: string): string => `id\n127.0.0.1\nGET\nhttp://localhost${path}`
  for (const prime of [['/'], ['/', '/', '/']]) {
    t.equal(report(source, { prime, origin: 'https://origin.example' }).primed, true)
    const { run, ended, fetches } = testExecutor(engine)
    const image = engine.image(source, { prime, origin: 'https://origin.example' })
    t.match(ended.get(run(image, head('/plain'))), { status: null, run: { failure: { message: 'failed' } } })
    t.equal(fetches.length, 0, 'what the priming request asked for is no other request\'s')
    t.equal(ended.get(run(image, head('/')))?.body, 'ok')
    t.equal(ended.has(run(image, head('/asked?a=b'))), false, 'it waits for the origin')
    t.match(fetches, [{ head: 'GET\nhttps://origin.example/asked?a=b\nmanual' }])
  }
  t.end()
})

await t.test('a function that ran out of memory is stopped, whatever it asked for', (t) => {
  const { run, ended, fetches } = testExecutor(engine)
  const image = engine.image('export default { async fetch(request, env, ctx) { ctx.passThroughOnException(); const kept = []; for (;;) kept.push(new Uint8Array(1 << 20).fill(1)) } }', { prime: [], origin: 'https://origin.example', limits: { ...DEFAULT_FUNCTION_LIMITS, memoryMib: 16 } })
  t.match(ended.get(run(image, 'id\n127.0.0.1\nGET\nhttp://localhost/', { limits: { memoryMib: 16 } }))?.run.kill, { outcome: 'exceededMemory' })
  t.equal(fetches.length, 0)
  t.end()
})

await t.test('equal requests give equal images, other requests others', (t) => {
  const id = (source: string): string | undefined => {
    const result = build(source)
    return result.kind === 'built' ? result.images.at(-1)?.imageId : undefined
  }
  t.equal(id('export default { fetch: () => new Response("a") }'), id('export default { fetch: () => new Response("a") }'))
  t.not(id('export default { fetch: () => new Response("a") }'), id('export default { fetch: () => new Response("b") }'))
  t.end()
})

await t.test('a module variable starts from the image in every request, primed or not', (t) => {
  const { run, ended } = testExecutor(engine)
  const image = engine.image('let n = 40; const cache = new Map(); export default { fetch: () => { cache.set(n, 1); return new Response(String(++n + cache.size)) } }', { prime: null })
  for (let times = 0; times < 20; times++) t.equal(ended.get(run(image, 'id\n127.0.0.1\nGET\nhttp://localhost/'))?.body, '42')
  t.end()
})

await t.test('a primed image names those of its pages that the priming request wrote', (t) => {
  const workingSetOf = (prime: readonly string[] | null): readonly [readonly number[] | undefined, readonly number[]] => {
    const result = build('export default { fetch: () => new Response("ok") }', { prime })
    const image = result.kind === 'built' ? result.images.at(-1) : undefined
    if (image === undefined) throw new Error('not built')
    const { workingSet, pages } = decodeManifest(image.encodedManifest, image.imageId)
    return [workingSet, pages.map(([index]) => index)]
  }
  t.equal(workingSetOf([])[0], undefined, 'nothing was looked at')
  const [workingSet = [], own] = workingSetOf(null)
  t.ok(workingSet.length > 10)
  t.ok(workingSet.every((index) => own.includes(index)))
  t.same(workingSet, [...workingSet].sort((a, b) => a - b))
  t.same(workingSetOf(null)[0], workingSet, 'the same each time')
  t.end()
})
