/** Stacks name the user's files and lines: as Node gives them for the same sources, whatever was bundled, split or minified in between. */
import { pathToFileURL } from 'node:url'
import * as esbuild from 'esbuild'
import { zipSync } from 'fflate'
import t from 'tap'
import { bundleZip } from '../../../shared/api/bundle.ts'
import { openZip } from '../../../shared/api/zip.ts'
import { bundle } from '../../../shared/cli/bundle.ts'
import { zipBundle } from '../../../shared/cli/zip.ts'
import { systemClock } from '../../../shared/clock.ts'
import { bundlePrelude } from '../../../shared/guest/bundle.ts'
import { buildImage } from '../../../shared/microvm/build.ts'
import type { BuildRequest, BuildResult } from '../../../shared/microvm/build-types.ts'
import type { InvocationResult } from '../../../shared/worker/types.ts'
import { buildRequest, testEngine, testExecutor } from '../../support/engine.ts'

const engine = testEngine({ prelude: await bundlePrelude() })
const { run, ended, logs } = testExecutor(engine)
const HEAVY = `const heavy = ${JSON.stringify('x'.repeat(9_000))}\n`

const APP = {
  'package.json': '{"type":"module"}',
  src: {
    'index.ts': `import { deep } from './lib/deep.ts'
import { explode, callBack } from 'exploder'

interface Named {
  readonly name: string
}
const sleep = async (): Promise<void> => {
  await Promise.resolve()
}
class Shop<T extends Named> {
  readonly #items: T[] = []
  add(item: T): this {
    this.#items.push(item)

    if (item.name === 'bad') deep(this.#items.length)
    return this
  }
  get broken(): never {
    // ä: more bytes than characters
    const text = 'äöü'; throw new RangeError(text)
  }
}
const cases: Record<string, () => unknown> = {
  nested: () => deep(1),
  package: () => explode('x'),
  callback: () => callBack(() => deep(2)),
  method: () => new Shop().add({ name: 'good' }).add({ name: 'bad' }),
  getter: () => new Shop().broken,
  map: () => [1, 2].map((n) => n === 2 ? deep(n) : n),
  async asynchronous() {
    await sleep()
    deep(3)
  },
  undefinedValue() {
    const nothing = JSON.parse('{}') as { a: { b: number } }
    return nothing.a.b
  },
  generator() {
    function* numbers(): Generator<number> {
      yield 1
      deep(4)
    }
    return [...numbers()]
  },
  cause() {
    try {
      return deep(5)
    } catch (cause) {
      throw new Error('outer', { cause })
    }
  },
  several: () => Promise.any([Promise.reject(new Error('first')), sleep().then(() => deep(6))]),
  spin() {
    let i = 0

    while (true) {
      i += 1
    }
  },
  log() {
    try {
      deep(7)
    } catch (error) {
      console.error('caught', error)
    }
    throw new Error('logged')
  },
}
export default {
  async fetch(request: Request): Promise<Response> {
    const found = cases[new URL(request.url).pathname.slice(1)]
    return Response.json(await found?.() ?? null)
  },
}
`,
    lib: { 'deep.ts': `// One line more\n\nexport function deep(n: number): never {\n  const inner = (): never => {\n\n    throw new TypeError(\`deep \${n}\`)\n  }\n  return inner()\n}\n` },
  },
  node_modules: { exploder: {
    'package.json': '{"name":"exploder","version":"1.0.0","type":"module","main":"index.js"}',
    'index.js': `${HEAVY}// of the package\nimport { boom } from './boom.js'\nexport function explode(text) {\n  return boom(text + heavy.length)\n}\nexport function callBack(f) {\n  return f()\n}\n`,
    'boom.js': `export function boom(text) {\n\n  throw new SyntaxError(text)\n}\n`,
  } },
}
const CASES = ['nested', 'package', 'callback', 'method', 'getter', 'map', 'asynchronous', 'undefinedValue', 'generator', 'cause'] as const

interface Deployed {
  readonly fail: (name: string) => NonNullable<InvocationResult['exception']>
  readonly report: Extract<BuildResult, { kind: 'built' }>['report']
}

function deploy(source: string, request: Partial<BuildRequest>): Deployed {
  const asked = buildRequest(source, request)
  const result = buildImage(engine.images, engine.arena, asked)
  if (result.kind === 'refused') throw new Error(`${result.error.code} ${result.error.params.join(' ')}`)
  const image = engine.image(source, asked)
  return {
    report: result.report,
    fail(name) {
      const exception = ended.get(run(image, `id\n127.0.0.1\nGET\nhttp://localhost/${name}`))?.run.result(0).exception
      if (exception === null || exception === undefined) throw new Error(`${name} did not fail`)
      return exception
    },
  }
}

/** `file:line` of each frame, innermost first, of files of the app. */
function places(stack: string, dir: string): string[] {
  return [...stack.matchAll(/(?:\(|at (?:async )?)(?:file:\/\/)?([^\s()]+):(\d+):\d+\)?$/gm)].map(([, file = '', line = '']) => `${file.replace(`${dir}/`, '')}:${line}`).filter((place) => !place.startsWith('node:'))
}

async function inNode(dir: string, name: string): Promise<Error> {
  const { default: handler } = await import(pathToFileURL(`${dir}/src/index.ts`).href) as { default: { fetch(request: Request): Promise<Response> } }
  return await handler.fetch(new Request(`http://localhost/${name}`)).then(() => new Error('it did not fail'), (error: unknown) => error as Error)
}

await t.test('an uncaught exception has the frames that it has in Node', async (t) => {
  const dir = t.testdir(APP)
  const made = await bundle(`${dir}/src/index.ts`, dir)
  t.match(made.chunks, [{ name: /^npm:exploder@1\.0\.0#/, sourceMap: /boom\.js/ }])
  const { source, sourceMap, chunks, ownCodeFirst } = await bundleZip({ archive: openZip(zipBundle(made)), handler: 'index.handler', handlerGiven: false }, systemClock)
  const split = deploy(source, { sourceMap, chunks, ownCodeFirst })
  t.same(split.report.layers, made.chunks.map(({ name }) => name))
  for (const name of CASES) {
    const expected = await inNode(dir, name)
    const { stack } = split.fail(name)
    const theirs = places(expected.stack ?? '', dir)
    const ours = places(stack.replace(/ \{\n {2}\[cause\][^]*/, ''), dir)
    t.equal(stack.split('\n')[0]?.replace(/ \{$/, ''), name === 'undefinedValue' ? stack.split('\n')[0] : `${expected.name}: ${expected.message}`, `${name}: first line`)
    t.equal(ours[0], theirs[0], `${name}: where it was thrown`)
    // V8 adds the functions that await; the engine cannot.
    let at = 0
    t.ok(ours.every((place) => (at = theirs.indexOf(place, at) + 1) > 0), `${name}: ${ours.join(' ')} among ${theirs.join(' ')}`)
    t.notMatch(stack, /outpost:|\(native\)|index\.mjs/, `${name}: no frame of ours`)
  }
})

await t.test('causes and the errors of an AggregateError are told with their stacks', async (t) => {
  const dir = t.testdir(APP)
  const made = await bundle(`${dir}/src/index.ts`, dir)
  const { fail } = deploy(Buffer.from(made.code).toString(), { sourceMap: Buffer.from(made.sourceMap).toString(), chunks: made.chunks, ownCodeFirst: made.ownCodeFirst })
  t.match(fail('cause').stack, /^Error: outer\n {4}at cause \(src\/index\.ts:49:\d+\)\n[^]* {2}\[cause\]: TypeError: deep 5\n {6}at inner \(src\/lib\/deep\.ts:6:\d+\)\n {6}at deep \(src\/lib\/deep\.ts:8/)
  t.match(fail('several').stack, /^AggregateError[^]*\[errors 0\]: Error: first\n[^]*src\/index\.ts:\d+[^]*\[errors 1\]: TypeError: deep 6\n {6}at inner \(src\/lib\/deep\.ts:6/)
  logs.length = 0
  fail('log')
  t.match(logs.join('\n'), /caught TypeError: deep 7\n {4}at inner \(src\/lib\/deep\.ts:6:\d+\)\n {4}at deep \(src\/lib\/deep\.ts:8:\d+\)\n {4}at log \(src\/index\.ts:\d+:\d+\)/)
  t.notMatch(logs.join('\n'), /outpost:|\(native\)/)
})

await t.test('a run that is stopped says the line of its loop', async (t) => {
  const dir = t.testdir(APP)
  const made = await bundle(`${dir}/src/index.ts`, dir)
  const { fail } = deploy(Buffer.from(made.code).toString(), { sourceMap: Buffer.from(made.sourceMap).toString(), chunks: made.chunks, ownCodeFirst: made.ownCodeFirst })
  const { name, stack } = fail('spin')
  const line = APP.src['index.ts'].split('\n').findIndex((text) => text.includes('i += 1')) + 1
  t.equal(name, 'ERR_LIMIT_CPU')
  t.match(stack, new RegExp(`^ERR_LIMIT_CPU: Exceeded the CPU limit of 50 ms \\(used \\d+ ms\\).*\\n {4}at spin \\(src/index\\.ts:${line}:\\d+\\)\\n {4}at fetch \\(src/index\\.ts:\\d+:\\d+\\)$`))
})

await t.test('sources that the region bundles, and a bundle that its owner minified with a map, are mapped alike', async (t) => {
  const dir = t.testdir(APP)
  const bytes = (text: string): Uint8Array => Buffer.from(text)
  const sources = {
    'index.ts': bytes(APP.src['index.ts']), 'lib/deep.ts': bytes(APP.src.lib['deep.ts']),
    ...Object.fromEntries(Object.entries(APP.node_modules.exploder).map(([file, text]) => [`node_modules/exploder/${file}`, bytes(text)])),
  }
  const minify = async (sourcemap: 'linked' | 'inline'): Promise<readonly esbuild.OutputFile[]> => (await esbuild.build({
    entryPoints: [`${dir}/src/index.ts`], absWorkingDir: dir, bundle: true, write: false, format: 'esm', minify: true, outfile: 'index.mjs', sourcesContent: false, sourcemap,
  })).outputFiles
  const [map, code] = await minify('linked')
  const [inline] = await minify('inline')
  for (const [what, files, file, line] of [
    ['sources', sources, 'lib/deep.ts', 6],
    ['minified with a map beside it', { 'index.mjs': code?.contents ?? new Uint8Array(0), 'index.mjs.map': map?.contents ?? new Uint8Array(0) }, 'src/lib/deep.ts', 6],
    ['minified with its map in it', { 'index.mjs': inline?.contents ?? new Uint8Array(0) }, 'src/lib/deep.ts', 6],
  ] as const) {
    const made = await bundleZip({ archive: openZip(zipSync(files)), handler: 'index.handler', handlerGiven: false }, systemClock)
    t.equal(places(deploy(made.source, made).fail('nested').stack, dir)[0], `${file}:${line}`, what)
  }
})

await t.test('what the top level does wrong is told by file and line', async (t) => {
  const refusal = async (more: string): Promise<string> => {
    const dir = t.testdir({ 'index.ts': `import './side.ts'\nexport default { fetch: () => new Response('ok') }\n`, 'side.ts': `interface A {\n  a: string\n}\n\n${more}\n` })
    const made = await bundle(`${dir}/index.ts`, dir)
    const result = buildImage(engine.images, engine.arena, buildRequest(Buffer.from(made.code).toString(), { sourceMap: Buffer.from(made.sourceMap).toString(), prime: null }))
    return result.kind === 'refused' ? `${result.error.code} ${result.error.params.join(' ')}` : `built ${result.report.warnings.join()}`
  }
  t.match(await refusal('throw new Error("top")'), /^ERR_BUNDLE_THROWS Error: top at side\.ts:5:\d+$/)
  t.match(await refusal('crypto.randomUUID()'), /^ERR_BUNDLE_ENTROPY .*side\.ts:5:\d+/)
  t.match(await refusal('function later(): void {\n  setTimeout(() => {}, 1)\n}\nlater()'), /^ERR_BUNDLE_HANDLE a timer at later \(side\.ts:6:\d+\) at side\.ts:8:\d+/)
  t.match(await refusal('export const r = Math.random()'), /^built Math\.random.*side\.ts:5:\d+/)
})

await t.test('a map that is malformed or too large is a warning, and the function runs', (t) => {
  const source = 'export default { fetch() { throw new Error("plain") } }\n'
  const good = { version: 3, sources: ['a.ts'], names: [], mappings: 'AAAA' }
  for (const [what, sourceMap] of Object.entries({
    'no JSON': '{', 'null': 'null', 'a string': '"x"', 'version 2': JSON.stringify({ ...good, version: 2 }), 'sources are no list': JSON.stringify({ ...good, sources: 'a.ts' }),
    'sources are no texts': JSON.stringify({ ...good, sources: [1] }), 'sections': JSON.stringify({ version: 3, sections: [] }), 'more lines than the code': JSON.stringify({ ...good, mappings: ';'.repeat(1_000_000) }),
  })) {
    const { report, fail } = deploy(source, { sourceMap })
    t.match(report.warnings, [/source map of index\.mjs cannot be used/], what)
    t.match(fail('').stack, /^Error: plain\n {4}at fetch \(index\.mjs:1:\d+\)$/, what)
  }
  for (const [what, more] of Object.entries({
    'mappings that are no VLQ': { mappings: '!!!???' }, 'sources out of range': { mappings: 'AgggggggggggggA' }, 'lines below zero': { mappings: 'AADD,AADD' }, 'no mappings': { mappings: '' },
  })) {
    t.match(deploy(source, { sourceMap: JSON.stringify({ ...good, ...more }) }).fail('').stack, /^Error: plain/, what)
  }
  const hostile = deploy(source, { sourceMap: JSON.stringify({ ...good, sources: [`a)\n    at evil (${'b'.repeat(10_000)}`] }) })
  const [, ...frames] = hostile.fail('').stack.split('\n')
  t.equal(frames.length, 1, 'a name cannot make frames')
  t.ok((frames[0]?.length ?? 0) < 400)
  t.end()
})
