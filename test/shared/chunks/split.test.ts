/** Functions split into own code and library chunks answer as they do in one piece, and as they do in Node. */
import { strToU8, zipSync } from 'fflate'
import t from 'tap'
import { bundleZip, type Bundle, decodeBundle, encodeBundle } from '../../../shared/api/bundle.ts'
import { openZip } from '../../../shared/api/zip.ts'
import { CHUNK_LIST, packChunks } from '../../../shared/chunks/upload.ts'
import { systemClock } from '../../../shared/clock.ts'
import { bundlePrelude } from '../../../shared/guest/bundle.ts'
import { DEFAULT_FUNCTION_LIMITS } from '../../../shared/limits.ts'
import { buildImage } from '../../../shared/microvm/build.ts'
import type { BuildRequest } from '../../../shared/microvm/build-types.ts'
import { LayerBuilder } from '../../../shared/microvm/layers.ts'
import { decodeManifest } from '../../../shared/microvm/manifest.ts'
import { buildRequest, testEngine, testExecutor } from '../../support/engine.ts'

type Files = Readonly<Record<string, string>>

const engine = testEngine({ prelude: await bundlePrelude() })
const { run, ended } = testExecutor(engine)
const HEAVY = `const heavy = ${JSON.stringify('x'.repeat(9_000))}\n`

function zipOf(files: Readonly<Record<string, string | Uint8Array>>): Uint8Array {
  return zipSync(Object.fromEntries(Object.entries(files).map(([name, content]) => [name, typeof content === 'string' ? strToU8(content) : content])))
}

async function bundle(files: Readonly<Record<string, string | Uint8Array>>, inseparable: readonly string[] = []): Promise<Bundle> {
  return await bundleZip({ archive: openZip(zipOf(files)), handler: 'index.handler', handlerGiven: false, inseparable: new Set(inseparable) }, systemClock)
}

/** What a GET of the function's image answers; the builder's reason if it makes none. */
function answer({ source, chunks, ownCodeFirst }: Bundle): string {
  const request = buildRequest(source, { chunks, ownCodeFirst })
  const result = buildImage(engine.images, engine.arena, request)
  if (result.kind === 'refused') return result.inseparable?.map(({ name, reason }) => `${name.replace(/#.*/, '')}: ${reason}`).join() ?? `${result.error.code} ${result.error.params.join(' ')}`
  return ended.get(run(engine.image(source, request), 'id\n127.0.0.1\nGET\nhttp://localhost/'))?.body ?? 'no answer'
}

async function inNode({ source }: Bundle): Promise<string> {
  const module = await import(`data:text/javascript,${encodeURIComponent(source)}#${Math.random()}`) as { default: { fetch(request: Request): Response | Promise<Response> } }
  return await (await module.default.fetch(new Request('http://localhost/'))).text()
}

const library = (name: string, main: string, more: Files = {}): Files => ({
  [`node_modules/${name}/package.json`]: JSON.stringify({ name, version: '1.2.3', main: 'index.js' }),
  [`node_modules/${name}/index.js`]: main,
  ...Object.fromEntries(Object.entries(more).map(([file, text]) => [`node_modules/${name}/${file}`, text])),
})
const handler = (expression: string | number): string => `\nexport default { fetch: () => new Response(String(${expression})) }\n`

for (const [what, files, chunkNames, expected] of [
  ['named, default and namespace imports, and live bindings', {
    'index.js': `import lib, { count, add } from 'lib'\nimport * as all from 'lib'\nadd()\nexport default { fetch() { add(); return new Response([lib(), count, all.count, all.default === lib, Object.keys(all)].join(' ')) } }`,
    ...library('lib', `${HEAVY}export let count = 0\nexport function add() { count++ }\nexport default function () { return heavy.length + count }`),
  }, ['npm:lib@1.2.3'], '9002 2 2 true add,count,default'],
  ['CommonJS: default, named and namespace imports', {
    'index.js': `import lib, { name } from 'lib'\nimport * as all from 'lib'${handler("[lib.name, name, all.default === lib, all.name, typeof lib, lib()].join(' ')")}`,
    ...library('lib', `${HEAVY}module.exports = function () { return heavy.length }\nObject.defineProperty(module.exports, 'name', { value: 'cjs', enumerable: true })`),
  }, ['npm:lib@1.2.3'], 'cjs cjs true cjs function 9000'],
  ['CommonJS that was an ES module', {
    'index.js': `import lib, { other } from 'lib'\nimport * as all from 'lib'${handler("[lib, other, all.default].join(' ')")}`,
    ...library('lib', `${HEAVY}Object.defineProperty(exports, '__esModule', { value: true })\nexports.default = 'd' + heavy.length\nexports.other = 'o'`),
  }, ['npm:lib@1.2.3'], 'd9000 o d9000'],
  ['own CommonJS code that requires an ES module and a CommonJS one', {
    'index.js': `const a = require('a')\nconst b = require('b')\nmodule.exports = { fetch: () => new Response([a.default, a.x, b.y, b === require('b')].join(' ')) }`,
    ...library('a', `${HEAVY}export default 'def'\nexport const x = heavy.length`), ...library('b', `${HEAVY}exports.y = heavy.length + 1`),
  }, ['npm:a@1.2.3', 'npm:b@1.2.3'], 'def 9000 9001 true'],
  ['packages in a circle', {
    'index.js': `import { a } from 'a'\nimport { b } from 'b'${handler("a() + b()")}`,
    ...library('a', `import { b } from 'b'\n${HEAVY}export const a = () => 'a' + heavy.length\nexport const fromB = () => b()`),
    ...library('b', `import { a } from 'a'\nexport const b = () => 'b' + a()`),
  }, ['npm:a@1.2.3'], 'a9000ba9000'],
  ['a package over another, which both share with the function', {
    'index.js': `import { Base } from 'base'\nimport { make } from 'over'${handler('make() instanceof Base')}`,
    ...library('base', `${HEAVY}export class Base { size = heavy.length }`), ...library('over', `import { Base } from 'base'\n${HEAVY}export const make = () => (heavy, new Base())`),
  }, ['npm:base@1.2.3', 'npm:over@1.2.3'], 'true'],
  ['two entries of a package with a module in common', {
    'index.js': `import { set } from 'lib'\nimport { get } from 'lib/get.js'\nset(5)${handler('get()')}`,
    ...library('lib', `import { state } from './state.js'\n${HEAVY}export const set = (n) => { state.n = n + heavy.length }`, { 'get.js': "import { state } from './state.js'\nexport const get = () => state.n", 'state.js': 'export const state = { n: 0 }' }),
  }, ['npm:lib@1.2.3'], '9005'],
  ['an import that is only run', {
    'index.js': `export default { fetch: async () => new Response((await import('lib')).x) }`, ...library('lib', `${HEAVY}export const x = String(heavy.length)`),
  }, [], '9000'],
  ['a library that reads variables', { 'index.js': `import { x } from 'lib'${handler('x')}`, ...library('lib', `${HEAVY}export const x = [typeof process.env.NONE, heavy.length]`) }, [], null],
  ['a library of which little is used', { 'index.js': `import { x } from 'lib'${handler('x')}`, ...library('lib', `export const x = 1\nexport const y = () => ${JSON.stringify('y'.repeat(50_000))}`) }, [], '1'],
  ['a light library', { 'index.js': `import { x } from 'lib'${handler('x')}`, ...library('lib', 'export const x = 1') }, [], '1'],
  ['re-exports', { 'index.js': `export { default } from './app.js'`, 'app.js': `export * from 'lib'\nimport { x } from 'lib'${handler('x')}`, ...library('lib', `${HEAVY}export const x = heavy.length`) }, ['npm:lib@1.2.3'], '9000'],
] as const) {
  await t.test(what, async (t) => {
    const made = await bundle(files)
    t.same(made.chunks.map(({ name }) => name.replace(/#.*/, '')).sort(), chunkNames)
    const whole = await bundle(files, made.chunks.map(({ name }) => name))
    t.same(whole.chunks, [], 'the same in one piece')
    if (expected !== null) t.equal(await inNode(whole), expected, 'as Node answers')
    if (expected !== null) t.equal(answer(whole), expected, 'in one piece')
    if (expected !== null) t.equal(answer(made), expected, 'split')
    t.same(decodeBundle(encodeBundle(made)), { source: made.source, sourceMap: made.sourceMap, chunks: made.chunks, ownCodeFirst: made.ownCodeFirst }, 'as it is kept')
  })
}

await t.test('what would be noticed is not evaluated apart', async (t) => {
  const own = (own: string, lib: string): Promise<Bundle> => bundle({ 'index.js': `import './own.js'\nimport { x } from 'lib'${handler('x')}`, 'own.js': own, ...library('lib', `${HEAVY}${lib}`) })
  t.equal(answer(await own('const inner = 1', 'export const x = heavy.length')), '9000', 'own code that does nothing may come before it')
  t.equal(answer(await own('globalThis.mark = 1', 'export const x = heavy.length')), '9000', 'own code may set what the library does not name')
  t.match(answer(await own('globalThis.mark = 1', 'export const x = heavy.length + globalThis.mark')), /the function sets mark and is imported before it/)
  t.match(answer(await own('Array.prototype.mine = 1', 'export const x = heavy.length')), /the function sets globalThis\.\S+\.mine and is imported before it/)
  t.equal(answer(await own('', 'globalThis.fresh = 7; export const x = heavy.length')), '9000', 'a library may set a global that nobody else names')
  t.match(answer(await own('globalThis.seen = "fresh" in globalThis', 'globalThis.fresh = 7; export const x = heavy.length')), /names a global that it sets/)
  for (const [lib, reason] of [
    ['export const x = crypto.randomUUID() + heavy', /asks for crypto/], ['export const x = Date.now() + heavy', /asks for the time/], ['export const x = Math.random() + heavy', /math-random/],
    ['String.prototype.mine = 1; export const x = heavy', /changes globalThis\.\S+\.mine/], ['setTimeout(() => 0, 1); export const x = heavy', /a timer/],
    ['delete globalThis.escape; export const x = heavy', /changes globalThis\.escape/], ['Object.freeze(Array); export const x = heavy', /changes globalThis\.Array/],
    ['throw new Error("no"); export const x = heavy', /throws or waits/], ['await new Promise(() => 0); export const x = heavy', /throws or waits/],
  ] as const) t.match(answer(await own('', lib)), reason)
  const between = await bundle({ 'index.js': `import { x } from 'a'\nimport './own.js'\nimport { y } from 'b'${handler('y')}`, 'own.js': `import { set } from 'a'\nset(3)`, ...library('a', `${HEAVY}export let x = 1\nexport const set = (n) => { x = n + heavy.length * 0 }`), ...library('b', `import { x } from 'a'\n${HEAVY}export const y = x + heavy.length * 0`) })
  t.equal(between.chunks.length, 1, 'own code between two that know each other')
  t.equal(answer(between), '3')
})

await t.test('a chunk is the same whoever imports it, and layers are shared', async (t) => {
  const lib = { ...library('lib', `${HEAVY}export const x = heavy.length\nexport const y = () => heavy`), ...library('more', `${HEAVY}export const z = heavy + heavy`) }
  const one = await bundle({ 'index.js': `import { x } from 'lib'${handler('x')}`, ...lib })
  const other = await bundle({ 'src/deep/index.js': '', 'index.ts': `import { y } from 'lib'\nimport { z } from 'more'${handler('y().length + z.length')}`, ...lib })
  t.equal(one.chunks[0]?.source, other.chunks.find(({ name }) => name === one.chunks[0]?.name)?.source)
  const installed = await bundle({ 'app/index.js': '', 'index.js': `export { default } from './app/main.js'`, 'app/main.js': `import { x } from 'lib'${handler('x')}`, ...Object.fromEntries(Object.entries(lib).map(([name, text]) => [`app/${name}`, text])) })
  t.same(installed.chunks, one.chunks, 'wherever it is installed')
  const images = ({ source, chunks, ownCodeFirst }: Bundle): string[] => {
    const result = buildImage(engine.images, engine.arena, buildRequest(source, { chunks, ownCodeFirst }))
    if (result.kind === 'refused') throw new Error(result.error.code)
    t.same(result.images.map(({ encodedManifest, imageId }) => decodeManifest(encodedManifest, imageId).layer), ['base', 'prelude', ...chunks.map(() => 'layer'), 'function'])
    t.same(result.images.slice(1).map(({ encodedManifest, imageId }) => decodeManifest(encodedManifest, imageId).parentId), result.images.slice(0, -1).map(({ imageId }) => imageId))
    t.same(result.report.layers, chunks.map(({ name }) => name))
    return result.images.map(({ imageId }) => imageId)
  }
  t.same(images(one).slice(0, 3), images(await bundle({ 'index.js': `import { y } from 'lib'${handler('y() + 1')}`, ...lib })).slice(0, 3))
  t.equal(other.chunks.length, 2)
})

await t.test('a layer holds nothing of a function, and is built again alike when it was dropped', async (t) => {
  const chunk = (name: string, source: string): Bundle['chunks'][number] => ({ name: `npm:${name}#0000000000000000`, source })
  const first = chunk('first', `${HEAVY}export const x = heavy.length`)
  const kept = new LayerBuilder(engine.images, engine.arena, 1)
  const layersOf = (chunks: Bundle['chunks'], more: Partial<BuildRequest> = {}, layers = kept): string[] => {
    const result = buildImage(engine.images, engine.arena, buildRequest(`import { x } from ${JSON.stringify(chunks.at(-1)?.name)}\nexport default { fetch: () => new Response(x) }`, { chunks, ...more }), layers)
    if (result.kind === 'refused') throw new Error(result.error.params.join())
    return result.images.slice(2, -1).map(({ imageId }) => imageId)
  }
  const [id = ''] = layersOf([first])
  const other = { account: '111111111111', functionName: 'other', arn: 'arn:other', vars: { A: 'b' }, secrets: { TOKEN: 'a-secret-value' }, limits: { ...DEFAULT_FUNCTION_LIMITS, memoryMib: 512, cpuMs: 1 } }
  t.same(layersOf([first], other, new LayerBuilder(engine.images, engine.arena)), [id])
  t.not(layersOf([chunk('first', `${HEAVY}export const x = heavy.length + 1`)])[0], id, 'other content under the same name')
  const images = engine.arena.imageCount
  for (let round = 0; round < 10; round++) layersOf([chunk('a', `export const x = ${round}`), chunk('b', `import { x as y } from "npm:a#0000000000000000"; export const x = y`)])
  t.ok(engine.arena.imageCount <= images + 4, 'no more is kept than may be')
  t.same(layersOf([first]), [id])
})

await t.test('a function has at most four layers, the heaviest', async (t) => {
  const sizes = [9, 14, 10, 13, 11, 12]
  const files = { 'index.js': `${sizes.map((kib) => `import { x as x${kib} } from 'lib${kib}'`).join('\n')}${handler(sizes.map((kib) => `x${kib}`).join(' + '))}`, ...Object.assign({}, ...sizes.map((kib) => library(`lib${kib}`, `export const x = ${JSON.stringify('x'.repeat(kib * 1024))}.length`))) as Files }
  const made = await bundle(files)
  t.same(made.chunks.map(({ name }) => name.replace(/@.*/, '')), ['npm:lib14', 'npm:lib13', 'npm:lib12', 'npm:lib11'])
  t.equal(answer(made), String(sizes.reduce((sum, kib) => sum + kib * 1024, 0)))
})

await t.test('chunks of an upload: used as they are, checked against their names, and bundled in when they cannot be layers', async (t) => {
  const files = { 'index.js': `import { x } from 'over'\nimport { base } from 'base'${handler('x + base')}`, ...library('base', `${HEAVY}export const base = heavy.length`), ...library('over', `import { base } from 'base'\n${HEAVY}export const x = heavy.length + base`) }
  const made = await bundle(files)
  t.equal(made.chunks.length, 2)
  const upload: Record<string, string | Uint8Array> = { 'index.mjs': made.source, ...packChunks(made.chunks, made.ownCodeFirst) }
  const taken = await bundle(upload)
  t.same(taken.chunks, made.chunks)
  t.equal(answer(taken), '27000')
  const names = made.chunks.map(({ name }) => name)
  const folded = await bundle(upload, [names[1] ?? ''])
  t.same(folded.chunks.map(({ name }) => name), [names[0]])
  t.equal(answer(folded), '27000')
  t.same((await bundle(upload, [names[0] ?? ''])).chunks, [], 'what stands on a chunk of the function is in the function too')
  t.equal(answer(await bundle(upload, names)), '27000')

  const [chunkFile = ''] = Object.keys(upload).filter((name) => name.startsWith('chunks/'))
  await t.rejects(bundle({ ...upload, [chunkFile]: 'globalThis.evil = 1' }), { code: 'ERR_ZIP_INVALID', message: /is not what outpost-chunks\.json says/ })
  await t.rejects(bundle({ 'index.mjs': made.source, [CHUNK_LIST]: upload[CHUNK_LIST] ?? '' }), { code: 'ERR_ZIP_INVALID' }, 'a chunk is missing')
  for (const list of ['{', '[]', '{"format":2,"ownCodeFirst":false,"chunks":[]}', '{"format":1,"ownCodeFirst":false,"chunks":[{"name":"../x","file":"index.mjs"}]}', `{"format":1,"ownCodeFirst":false,"chunks":[${Array(2).fill(`{"name":"${names[0] ?? ''}","file":"index.mjs"}`).join()}]}`]) {
    await t.rejects(bundle({ ...upload, [CHUNK_LIST]: list }), { code: 'ERR_ZIP_INVALID', message: /cannot be understood/ }, list)
  }
  await t.rejects(bundle({ 'index.mjs': `import "npm:base@1.2.3#0000000000000000"${handler(1)}` }), { code: 'ERR_BUNDLE_SYNTAX', message: /Could not resolve/ })
})
