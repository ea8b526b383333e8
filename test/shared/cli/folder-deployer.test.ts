import t, { type Test } from 'tap'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ApiClient } from '../../../shared/cli/api-client.ts'
import { FolderDeployer } from '../../../shared/cli/folder-deployer.ts'
import { systemClock } from '../../../shared/clock.ts'
import { functionAnswer, startFakeRegion, type FakeAnswer, type FakeRegion } from '../../support/fake-region.ts'

const FETCH = (text: string): string => `export default { fetch: () => new Response(${JSON.stringify(text)}) }\n`

interface Deploying {
  readonly deployer: FolderDeployer
  readonly region: FakeRegion
  readonly said: () => string
  /** Resolves once what was said contains the text. */
  readonly untilSaid: (text: string) => Promise<void>
  readonly calls: () => readonly string[]
}

async function deploying(t: Test, dir: string, refuse: () => FakeAnswer | null = () => null): Promise<Deploying> {
  const existing = new Set<string>()
  const region = await startFakeRegion(({ method, path, body }) => {
    const refused = refuse()
    if (refused !== null && method !== 'GET') return refused
    const name = path.split('/')[3] ?? (JSON.parse(body || '{}') as { FunctionName?: string }).FunctionName ?? ''
    if (method === 'GET' && !existing.has(name)) return { status: 404, body: { OutpostCode: 'ERR_RESOURCE_NOT_FOUND', message: 'no' } }
    if (method === 'DELETE') existing.delete(name)
    else existing.add(name)
    return { status: 200, body: functionAnswer(name) }
  })
  let text = ''
  const waiting = new Set<() => void>()
  const deployer = new FolderDeployer({
    dir,
    api: new ApiClient(new URL(region.url), { accessKeyId: 'dev', secretAccessKey: 'dev' }),
    clock: systemClock,
    say: (said) => {
      text += said
      for (const look of waiting) look()
    },
  })
  t.teardown(async () => {
    await deployer.close()
    await region.close()
  })
  return {
    deployer,
    region,
    said: () => text,
    untilSaid: (wanted) =>
      new Promise((done) => {
        const look = (): void => {
          if (text.includes(wanted)) done()
        }
        waiting.add(look)
        look()
      }),
    calls: () => region.asked.filter(({ method }) => method !== 'GET').map(({ method, path }) => `${method} ${path.replace('/2015-03-31/functions', '')}`),
  }
}

t.test('one that does not compile is said and does not keep the others back; mending it deploys it', async (t) => {
  const dir = t.testdir({ 'good.js': FETCH('good'), 'broken.ts': 'let x =' })
  const { deployer, said, untilSaid } = await deploying(t, dir)
  await deployer.start()
  t.match(said(), /broken: outpost: ERR_BUNDLE_SYNTAX: .* broken\.ts:1:8: Unexpected end of file\n/)
  t.same(deployer.deployed, ['good'])
  writeFileSync(join(dir, 'broken.ts'), FETCH('mended'))
  await untilSaid('deployed broken')
  t.same(deployer.deployed, ['broken', 'good'])
})

t.test('a publish that the region refuses is tried again with the next edit', async (t) => {
  let refusal: FakeAnswer | null = { status: 400, body: { OutpostCode: 'ERR_BUNDLE_THROWS', message: 'top level threw' } }
  const dir = t.testdir({ 'a.js': FETCH('1') })
  const { deployer, said, untilSaid, calls } = await deploying(t, dir, () => refusal)
  await deployer.start()
  t.match(said(), /a: outpost: ERR_BUNDLE_THROWS: top level threw/)
  writeFileSync(join(dir, 'b.js'), FETCH('b'))
  await untilSaid('b: outpost')
  t.equal(said().match(/a: outpost/g)?.length, 1, 'said once')
  t.same(calls(), ['POST ', 'POST '], 'and sent once')
  refusal = null
  writeFileSync(join(dir, 'a.js'), FETCH('2'))
  await untilSaid('deployed a')
})

t.test('files without a handler are no functions, but are seen when they become one', async (t) => {
  const dir = t.testdir({ 'lib.js': 'export const helper = 1\n' })
  const { deployer, calls, untilSaid } = await deploying(t, dir)
  await deployer.start()
  t.same(calls(), [])
  writeFileSync(join(dir, 'lib.js'), FETCH('now'))
  await untilSaid('deployed lib')
})

t.test('an edit of an imported file, a new file and a removed file', async (t) => {
  const dir = t.testdir({ 'a.js': `import { text } from './lib/text.js'\nexport default { fetch: () => new Response(text) }\n`, lib: { 'text.js': `export const text = 'one'\n` } })
  const { deployer, calls, untilSaid } = await deploying(t, dir)
  await deployer.start()
  const startedAtMs = performance.now()
  writeFileSync(join(dir, 'lib/text.js'), `export const text = 'two'\n`)
  await untilSaid('updated a')
  t.ok(performance.now() - startedAtMs < 1000, 'well under a second')
  writeFileSync(join(dir, 'b.ts'), FETCH('b'))
  await untilSaid('deployed b')
  rmSync(join(dir, 'b.ts'))
  await untilSaid('deleted b')
  t.same(calls(), ['POST ', 'PUT /a/code', 'POST ', 'DELETE /b'])
})

t.test('what is in service is not deployed again', async (t) => {
  const dir = t.testdir({ 'a.js': FETCH('same'), 'b.js': FETCH('b') })
  const { deployer, calls, untilSaid } = await deploying(t, dir)
  await deployer.start()
  writeFileSync(join(dir, 'a.js'), `${FETCH('same')}\n// a comment that no bundle keeps and that moves no line`)
  writeFileSync(join(dir, 'b.js'), FETCH('changed'))
  await untilSaid('updated b')
  t.same(calls(), ['POST ', 'POST ', 'PUT /b/code'])
})

t.test('a changed setting is sent without the code having changed', async (t) => {
  const config = (value: string): string => JSON.stringify({ name: 'api', main: 'a.js', vars: { A: value } })
  const dir = t.testdir({ 'outpost.json': config('1'), 'a.js': FETCH('a') })
  const { deployer, region, untilSaid } = await deploying(t, dir)
  await deployer.start()
  t.same(deployer.deployed, ['api'])
  writeFileSync(join(dir, 'outpost.json'), config('2'))
  await untilSaid('updated api')
  t.match(region.asked.filter(({ method, path }) => method === 'PUT' && path.endsWith('/configuration')).map(({ body }) => JSON.parse(body) as object), [{ Environment: { Variables: { A: '2' } } }])
})

t.test('a configuration that breaks while editing keeps everything in service', async (t) => {
  const dir = t.testdir({ 'outpost.json': '{"name":"api","main":"a.js"}', 'a.js': FETCH('a') })
  const { deployer, untilSaid } = await deploying(t, dir)
  await deployer.start()
  writeFileSync(join(dir, 'outpost.json'), '{"name":')
  await untilSaid('ERR_CONFIG')
  t.same(deployer.deployed, ['api'])
})
