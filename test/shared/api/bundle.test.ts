/** From a zip to one module: entries, packages, and sources that try to reach the disk. */
import { readdirSync } from 'node:fs'
import { strToU8, zipSync } from 'fflate'
import t from 'tap'
import { Machine } from '../guest/harness.ts'
import { bundleZip, type Bundle } from '../../../shared/api/bundle.ts'
import { openZip } from '../../../shared/api/zip.ts'
import { ManualClock, systemClock } from '../../../shared/clock.ts'
import { toCodedError } from '../../../shared/errors.ts'

type Files = Readonly<Record<string, string>>

function bundle(files: Files, handler = 'index.handler', handlerGiven = false): Promise<Bundle> {
  const archive = openZip(zipSync(Object.fromEntries(Object.entries(files).map(([name, text]) => [name, strToU8(text)]))))
  return bundleZip({ archive, handler, handlerGiven }, systemClock)
}

async function failure(files: Files, handler?: string, handlerGiven?: boolean): Promise<string> {
  try {
    return `bundled: ${(await bundle(files, handler, handlerGiven)).source}`
  } catch (error) {
    return `${toCodedError(error).code}: ${toCodedError(error).message}`
  }
}

/** Runs a bundle as the engine would: as a module without anything around it. */
async function load(made: Bundle): Promise<Record<string, unknown>> {
  return await import(`data:text/javascript,${encodeURIComponent(made.source)}#${Math.random()}`) as Record<string, unknown>
}

await t.test('nothing outside of the zip can be imported, by any spelling', async (t) => {
  const secret = readdirSync('.').filter((name) => name.endsWith('.json'))[0] ?? ''
  t.ok(secret, 'there is a file that could leak')
  for (const source of [
    'import x from "../../../../../../etc/hostname"; export const handler = x', 'import "/etc/hostname"; export const handler = 1', `import x from "./${secret}"; export const handler = x`,
    'require("../../../../../../etc/hostname"); export const handler = 1', `require("./${secret}"); export const handler = 1`, 'import x from "#internal"; export const handler = x',
    'import x from "file:///etc/hostname"; export const handler = x', 'import x from "data:text/javascript,1"; export const handler = x', 'export * from "..";', 'import "./.."',
    'import x from "fflate"; export const handler = x',
  ]) t.match(await failure({ 'index.mjs': source, 'other.txt': '' }), /^ERR_BUNDLE_SYNTAX: .*Could not resolve/, source)
})

await t.test('computed imports read nothing from the disk and throw when they run', async (t) => {
  for (const [title, call, file = 'index.mjs'] of [
    ['import', 'import("./" + name)'], ['template', 'import(`./${name}`)'], ['parent', 'import("../../../../../../etc/" + name)'], ['comment', 'import(/* x */ "./" + name)'], ['lines', 'import\n(\n"./" + name)'],
    ['require', 'require("./" + name)'], ['parentheses', '(require)("./" + name)'], ['optional', 'require?.("./" + name)'], ['nested', '`${require(`./${name}.json`)}`'],
    ['escaped', 'r\\u0065quire("./" + name)'], ['escaped long', '\\u{72}equire("./" + name)'], ['type', '(require as any)("./" + name)', 'index.ts'], ['not null', 'require!("./" + name)', 'index.ts'], ['generic', 'require<string>("./" + name)', 'index.ts'],
    ['jsx', 'require("./" + name)', 'index.jsx'],
  ] as const) {
    const made = await bundle({ [file]: `import "./other.mjs"; export const handler = (name) => ${call}`, 'other.mjs': 'globalThis.other = 1' })
    t.notMatch(made.source, /devDependencies|compilerOptions|lockfileVersion/, `${title}: nothing of this folder is in it`)
    const { handler } = await load(made) as { handler: (name: string) => unknown }
    await t.rejects(async () => { await handler('package.json') }, /computed paths|__require|not defined|not supported/, title)
  }
})

await t.test('names with wildcards are names', async (t) => {
  t.match(await bundle({ '*.mjs': 'export const handler = 1' }, '*.handler', true), { fileName: '*.mjs' })
  t.match(await failure({ 'index.mjs': 'import "./*.json"; export const handler = 1' }), /Could not resolve/)
  const made = await bundle({ 'index.mjs': 'import x from "./*.json"; export const handler = x', '*.json': '{"star":1}' })
  t.same((await load(made))['handler'], { star: 1 })
})

await t.test('faults are told with their place', async (t) => {
  t.match(await failure({ 'index.mjs': 'export const handler = ' }), /^ERR_BUNDLE_SYNTAX: .*index.mjs:1:2\d: Unexpected end of file/)
  t.match(await failure({ 'index.mjs': 'import "./lib.js"', 'lib.js': 'let a\nlet a' }), /lib.js:2:4/)
  t.match(await failure({ 'index.mjs': 'import("./" + x', 'lib.js': '' }), /index.mjs:1:15/)
  t.match(await failure({ 'index.mjs': 'import x from "./a.wasm"', 'a.wasm': '' }), /index\.mjs:1:14: .*no WebAssembly inside of functions/)
  t.match(await failure({ 'index.mjs': 'import x from "./a.xyz"', 'a.xyz': '' }), /a.xyz cannot be imported/)
  t.match(await failure({ 'index.mjs': 'import x from "./a.json"', 'a.json': '{' }), /a.json:1/)
  t.match(await failure({ 'index.mjs': 'import "p"', 'node_modules/p/package.json': '{' }), /node_modules\/p\/package.json is not JSON/)
  t.match(await failure({ 'index.mjs': Array.from({ length: 8 }, (_each, index) => `import "${index}x"`).join('\n') }), /and 3 more/)
  t.match(await failure({ 'main.py': 'print(1)' }), /^ERR_ZIP_INVALID: .*no module at all/)
  t.match(await failure({ 'a.js': '', 'b.js': '' }), /no index.mjs, index.js or index.ts.*it holds a.js, b.js/)
  t.match(await failure({ 'a.js': '' }, 'index.handler', true), /it holds a.js/)
  for (const handler of ['index', 'index.', '.handler', 'index..x', 'dir/']) t.match(await failure({ 'index.mjs': '1' }, handler, true), /^ERR_PARAMETER: Handler must be like/, handler)
  t.match(await failure({ 'index.mjs': `export const handler = "${'x'.repeat(10 * 1024 * 1024)}"` }), /^ERR_BUNDLE_TOO_LARGE/)
  const notUtf8 = openZip(zipSync({ 'index.mjs': new Uint8Array([0x31, 0xff]) }))
  await t.rejects(bundleZip({ archive: notUtf8, handler: 'index.handler', handlerGiven: false }, systemClock), { code: 'ERR_BUNDLE_SYNTAX', message: /not UTF-8/ })
})

await t.test('a source that ends esbuild is refused, and others bundle on', async (t) => {
  const hostile = failure({ 'index.mjs': `export default ${'('.repeat(3_000_000)}` })
  const innocent = bundle({ 'index.js': 'exports.handler = () => 7' })
  t.match(await hostile, /^ERR_BUNDLE_SYNTAX: .*nested very deeply/)
  const { handler } = await load(await innocent) as { handler: () => number }
  t.equal(handler(), 7)
})

await t.test('a single module is used as it is', async (t) => {
  const source = '// a comment\n\nexport const handler = async () => ({ ok: true })\n'
  t.same(await bundle({ 'index.mjs': source }), { source, sourceMap: null, chunks: [], ownCodeFirst: false, fileName: 'index.mjs', handlerExport: null })
  t.same(await bundle({ 'index.js': source, 'README.md': 'x' }), { source, sourceMap: null, chunks: [], ownCodeFirst: false, fileName: 'index.js', handlerExport: null })
  t.same(await bundle({ 'worker.js': source }), { source, sourceMap: null, chunks: [], ownCodeFirst: false, fileName: 'worker.js', handlerExport: null }, 'the only module, when no handler was named')
})

await t.test('the handler decides on entry and export', async (t) => {
  const both = 'export const handler = 1; export const other = 2; export default { fetch() {} }'
  t.match(await bundle({ 'index.mjs': both }), { handlerExport: null }, 'no handler was named: fetch first')
  t.match(await bundle({ 'index.mjs': both }, 'index.handler', true), { handlerExport: 'handler' })
  t.match(await bundle({ 'index.mjs': both }, 'index.other', true), { handlerExport: 'other' })
  t.match(await bundle({ 'index.mjs': 'export default { fetch() {} }' }, 'index.handler', true), { handlerExport: null }, 'SDKs always name one')
  t.match(await bundle({ 'index.mjs': 'export const x = 1' }, 'index.handler', true), { handlerExport: 'handler' }, 'the builder says that it is not there')
  t.match(await bundle({ 'src/v1.2/app.ts': 'export const go: number = 1' }, 'src/v1.2/app.go', true), { fileName: 'src/v1.2/app.ts', handlerExport: 'go' })
  t.match(await bundle({ 'index.mjs': both, 'index.js': '' }), { fileName: 'index.mjs' })
  const nested = await bundle({ 'index.mjs': 'export const api = { v1: { get: () => 5 } }' }, 'index.api.v1.get', true)
  t.equal(nested.handlerExport, 'handler')
  t.equal(((await load(nested))['handler'] as () => number)(), 5)
})

await t.test('CommonJS works', async (t) => {
  for (const [source, file] of [
    ['exports.handler = () => 1', 'index.js'], ['module.exports = { handler: () => 1 }', 'index.cjs'], ['module.exports.handler = () => 1', 'index.js'],
    ['const { one } = require("./lib"); exports.handler = () => one', 'index.js'], ['"use strict"; var lib_1 = require("./lib"); Object.defineProperty(exports, "__esModule", { value: true }); exports.handler = () => lib_1.one', 'index.js'],
  ] as const) {
    const made = await bundle({ [file]: source, 'lib.js': 'exports.one = 1' })
    t.equal(((await load(made))['handler'] as () => number)(), 1, source)
    t.equal(made.handlerExport, null)
  }
  const named = await bundle({ 'index.js': 'exports.go = () => 2' }, 'index.go', true)
  t.equal(named.handlerExport, 'handler')
  t.equal(((await load(named))['handler'] as () => number)(), 2)
  const guarded = await bundle({ 'index.js': 'let fs; try { fs = require("fs") } catch { fs = "none" }; exports.handler = () => fs' })
  t.equal(((await load(guarded))['handler'] as () => string)(), 'none', 'a guarded require of what is not there')
  const universal = await bundle({ 'index.js': 'const lib = require("./umd"); exports.handler = () => lib()', 'umd.js': '(function (root, make) { if (typeof exports === "object" && typeof module !== "undefined") module.exports = make(typeof require); else root.lib = make() })(this, function (kind) { return () => "umd" })' })
  t.equal(((await load(universal))['handler'] as () => string)(), 'umd')
})

await t.test('packages in the zip are found as a bundler for the web finds them', async (t) => {
  const json = (value: unknown): string => JSON.stringify(value)
  const cases: [string, string, Files, unknown][] = [
    ['main', 'p', { 'node_modules/p/package.json': json({ main: './lib/main' }), 'node_modules/p/lib/main.js': 'module.exports = 1' }, 1],
    ['main without ./', 'p', { 'node_modules/p/package.json': json({ main: 'm.js' }), 'node_modules/p/m.js': 'module.exports = 1' }, 1],
    ['module before main', 'p', { 'node_modules/p/package.json': json({ main: 'm.js', module: 'e.mjs' }), 'node_modules/p/m.js': 'throw 1', 'node_modules/p/e.mjs': 'export default 2' }, 2],
    ['browser before module', 'p', { 'node_modules/p/package.json': json({ browser: 'b.js', module: 'e.mjs' }), 'node_modules/p/b.js': 'export default 3', 'node_modules/p/e.mjs': 'throw 1' }, 3],
    ['index', 'p', { 'node_modules/p/index.js': 'export default 4' }, 4],
    ['scope and subpath', '@s/p/deep/x', { 'node_modules/@s/p/deep/x.js': 'export default 5' }, 5],
    ['exports string', 'p', { 'node_modules/p/package.json': json({ exports: './x.js', main: './no.js' }), 'node_modules/p/x.js': 'export default 6' }, 6],
    ['conditions in order', 'p', { 'node_modules/p/package.json': json({ exports: { '.': { node: './n.js', workerd: { import: './w.js' }, default: './d.js' } } }), 'node_modules/p/w.js': 'export default 7', 'node_modules/p/n.js': '', 'node_modules/p/d.js': '' }, 7],
    ['import, not require', 'p', { 'node_modules/p/package.json': json({ exports: { require: './r.cjs', import: './i.mjs' } }), 'node_modules/p/r.cjs': 'throw 1', 'node_modules/p/i.mjs': 'export default 8' }, 8],
    ['patterns', 'p/features/a.js', { 'node_modules/p/package.json': json({ exports: { './features/*.js': './src/*.mjs', './features/private/*': null } }), 'node_modules/p/src/a.mjs': 'export default 9' }, 9],
    ['array', 'p', { 'node_modules/p/package.json': json({ exports: [{ node: './n.js' }, './a.js'] }), 'node_modules/p/a.js': 'export default 10' }, 10],
    ['nested packages', 'p', { 'node_modules/p/index.js': 'export { default } from "q"', 'node_modules/p/node_modules/q/index.js': 'export default 11', 'node_modules/q/index.js': 'throw 1' }, 11],
    ['browser map', 'p', { 'node_modules/p/package.json': json({ browser: { './node.js': './web.js', fs: false } }), 'node_modules/p/index.js': 'import fs from "fs"; import x from "./node.js"; export default x', 'node_modules/p/node.js': 'throw 1', 'node_modules/p/web.js': 'export default 12' }, 12],
    ['imports', 'p', { 'node_modules/p/package.json': json({ imports: { '#dep': './inner.js' } }), 'node_modules/p/index.js': 'export { default } from "#dep"', 'node_modules/p/inner.js': 'export default 13' }, 13],
  ]
  for (const [title, specifier, files, expected] of cases) {
    const made = await bundle({ 'index.mjs': `import x from ${JSON.stringify(specifier)}; export const handler = x`, ...files })
    t.equal((await load(made))['handler'], expected, title)
  }
  t.match(await failure({ 'index.mjs': 'import "p/secret.js"', 'node_modules/p/package.json': json({ exports: './x.js' }), 'node_modules/p/secret.js': '1', 'node_modules/p/x.js': '1' }), /Could not resolve/, 'exports hide what they do not name')
  t.match(await failure({ 'index.mjs': 'import "p"', 'node_modules/p/package.json': json({ exports: './../../index.mjs' }), 'node_modules/p/x.js': '1' }), /Could not resolve/, 'exports stay in their package')
  t.match(await bundle({ 'index.ts': 'import { x } from "./lib.js"; export const handler: number = x', 'lib.ts': 'export const x: number = 1' }), { fileName: 'index.ts' })
})

await t.test('text, JSON and binary files can be imported', async (t) => {
  const made = await bundle({ 'index.mjs': 'import a from "./a.txt"; import b from "./b.json"; import c from "./c.data"; export const handler = [a, b.x, c.length]', 'a.txt': 'text', 'b.json': '{"x":2}', 'c.data': 'abc' })
  t.same((await load(made))['handler'], ['text', 2, 3])
})

await t.test('bundling that takes too long is ended', async (t) => {
  const text = `export const handler = [${'(() => { return [1, 2, { a: `x` }] })(),'.repeat(100_000)}]`
  const archive = openZip(zipSync({ 'index.mjs': strToU8(`import "./a.mjs"; ${text}`), 'a.mjs': strToU8(text) }, { level: 1 }))
  for (const turns of [0, 1, 5]) {
    const clock = new ManualClock()
    const bundling = bundleZip({ archive, handler: 'index.handler', handlerGiven: false }, clock)
    bundling.catch(() => undefined)
    for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setTimeout(resolve, 2))
    clock.advance(60_000)
    await t.rejects(bundling, { code: 'ERR_BUNDLE_LIMIT', message: /time limit of 20000 ms/ }, `after ${turns} turns`)
  }
  t.match(await bundle({ 'index.js': 'exports.handler = 1' }), { fileName: 'index.js' }, 'the next one is not affected')
})

await t.test('process.env is the prelude\'s binding, and process itself stays undefined', async (t) => {
  for (const files of [{ 'index.mjs': 'export const handler = async () => process.env.NAME' }, { 'index.js': 'exports.handler = async () => process.env.NAME' }]) {
    const { source } = await bundle(files)
    t.match(source, /__OUTPOST_ENV__\.NAME/)
    t.notMatch(source, /process\.env/)
  }
  t.equal((await bundle({ 'index.mjs': 'export const handler = async () => 1\n' })).source, 'export const handler = async () => 1\n', 'else a plain module is left as it is')
})

await t.test('a module of Node that functions have not is refused with the chain of imports', async (t) => {
  t.match(await failure({ 'index.mjs': 'import x from "node:fs"; export const handler = x' }), /^ERR_BUNDLE_IMPORT: .*node:fs.* index\.mjs -> node:fs/)
  const files = { 'index.mjs': 'import "./lib/a.js"; export const handler = 1', 'lib/a.js': 'require("deep")', 'node_modules/deep/package.json': '{"main":"main.js"}', 'node_modules/deep/main.js': 'require("net")' }
  t.match(await failure(files), /^ERR_BUNDLE_IMPORT: .*index\.mjs -> lib\/a\.js -> node_modules\/deep\/main\.js -> net/)
})

await t.test('modules of Node that functions have come with the bundle, by either name and either way', async (t) => {
  const made = await bundle({
    'index.mjs': 'import { join } from "node:path"; import own from "./own.cjs"; export default { fetch: () => Response.json([join("a", "b"), own.text, own.web, own.optional]) }',
    'own.cjs': 'const EventEmitter = require("events"); exports.text = new EventEmitter() instanceof EventEmitter && require("node:util").format("%s", Buffer.from("hi").toString("hex")); exports.web = require("mapped"); try { require("fs") } catch (error) { exports.optional = "no fs" }',
    'node_modules/mapped/package.json': '{"main":"m.js","browser":{"crypto":false}}', 'node_modules/mapped/m.js': 'module.exports = Object.keys(require("crypto")).length',
    'node_modules/events/package.json': '{"main":"e.js"}', 'node_modules/events/e.js': 'throw new Error("the package of that name comes after the module")',
  })
  const answer = (await Machine.create(made.source)).invoke()
  t.equal(answer.failure, null)
  t.equal(answer.text, '["a/b","6869",0,"no fs"]')
  t.notMatch(made.source, /\bfrom "/)
})
