/** What `npm pack` makes, installed somewhere else: it must run there, without this checkout and under any Node. */
import t from 'tap'
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { start } from './support/cli.ts'
import { eventually, startDev, text } from './support/dev-server.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const run = promisify(execFile)

// Packing compiles everything, installing unpacks two hundred megabytes of native binaries.
t.setTimeout(600_000)

const dir = mkdtempSync(join(tmpdir(), 'outpost-package-'))
t.teardown(() => rmSync(dir, { recursive: true, force: true }))
const bin = join(dir, 'node_modules/.bin/outpost')

t.test('npm pack holds what runs and nothing else', async (t) => {
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', dir], { cwd: ROOT, maxBuffer: 64 * 1024 * 1024 })
  // prepack prints to stdout too; the JSON comes last.
  const packed = JSON.parse(stdout.slice(stdout.search(/^\[\s*$/m))) as { filename: string; files: { path: string }[] }[]
  const files = packed[0]?.files.map(({ path }) => path) ?? []
  for (const file of ['package.json', 'README.md', 'config-schema.json', 'shared/cli/bin.js', 'dist/shared/cli/main.js', 'dist/pop/start.js', 'dist/region/start.js', 'dist/shared/worker/worker-main.js', 'dist/shared/microvm/build-main.js', 'dist/shared/microvm/quickjs-inlined.wasm', 'dist/shared/guest/prelude/main.js', 'dist/shared/cli/example/hello.js']) {
    t.ok(files.includes(file), file)
  }
  t.same(files.filter((file) => /^(test|bench|\.)|\.ts$/.test(file)), [])
})

t.test('it installs, and works: version, doctor, dev, deploy, request', async (t) => {
  const tarball = readdirSync(dir).find((file) => file.endsWith('.tgz')) ?? ''
  await run('npm', ['install', '--prefix', dir, '--prefer-offline', '--no-audit', '--no-fund', join(dir, tarball)], { cwd: dir, maxBuffer: 64 * 1024 * 1024 })

  await t.test('the command is there and tells its version', async (t) => {
    t.match(await start(bin, ['--version'], { cwd: dir }).ended, { code: 0, out: /^\d+\.\d+\.\d+\n$/, err: '' })
  })
  await t.test('doctor finds what is required', async (t) => {
    const ran = await start(bin, ['doctor', '--json'], { cwd: dir }).ended
    t.match(JSON.parse(ran.out), { healthy: true })
    t.equal(ran.code, 0)
  })
  await t.test('dev serves, and deploy through it too', async (t) => {
    const work = t.testdir({
      functions: { 'hello.ts': `export default { fetch: (request: Request) => new Response('packed ' + new URL(request.url).pathname) }\n` },
      'other.mjs': `export const handler = async (event) => ({ got: event })\n`,
    })
    const dev = await startDev(t, join(work, 'functions'), { bin: join(dir, 'node_modules/outpost/shared/cli/bin.js'), data: join(dir, 'data'), cwd: dir })
    t.equal(await text(`${dev.url}/fn/hello/a`), 'packed /a')
    const deployed = await start(bin, ['deploy', join(work, 'other.mjs'), '--endpoint', dev.url], { cwd: dir }).ended
    t.equal(deployed.code, 0, deployed.err)
    const invoked = await start(bin, ['invoke', 'other', '--payload', '[1]', '--endpoint', dev.url], { cwd: dir }).ended
    t.match(invoked, { code: 0, out: '{"got":[1]}\n' })
    await eventually(async () => (await fetch(`${dev.url}/fn/hello/`)).headers.get('x-outpost-place'), (place) => place === 'pop')
  })
})
