/** What `outpost deploy` says of an image: against a real bundle and a real build. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { bundle } from '../../../shared/cli/bundle.ts'
import { renderReport, renderWarnings, reportOf } from '../../../shared/cli/publish-report.ts'
import { bundlePrelude } from '../../../shared/guest/bundle.ts'
import { buildImage } from '../../../shared/microvm/build.ts'
import { decodeManifest } from '../../../shared/microvm/manifest.ts'
import { buildRequest, testEngine } from '../../support/engine.ts'

const RECORD = { FunctionName: 'f', FunctionArn: 'arn', Version: '$LATEST' }

await t.test('sizes by library and by module, and how priming went', async (t) => {
  const dir = t.testdir({})
  writeFileSync(join(dir, 'greeting.ts'), 'export const greeting: string = "hello"')
  const entry = join(dir, 'index.ts')
  writeFileSync(entry, `import { Hono } from 'hono'
import { greeting } from './greeting'
const app = new Hono()
app.all('*', (c) => c.text(greeting + crypto.randomUUID()))
const once = Math.random()
app.get('/once', (c) => c.text(String(once)))
export default app`)
  const made = await bundle(entry, dir)
  const engine = testEngine({ prelude: await bundlePrelude() })
  const built = buildImage(engine.images, engine.arena, buildRequest(Buffer.from(made.code).toString(), { sourceMap: Buffer.from(made.sourceMap).toString(), chunks: made.chunks, ownCodeFirst: made.ownCodeFirst, prime: null }))
  if (built.kind === 'refused') throw new Error(built.error.params.join(' '))

  const report = reportOf({ ...RECORD, Outpost: { Report: built.report } })
  if (report === null) throw new Error('no report')
  // Beside base and prelude: what is measured is what the manifests have.
  const pages = built.images.slice(2).map(({ encodedManifest, imageId }) => decodeManifest(encodedManifest, imageId).pages.length)
  t.equal(report.images?.reduce((sum, { kib }) => sum + kib, 0), pages.reduce((sum, count) => sum + count * 4, 0))
  t.match(report.images?.map(({ name }) => name), [/^(hono@|own code$)/, /^(hono@|own code$)/], 'the library is a layer')
  t.same(made.modules.map(({ name }) => name), ['hono', 'index.ts', 'greeting.ts'])

  const text = renderReport(report, made.modules)
  t.match(text, /^image: \d+ KiB over the prelude's, not primed: .*entropy/)
  t.match(text, /\d+\.\d KiB {2}hono\n/)
  t.match(text, /\d+ B {2}greeting\.ts\n/)
  t.match(text, /warning: Math\.random at top level .*index\.ts:5/)
  t.match(renderWarnings(report), /^not primed: .*\nwarning: Math\.random/)
})

t.test('long lists end in a sum; a server that says nothing gets no report', async (t) => {
  const modules = Array.from({ length: 14 }, (_, index) => ({ name: `package-${index}`, bytes: 1_000 - index }))
  const report = { primed: true, primeNote: 'primed with GET /', warnings: [], buildMs: 1, pages: 3 }
  const text = renderReport(report, modules)
  t.match(text, /^image: 12 KiB over the prelude's, primed with GET \/\ncode:\n/)
  t.match(text, /package-9\n +3\.9 KiB {2}4 more\n$/)
  t.equal(renderWarnings(report), '')
  t.match(renderReport({ ...report, missingServices: [{ binding: 'LEAF', service: 'leaf' }] }, modules), /^warning: the service binding LEAF is of leaf, which is not deployed/m)
  t.equal(reportOf(RECORD), null)
})
