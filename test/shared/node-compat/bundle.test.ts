/** What bundles have of Node: what they import, by any name, and not a byte more. */
import t from 'tap'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { build } from 'esbuild'
import { bundle, bundleOptions } from '../../../shared/cli/bundle.ts'
import { nodeModuleTable } from '../../support/node-modules-table.ts'
import { Machine } from '../guest/harness.ts'
import { bundleText, makeFolder } from './run-both.ts'

async function answer(code: Uint8Array): Promise<unknown> {
  const out = (await Machine.create(Buffer.from(code).toString())).invoke()
  return out.failure ?? JSON.parse(out.text)
}

const WEB = `
  const isNode = typeof process !== 'undefined' && process.versions
  const bytes = typeof Buffer === 'undefined' ? new Uint8Array(2) : Buffer.alloc(2)
  export default { fetch: () => Response.json([!!isNode, bytes.constructor.name, process.env.NODE_ENV, typeof process]) }`

t.test('a function of the web stays as it is, byte for byte', async (t) => {
  const { code } = await bundleText(t, WEB)
  const folder = makeFolder(t)
  writeFileSync(join(folder, 'index.mjs'), WEB)
  const plain = await build({ ...bundleOptions('index.mjs', folder), plugins: [], sourcemap: false })
  t.equal(Buffer.from(code).toString(), plain.outputFiles[0]?.text)
  t.same(await answer(code), [false, 'Uint8Array', 'production', 'undefined'])
})

t.test('Buffer, process and setImmediate as globals, in files that do not ask', async (t) => {
  const { code } = await bundleText(t, `
    const text = Buffer.from('aGk=', 'base64').toString()
    export default { fetch: () => new Promise((resolve) => process.nextTick(() => setImmediate(() => resolve(Response.json([text, process.platform, process.env.NODE_ENV, __dirname, typeof globalThis.Buffer, typeof globalThis.process]))))) }`)
  t.same(await answer(code), ['hi', 'linux', 'production', '/var/task', 'undefined', 'undefined'])
})

t.test('named imports of modules that others share are set up', async (t) => {
  const { code } = await bundleText(t, `import { Buffer } from 'buffer'; import { EventEmitter } from 'events'; import { StringDecoder } from 'string_decoder'; import { inspect } from 'util'; import { createHash } from 'crypto'; import { Readable } from 'stream'
    export default { async fetch() { return Response.json([Buffer.from('a').toString('hex'), new EventEmitter().listenerCount('x'), new StringDecoder().write(Buffer.from('b')), inspect({ a: 1 }), createHash('sha1').update('').digest('hex').length, await Readable.from([1, 2]).toArray()]) } }`)
  t.same(await answer(code), ['61', 0, 'b', '{ a: 1 }', 40, [1, 2]])
})

t.test('names that a file declares are its own', async (t) => {
  const { code } = await bundleText(t, `const Buffer = { from: () => 'mine' }; const f = (process) => process.exit; export default { fetch: () => Response.json([Buffer.from(), f({ exit: 1 })]) }`)
  t.same(await answer(code), ['mine', 1])
  t.ok(code.length < 2_000, 'nothing came with it')
})

t.test('both names, both kinds of modules, and a package of the name of a module', async (t) => {
  const folder = makeFolder(t)
  const files = {
    'own/node_modules/events/package.json': '{"main":"e.js"}', 'own/node_modules/events/e.js': 'throw new Error("comes after the module")',
    'own/node_modules/mapped/package.json': '{"main":"m.js","browser":{"crypto":false,"util":"./u.js"}}', 'own/node_modules/mapped/m.js': 'module.exports = [Object.keys(require("crypto")).length, require("util")]', 'own/node_modules/mapped/u.js': 'module.exports = "web"',
    'own/common.cjs': 'const E = require("events"); class A extends E {} ; module.exports = [new A() instanceof require("node:events").EventEmitter, typeof require("assert"), require("path") === require("node:path"), require("mapped")]; try { require("node:fs") } catch { module.exports.push("no fs") }',
    'own/index.mjs': 'import E, { once } from "node:events"; import * as path from "path"; import common from "./common.cjs"; export default { async fetch() { const { createHash } = await import("crypto"); return Response.json([typeof E, typeof once, path.join("a", "b"), path.default.sep, common, createHash("md5").update("x").digest("hex")]) } }',
  }
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  const { code, chunks } = await bundle('own/index.mjs', folder)
  t.ok(chunks.every(({ source }) => !source.includes(folder)), 'no place of a file is in a library')
  const { openBundler } = await import('../../../shared/cli/bundle.ts')
  const bundler = await openBundler('own/index.mjs', folder)
  t.teardown(() => bundler.close())
  t.same(await answer((await bundler.build()).code), ['function', 'function', 'a/b', '/', [true, 'function', true, [0, 'web'], 'no fs'], '9dd4e461268c8034f5c8564e155c67a6'])
  t.ok(code.length > 0)
})

t.test('a module that functions have not is refused with the chain of imports', async (t) => {
  await t.rejects(bundleText(t, `import { readFileSync } from 'fs'; export const handler = readFileSync`), { code: 'ERR_BUNDLE_IMPORT', params: ['fs', 'index.mjs -> fs'] })
  await t.rejects(bundleText(t, `import worker from 'node:worker_threads'; export const handler = worker`), { code: 'ERR_BUNDLE_IMPORT' })
})

t.test('SPECIFICATION.md has the table of modules', async (t) => {
  t.ok(readFileSync(new URL('../../../SPECIFICATION.md', import.meta.url), 'utf8').includes(nodeModuleTable()), 'or: print nodeModuleTable() between its marks')
})
