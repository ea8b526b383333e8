import t from 'tap'
import { unzipSync, zipSync } from 'fflate'
import { bundleZip } from '../../../shared/api/bundle.ts'
import { openZip } from '../../../shared/api/zip.ts'
import { systemClock } from '../../../shared/clock.ts'
import { bundle, openBundler } from '../../../shared/cli/bundle.ts'
import { zipBundle } from '../../../shared/cli/zip.ts'
import { Machine } from '../guest/harness.ts'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

t.test('a node: import is refused with the way that led to it', async (t) => {
  const dir = t.testdir({
    'app.ts': `import { read } from './lib/read.ts'\nexport default { fetch: () => new Response(read()) }\n`,
    lib: { 'read.ts': `import files from 'pkg'\nexport const read = () => files()\n` },
    node_modules: { pkg: { 'package.json': '{"name":"pkg","main":"index.js"}', 'index.js': `import { readFileSync } from 'node:fs'\nexport default () => readFileSync('x')\n` } },
  })
  await t.rejects(bundle(join(dir, 'app.ts'), dir), {
    code: 'ERR_BUNDLE_IMPORT',
    message: /no module node:fs, imported by way of: app\.ts -> lib\/read\.ts -> node_modules\/pkg\/index\.js -> node:fs/,
  })
})

t.test('the old names of Node modules are refused alike', async (t) => {
  const dir = t.testdir({ 'app.js': `const fs = require('fs')\nexport const handler = async () => fs\n` })
  await t.rejects(bundle(join(dir, 'app.js'), dir), { code: 'ERR_BUNDLE_IMPORT', params: ['fs', 'app.js -> fs'] })
})

t.test("a package's own stand-in for a Node module is used", async (t) => {
  const dir = t.testdir({
    'app.js': `import hash from 'pkg'\nexport const handler = async () => hash\n`,
    node_modules: { pkg: { 'package.json': '{"name":"pkg","main":"index.js","browser":{"crypto":false}}', 'index.js': `module.exports = require('crypto')\n` } },
  })
  t.same((await bundle(join(dir, 'app.js'), dir)).exports, ['handler'])
})

t.test('a package that is not installed gives its place', async (t) => {
  const dir = t.testdir({ 'app.js': `\nimport x from 'not-there'\nexport default x\n` })
  await t.rejects(bundle(join(dir, 'app.js'), dir), { code: 'ERR_BUNDLE_SYNTAX', message: /app\.js:2:15: Could not resolve "not-there"/ })
})

t.test('exports condition workerd wins, process.env.NODE_ENV is production, types are gone', async (t) => {
  const dir = t.testdir({
    'app.ts': `import { where } from 'pkg'\nconst mode: string = process.env.NODE_ENV\nexport const handler = async (): Promise<string> => where + mode\n`,
    node_modules: { pkg: { 'package.json': '{"name":"pkg","type":"module","exports":{"workerd":"./worker.js","node":"./node.js","default":"./node.js"}}', 'worker.js': `export const where = 'in a worker'`, 'node.js': `export const where = 'in node'` } },
  })
  const code = Buffer.from((await bundle(join(dir, 'app.ts'), dir)).code).toString()
  t.match(code, /in a worker/)
  t.notMatch(code, /in node|process\.env|Promise<string>/)
  t.match(code, /"production"/)
})

t.test('a bundler that failed builds again after the mistake is mended', async (t) => {
  const dir = t.testdir({ 'app.js': 'export default {' })
  const bundler = await openBundler(join(dir, 'app.js'), dir)
  t.teardown(() => bundler.close())
  await t.rejects(bundler.build(), { code: 'ERR_BUNDLE_SYNTAX' })
  writeFileSync(join(dir, 'app.js'), 'export default { fetch() {} }')
  const built = await bundler.build()
  t.same(built.exports, ['default'])
  t.same(built.inputs, [join(dir, 'app.js')])
})

t.test('equal bundles make equal zips', async (t) => {
  const dir = t.testdir({ 'app.js': 'export default { fetch() {} }' })
  const [one, two] = [await bundle(join(dir, 'app.js'), dir), await bundle(join(dir, 'app.js'), dir)]
  t.same(zipBundle(one), zipBundle(two))
  t.same(unzipSync(zipBundle(one))['index.mjs'], one.code)
})

t.test('libraries are chunks of the zip, which the region takes as they are and bundles in when it must', async (t) => {
  const heavy = `export const heavy = () => ${JSON.stringify('x'.repeat(10_000))}.length\n`
  const dir = t.testdir({
    app: { 'app.ts': `import { heavy } from 'lib'\nimport old from 'old'\nexport default { fetch: () => new Response(String(heavy() + old.y)) }\n` },
    node_modules: {
      lib: { 'package.json': '{"name":"lib","version":"2.0.0","type":"module","exports":"./main.js"}', 'main.js': `${heavy}export const unused = 1\n` },
      old: { 'package.json': '{"name":"old","version":"0.1.0"}', 'index.js': `exports.y = ${JSON.stringify('y'.repeat(9_000))}.length\n` },
    },
  })
  const made = await bundle(join(dir, 'app/app.ts'), dir)
  t.match(made.chunks.map(({ name }) => name), [/^npm:lib@2\.0\.0#/, /^npm:old@0\.1\.0#/])
  t.match(made.exports, ['default'])
  t.ok(made.code.byteLength < 5_000)
  t.ok(JSON.parse(Buffer.from(made.sourceMap).toString()), 'of what is left')
  t.same((await bundle(join(dir, 'app/app.ts'), join(dir, 'app'))).chunks, made.chunks, 'wherever the command is run')

  const archive = openZip(zipBundle(made))
  const open = (inseparable: readonly string[]): ReturnType<typeof bundleZip> => bundleZip({ archive, handler: 'index.handler', handlerGiven: false, inseparable: new Set(inseparable) }, systemClock)
  t.same((await open([])).chunks, made.chunks)
  const whole = await open(made.chunks.map(({ name }) => name))
  t.same(whole.chunks, [])
  const module = await import(`data:text/javascript,${encodeURIComponent(whole.source)}`) as { default: { fetch(): Response } }
  t.equal(await module.default.fetch().text(), '19000')

  const bundler = await openBundler(join(dir, 'app/app.ts'), dir)
  t.teardown(() => bundler.close())
  t.same((await bundler.build()).chunks, [], 'an edit is not kept waiting for it')
})

t.test('cloudflare:workers is there for both bundlers, with the env and waitUntil of the function', async (t) => {
  const source = `import { env, waitUntil, WorkerEntrypoint } from 'cloudflare:workers'\nexport class Api extends WorkerEntrypoint { fetch() { return new Response('api ' + this.env.WORD) } }\n`
    + `export default { fetch(request, given) { waitUntil(new Promise((done) => setTimeout(done, 1)).then(() => console.log('done'))); return new Response(String(given === env) + env.WORD) } }\n`
  const dir = t.testdir({ 'index.js': source })
  const zipped = await bundleZip({ archive: openZip(zipSync({ 'index.js': Buffer.from(source) })), handler: 'index.handler', handlerGiven: false }, systemClock)
  for (const code of [Buffer.from((await bundle(join(dir, 'index.js'), dir)).code).toString(), zipped.source]) {
    const machine = await Machine.create(code, { vars: { WORD: 'w' } })
    t.match(machine.invoke(), { text: 'truew', logs: ['1 done'] })
    t.equal(machine.invoke({ selection: { entrypoint: 'Api' } }).text, 'api w')
  }
})

t.test('what cloudflare: has and functions do not is refused where it is imported', async (t) => {
  const dir = t.testdir({
    'sockets.js': `import { open } from './lib.js'\nexport default { fetch: () => open() }\n`,
    'lib.js': `import { connect } from 'cloudflare:sockets'\nexport const open = () => connect('x:1')\n`,
    'objects.js': `import { DurableObject } from 'cloudflare:workers'\nexport class Counter extends DurableObject {}\nexport default { fetch: () => new Response('') }\n`,
  })
  await t.rejects(bundle(join(dir, 'sockets.js'), dir), { code: 'ERR_BUNDLE_IMPORT', params: ['cloudflare:sockets', 'sockets.js -> lib.js -> cloudflare:sockets'] })
  await t.rejects(bundle(join(dir, 'objects.js'), dir), { code: 'ERR_BUNDLE_SYNTAX', message: /objects\.js:1:10: No matching export in "outpost-virtual:cloudflare:workers" for import "DurableObject"/ })
})

t.test('text and data are modules for both bundlers, and WebAssembly is refused at its import', async (t) => {
  const files = {
    'index.js': `import text from './a.txt'\nimport page from './b.html'\nimport query from './c.sql'\nimport bytes from './d.bin'\nexport default { fetch: () => Response.json([text, page, query, bytes instanceof ArrayBuffer, [...new Uint8Array(bytes)]]) }\n`,
    'a.txt': 'té', 'b.html': '<p>', 'c.sql': 'select 1', 'd.bin': Buffer.from([0, 255, 7]),
  }
  const bad = { 'index.js': `import start from './run.js'\nexport default { fetch: () => start() }\n`, 'run.js': `\nimport module from './m.wasm'\nexport default () => module\n`, 'm.wasm': Buffer.from([0]) }
  const dir = t.testdir({ good: files, bad })
  const zip = (entries: Record<string, string | Buffer>): ReturnType<typeof bundleZip> =>
    bundleZip({ archive: openZip(zipSync(Object.fromEntries(Object.entries(entries).map(([name, content]) => [name, Buffer.from(content)])))), handler: 'index.handler', handlerGiven: false }, systemClock)
  for (const code of [Buffer.from((await bundle(join(dir, 'good/index.js'), join(dir, 'good'))).code).toString(), (await zip(files)).source]) {
    t.same(JSON.parse((await Machine.create(code)).invoke().text), ['té', '<p>', 'select 1', true, [0, 255, 7]])
  }
  const refused = { code: 'ERR_BUNDLE_SYNTAX', message: /run\.js:2:\d+: Could not resolve "\.\/m\.wasm": there is no WebAssembly inside of functions/ }
  await t.rejects(bundle(join(dir, 'bad/index.js'), join(dir, 'bad')), refused)
  await t.rejects(zip(bad), refused)
})
