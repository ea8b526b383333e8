/** `outpost dev` as users meet it: real processes, real functions. */
import t from 'tap'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runProcess } from '../../support/cli.ts'
import { eventually, startDev, text } from '../../support/dev-server.ts'

// Four servers start here, each with two processes that warm up their sandboxes.
t.setTimeout(300_000)

const answering = (word: string): string => `let count = 0\nexport default { fetch() { count += 1; console.log('said ${word}'); return Response.json({ word: '${word}', count }) } }\n`
const SLOW = `export default { async fetch(request) { await new Promise((done) => setTimeout(done, 1000)); return new Response('slept') } }\n`

t.test('a port that is taken, a directory that is not there, data in use: one line and exit code 1', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((done) => server.once('listening', done))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  t.match(await runProcess(['dev', '--port', String(port)]), { code: 1, err: /^outpost: ERR_PORT_IN_USE: Port \d+ is taken.*--port\n$/ })
  t.match(await runProcess(['dev', 'nowhere']), { code: 1, err: /^outpost: ERR_ENTRY_NOT_FOUND/ })
  const data = t.testdir({ region: { 'outpost.pid': String(process.pid) } })
  const locked = await runProcess(['dev', '--port', '0', '--data', data])
  t.equal(locked.code, 1)
  t.match(locked.err, /outpost: ERR_PROCESS_FAILED: The region process ended before it was ready: ERR_DATA_LOCKED/)
})

t.test('a directory is served and kept up to date', async (t) => {
  const dir = t.testdir({ src: { 'hello.js': answering('one'), 'slow.js': SLOW, 'broken.ts': 'export default {' }, data: {} })
  const src = join(dir, 'src')
  const dev = await startDev(t, src, { data: join(dir, 'data') })

  await t.test('what compiles is in service by path and by host name', async (t) => {
    t.same(dev.functions.map(({ name }) => name), ['hello', 'slow'])
    t.same(JSON.parse(await text(`${dev.url}/fn/hello/`)), { word: 'one', count: 1 })
    const response = await fetch(`${dev.url}/fn/hello/x`)
    t.match(response.headers.get('x-outpost-place'), /^(pop|region; reason=)/)
  })
  await t.test('health, readiness and metrics are on the main port', async (t) => {
    t.equal((await fetch(`${dev.url}/healthz`)).status, 200)
    t.match(JSON.parse(await text(`${dev.url}/readyz`)), { status: 'ready' })
    t.match(await text(`${dev.url}/metrics`), /^pop_http_requests_total/m)
  })
  await t.test('it gets hot, and each request a fresh machine', async (t) => {
    await eventually(async () => (await fetch(`${dev.url}/fn/hello/`)).headers.get('x-outpost-place'), (place) => place === 'pop')
    for (let i = 0; i < 20; i += 1) t.same(JSON.parse(await text(`${dev.url}/fn/hello/`)), { word: 'one', count: 1 })
  })
  await t.test('an edit is in service well under a second later', async (t) => {
    const startedAtMs = performance.now()
    writeFileSync(join(src, 'hello.js'), answering('two'))
    await eventually(() => text(`${dev.url}/fn/hello/`), (answer) => answer.includes('two'))
    const tookMs = performance.now() - startedAtMs
    t.comment(`${Math.round(tookMs)} ms from edit to new answer`)
    t.ok(tookMs < 5_000, 'with room for a busy machine')
  })
  await t.test('an edit that does not compile leaves the last one in service, a new file is served, a removed one is gone', async (t) => {
    writeFileSync(join(src, 'hello.js'), 'export default {')
    writeFileSync(join(src, 'broken.ts'), answering('mended'))
    await eventually(() => text(`${dev.url}/fn/broken/`), (answer) => answer.includes('mended'))
    t.match(await text(`${dev.url}/fn/hello/`), /two/)
    rmSync(join(src, 'broken.ts'))
    await eventually(async () => (await fetch(`${dev.url}/fn/broken/`)).status, (status) => status === 404)
  })
  await t.test('the commands work through the POP, log lines of both tiers included', async (t) => {
    const at = ['--endpoint', dev.url]
    writeFileSync(join(dir, 'own.ts'), `export const handler = async (event: { a: number }) => ({ sum: event.a + 1 })\n`)
    const deployed = await runProcess(['deploy', join(dir, 'own.ts'), '--json', ...at])
    t.match(JSON.parse(deployed.out), { name: 'own', created: true, report: { primed: Boolean } })
    t.match(await runProcess(['invoke', 'own', '-p', '{"a":1}', ...at]), { code: 0, out: '{"sum":2}\n' })
    const listed = await runProcess(['list', '--json', ...at])
    t.same((JSON.parse(listed.out) as { FunctionName: string }[]).map(({ FunctionName }) => FunctionName), ['hello', 'own', 'slow'])
    const logs = await runProcess(['logs', 'hello', ...at])
    t.match(logs.out, /INFO {3}said one\n/)
    t.match(logs.out, /INFO {3}said two\n/)
    t.match(await runProcess(['invoke', 'own', '-p', 'null', ...at]), { code: 1, err: /own failed \(Unhandled\)/ })
    t.match((await runProcess(['logs', 'own', ...at])).out, /ERROR {2}Uncaught TypeError: .*\n +at handler /, 'what was thrown is in the log')
    t.match(await runProcess(['delete', 'own', ...at]), { code: 0 })
    t.match(await runProcess(['delete', 'own', ...at]), { code: 1, err: /ERR_RESOURCE_NOT_FOUND/ })
  })
  await t.test('a region that is killed is started again, and what was acknowledged is there', async (t) => {
    const { region } = dev.children()
    process.kill(region ?? 0, 'SIGKILL')
    t.match(await text(`${dev.url}/fn/hello/`), /two/, 'hot functions go on')
    await eventually(async () => dev.children().region, (pid) => pid !== null && pid !== region)
    const listed = await eventually(() => runProcess(['list', '--json', '--endpoint', dev.url]), (ran) => ran.code === 0)
    t.same((JSON.parse(listed.out) as { FunctionName: string }[]).map(({ FunctionName }) => FunctionName), ['hello', 'slow'])
  })
  await t.test('a POP that is killed is started again on its port', async (t) => {
    const { pop } = dev.children()
    process.kill(pop ?? 0, 'SIGKILL')
    await eventually(() => text(`${dev.url}/fn/hello/`), (answer) => answer.includes('two'))
    t.not(dev.children().pop, pop)
  })
  await t.test('SIGTERM: what is in flight is answered, then exit code 0', async (t) => {
    const inFlight = Array.from({ length: 20 }, () => text(`${dev.url}/fn/slow/`))
    // Sent once all of them have surely arrived: the answers take a second.
    await new Promise((done) => setTimeout(done, 500))
    dev.child.kill('SIGTERM')
    t.same(new Set(await Promise.all(inFlight)), new Set(['slept']))
    const ran = await dev.ended
    t.equal(ran.code, 0, ran.err)
    await t.rejects(fetch(dev.url), 'nothing listens any more')
  })
})

t.test('a second signal ends it at once, and the children with it', async (t) => {
  const dir = t.testdir({ src: { 'slow.js': `export default { async fetch() { await new Promise((done) => setTimeout(done, 60_000)); return new Response('') } }\n` }, data: {} })
  mkdirSync(join(dir, 'data'), { recursive: true })
  const dev = await startDev(t, join(dir, 'src'), { data: join(dir, 'data'), argv: ['--drain-timeout', '2000'] })
  const children = dev.children()
  // It fails when the server goes away, which is what happens here.
  const lost = fetch(`${dev.url}/fn/slow/`).catch(() => undefined)
  await new Promise((done) => setTimeout(done, 300))
  dev.child.kill('SIGINT')
  await new Promise((done) => setTimeout(done, 500))
  dev.child.kill('SIGINT')
  const startedAtMs = performance.now()
  t.equal((await dev.ended).code, 1)
  t.ok(performance.now() - startedAtMs < 5_000)
  await lost
  const alive = (pid: number | null): boolean => {
    try {
      return pid !== null && process.kill(pid, 0)
    } catch {
      // No such process.
      return false
    }
  }
  await eventually(() => Promise.resolve(alive(children.region) || alive(children.pop)), (any) => !any, 15_000)
})
