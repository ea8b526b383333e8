/** The corpus of `npm run bench -- store`: every function answers in one piece and over its layers as it does in Node. */
import t from 'tap'
import { bundleCorpusFunction, corpusNames } from '../../../bench/store/corpus.ts'
import { bundlePrelude } from '../../../shared/guest/bundle.ts'
import { BuildMachine } from '../../../shared/microvm/build-machine.ts'
import { buildImage } from '../../../shared/microvm/build.ts'
import type { BuildRequest } from '../../../shared/microvm/build-types.ts'
import { LayerBuilder } from '../../../shared/microvm/layers.ts'
import { decodeManifest } from '../../../shared/microvm/manifest.ts'
import { blockOf, globalValues } from '../../../shared/microvm/runtime.ts'
import { DEFAULT_FUNCTION_LIMITS } from '../../../shared/limits.ts'
import { buildRequest, testEngine } from '../../support/engine.ts'

interface Application {
  readonly default: { fetch(request: Request, env: object, context: object): Response | Promise<Response> }
}

const JSON_HEADERS = 'content-type\napplication/json'
const REQUESTS = [
  { method: 'GET', path: '/', body: null }, { method: 'GET', path: '/items/7?q=a&page=2', body: null }, { method: 'GET', path: '/items/eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.', body: null },
  { method: 'POST', path: '/', body: '{"name":"Ada & Co","count":2,"email":"a@example.com","list":[1,2],"n":"5"}' }, { method: 'POST', path: '/', body: '{"name":"","count":-1,"events":[{"type":"click","x":1}]}' },
  { method: 'DELETE', path: '/nothing/here', body: null },
] as const

const engine = testEngine({ prelude: await bundlePrelude() })
const layers = new LayerBuilder(engine.images, engine.arena)
const users = new Map<string, number>()

async function inNode(source: string): Promise<string[]> {
  // What a bundle's `process.env` has become.
  Object.assign(globalThis, { __OUTPOST_ENV__: {} })
  const application = await import(`data:text/javascript;base64,${Buffer.from(source).toString('base64')}`) as Application
  const answers: string[] = []
  for (const { method, path, body } of REQUESTS) {
    const request = new Request(`http://localhost${path}`, { method, ...(body === null ? {} : { body, headers: { 'content-type': 'application/json' } }) })
    const answer = application.default.fetch(request, {}, { waitUntil: () => undefined, passThroughOnException: () => undefined })
    const response = answer instanceof Response ? answer : await answer
    answers.push(`${response.status} ${await response.text()}`)
  }
  return answers
}

/** Each request in the state that the image holds. */
function inGuest(source: string, request: Partial<BuildRequest>): string[] | string {
  const result = buildImage(engine.images, engine.arena, buildRequest(source, { prime: null, ...request }), layers)
  if (result.kind === 'refused') return `${result.error.code} ${result.error.params.join(' ')}`
  for (const built of result.images) {
    const manifest = decodeManifest(built.encodedManifest, built.imageId)
    if (manifest.layer === 'layer' || manifest.layer === 'function') engine.arena.add(built.imageId, manifest, globalValues(manifest, engine.images.runtime.globalNames), blockOf(built))
  }
  const image = engine.arena.get(result.images.at(-1)?.imageId ?? ('' as never))
  if (image === undefined) return 'no image'
  const machine = new BuildMachine(engine.images.runtime, DEFAULT_FUNCTION_LIMITS, image)
  return REQUESTS.map(({ method, path, body }) => {
    machine.restore(image)
    const { text, problem } = machine.request(5_000, { kind: 'http', method, url: `http://localhost${path}`, headers: body === null ? '' : JSON_HEADERS, body })
    if (text === null) return problem ?? 'nothing'
    return `${text.slice(0, 3)} ${Buffer.from(text.slice(text.indexOf('\n\n') + 2), 'latin1').toString()}`
  })
}

for (const name of corpusNames()) {
  await t.test(name, async (t) => {
    const { whole, split } = await bundleCorpusFunction(name)
    for (const chunk of split.chunks) users.set(chunk.name, (users.get(chunk.name) ?? 0) + 1)
    const expected = await inNode(whole)
    t.same(inGuest(whole, {}), expected, 'in one piece')
    t.same(inGuest(split.source, split), expected, 'over its layers')
  })
}

await t.test('the corpus is what it should be: forty functions, most over layers that three of them have', (t) => {
  t.ok(corpusNames().length >= 40)
  t.ok([...users.values()].filter((count) => count >= 3).length >= 10, JSON.stringify([...users]))
  t.end()
})
