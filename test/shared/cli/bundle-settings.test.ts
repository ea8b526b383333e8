/** What a configuration says of the source, as it comes out of both ways of bundling. */
import t from 'tap'
import { join } from 'node:path'
import { bundle, openBundler } from '../../../shared/cli/bundle.ts'
import { globPattern } from '../../../shared/cli/bundle-settings.ts'

async function both(dir: string, source: Parameters<typeof bundle>[2]): Promise<readonly string[]> {
  const bundler = await openBundler(join(dir, 'app.js'), dir, source)
  try {
    return [Buffer.from((await bundle(join(dir, 'app.js'), dir, source)).code).toString(), Buffer.from((await bundler.build()).code).toString()]
  } finally {
    await bundler.close()
  }
}

async function answer(code: string): Promise<unknown> {
  return ((await import(`data:text/javascript,${encodeURIComponent(code)}`)) as { readonly default: { fetch(): unknown } }).default.fetch()
}

t.test('a file that a rule makes WebAssembly is refused by its name', async (t) => {
  const dir = t.testdir({ 'app.js': 'import m from "./a.bytes"; export default { fetch: () => m }', 'a.bytes': 'x' })
  await t.rejects(bundle(join(dir, 'app.js'), dir, { rules: [{ type: 'CompiledWasm', globs: ['*.bytes'] }] }), { code: 'ERR_BUNDLE_SYNTAX', message: /a\.bytes is WebAssembly by a rule/ })
})

t.test('alias, define, minify and rules', async (t) => {
  const dir = t.testdir({
    'app.js': `import text from './page.md'
      import also from './deep/er/page.md'
      import data from './data.raw'
      import plain from './script.txt'
      import { name } from 'library'
      const aVeryLongName = [text, also, data instanceof ArrayBuffer, new Uint8Array(data)[1], plain, name, BUILD]
      export default { fetch: () => aVeryLongName }`,
    'page.md': '# one', deep: { er: { 'page.md': '# two' } }, 'data.raw': 'abc', 'script.txt': 'export default 7', 'stand-in.js': 'export const name = "stand-in"',
    node_modules: { library: { 'package.json': '{ "name": "library", "version": "1.0.0", "main": "index.js" }', 'index.js': 'exports.name = "library"' } },
  })
  const source = {
    alias: { library: './stand-in.js' }, define: { BUILD: '"nightly"' }, minify: true,
    rules: [{ type: 'Text' as const, globs: ['**/*.md'], fallthrough: true }, { type: 'Data' as const, globs: ['*.raw'] }, { type: 'ESModule' as const, globs: ['script.txt'] }],
  }
  // Node 22 has no Uint8Array.fromBase64; machines do.
  const withBase64 = (code: string): string => `Uint8Array.fromBase64 ??= (text) => Uint8Array.from(atob(text), (each) => each.charCodeAt(0));${code}`
  for (const code of await both(dir, source)) {
    t.same(await answer(withBase64(code)), ['# one', '# two', true, 98, 7, 'stand-in', 'nightly'])
    t.notMatch(code, /aVeryLongName/)
  }
  for (const code of await both(t.testdir({ 'app.js': 'export default { fetch: () => [typeof BUILD, typeof process.env] }' }), {})) t.match(code, /BUILD/)
})

t.test('a library that is split off is minified and aliased alike', async (t) => {
  const heavy = `export const heavy = ${JSON.stringify('x'.repeat(20_000))}\nexport function lengthOfHeavy() { return heavy.length + BUILD }`
  const dir = t.testdir({
    'app.js': 'import { lengthOfHeavy } from "big"; export default { fetch: () => lengthOfHeavy() }',
    node_modules: { big: { 'package.json': '{ "name": "big", "version": "1.2.3", "type": "module", "main": "index.js" }', 'index.js': heavy } },
  })
  const made = await bundle(join(dir, 'app.js'), dir, { minify: true, define: { BUILD: '1' } })
  t.equal(made.chunks.length, 1)
  t.match(made.chunks[0]?.source, /length\+1/)
  t.match(Buffer.from(made.code).toString(), /npm:big@1\.2\.3#/)
})

t.test('globs', async (t) => {
  for (const [glob, matching, others] of [
    ['**/*.md', ['a.md', 'b/c/a.md'], ['a.mdx', 'a.md/b']], ['*.raw', ['a.raw'], ['b/a.raw', 'araw']], ['./src/**', ['src/a', 'src/b/c'], ['a']], ['a?.{txt,html}', ['ab.txt', 'ac.html'], ['a.txt', 'ab.js']], ['a+b(c).x', ['a+b(c).x'], ['aab(c).x']],
  ] as const) {
    for (const path of matching) t.match(path, globPattern(glob), `${glob} ${path}`)
    for (const path of others) t.notMatch(path, globPattern(glob), `${glob} not ${path}`)
  }
})
