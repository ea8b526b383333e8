/** POPs that a region knows by their keys, from outside: real processes, mutual TLS, `outpost region pop` beside the region. */
import { cpSync, mkdirSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../support/dev-server.ts'
import { runHere, start, BIN } from '../support/cli.ts'
import { call, freePort, registerPop, startSite, type Called, type Site } from '../support/site.ts'

const HELLO = 'export default { fetch: () => new Response("hello") }'
const SLOW = 'export default { async fetch() { return new Response(new ReadableStream({ async start(controller) { controller.enqueue(new TextEncoder().encode("begin")); await new Promise((done) => setTimeout(done, 20_000)); controller.close() } })) } }'
/** What is promised, and what `eventually` and the command itself may add on a busy machine. */
const TWO_SECONDS_MS = 2_000

function codeOf({ body }: Called): string | null {
  try {
    return (JSON.parse(body) as { error: { code: string } }).error.code
  } catch {
    return null
  }
}

async function ok(ran: Promise<{ code: number | null; err: string }>): Promise<void> {
  const { code, err } = await ran
  if (code !== 0) throw new Error(err)
}

/** How long after `done` the answers of a function become what `satisfies` says. */
async function took(site: Site, name: string, satisfies: (answer: Called) => boolean, doneAtMs: number): Promise<number> {
  await eventually(() => call(site.pop, name), satisfies)
  return performance.now() - doneAtMs
}

t.test('a POP that is not registered gets nothing, until it is; grants come and go while it runs', async (t) => {
  const site = await startSite(t, { identity: 'stranger' })
  await site.deploy('hello', HELLO)
  await site.deploy('other', HELLO)
  t.equal(codeOf(await call(site.pop, 'hello')), 'ERR_REGION_UNREACHABLE')
  const { out: listed } = await site.pops('list', '--json')
  t.same(JSON.parse(listed), { pops: [] })

  const key = await runHere(['pop', 'key', '--data', site.popData, '--json'])
  const { fingerprint } = JSON.parse(key.out) as { fingerprint: string }
  await ok(site.pops('add', 'berlin', '--fingerprint', fingerprint))
  await eventually(() => call(site.pop, 'hello'), (answer) => codeOf(answer) === 'ERR_LINK_IDENTITY')
  t.match((await call(site.pop, 'hello')).body, /hello is not granted to it/, 'linked, and granted nothing')

  await ok(site.pops('grant', 'berlin', '--account', '000000000000', '--function', 'hello'))
  const grantedAtMs = performance.now()
  t.ok((await took(site, 'hello', ({ status }) => status === 200, grantedAtMs)) < TWO_SECONDS_MS, 'a grant is good within two seconds')
  await site.untilHot('hello')
  t.equal(codeOf(await call(site.pop, 'other')), 'ERR_LINK_IDENTITY', 'that one alone')

  await ok(site.pops('ungrant', 'berlin', '--account', '000000000000', '--function', 'hello'))
  const takenAtMs = performance.now()
  const tookMs = await took(site, 'hello', (answer) => codeOf(answer) === 'ERR_LINK_IDENTITY', takenAtMs)
  t.ok(tookMs < TWO_SECONDS_MS, `what was hot is gone after ${Math.round(tookMs)} ms`)
  for (let times = 0; times < 20; times++) t.not((await call(site.pop, 'hello')).status, 200)

  await ok(site.pops('grant', 'berlin', '--account', '000000000000', '--function', '*'))
  await eventually(() => call(site.pop, 'other'), ({ status }) => status === 200)
  await site.untilHot('hello')
})

t.test('a key that is revoked while streams run: they end with a code, what is hot is gone, and it does not come back', async (t) => {
  const site = await startSite(t, { identity: 'key' })
  await site.deploy('hello', HELLO)
  await site.deploy('slow', SLOW)
  await site.untilHot('hello')
  const response = await fetch(`${site.pop.url}/fn/slow/`)
  t.equal(response.status, 200)
  const reader = response.body?.getReader()
  t.equal(Buffer.from((await reader?.read())?.value ?? []).toString(), 'begin')
  const broken = reader?.read().then(() => 'ended', () => 'broken')

  await ok(site.pops('revoke', 'pop-1'))
  const revokedAtMs = performance.now()
  t.equal(await broken, 'broken')
  t.ok(performance.now() - revokedAtMs < TWO_SECONDS_MS, 'the stream')
  const tookMs = await took(site, 'hello', (answer) => codeOf(answer) === 'ERR_REGION_UNREACHABLE', revokedAtMs)
  t.ok(tookMs < TWO_SECONDS_MS, `what was hot is gone after ${Math.round(tookMs)} ms`)
  for (let times = 0; times < 20; times++) t.equal(codeOf(await call(site.pop, 'hello')), 'ERR_REGION_UNREACHABLE')

  await site.pop.kill('SIGKILL')
  const { code, err } = await site.pops('add', 'pop-1', '--fingerprint', (JSON.parse((await runHere(['pop', 'key', '--data', site.popData, '--json'])).out) as { fingerprint: string }).fingerprint)
  t.equal(code, 1)
  t.match(err, /ERR_CONFLICT: this key was revoked/)
})

t.test('a key that is revoked while its POP is cut off: the POP honours it before its first request after', async (t) => {
  const site = await startSite(t, { identity: 'key' })
  await site.deploy('hello', HELLO)
  await site.untilHot('hello')
  await site.region.kill('SIGKILL')
  await eventually(() => call(site.pop, 'hello'), ({ headers }) => headers.get('x-outpost-stale') === '1')
  await ok(site.pops('revoke', 'pop-1'))
  t.equal((await call(site.pop, 'hello')).status, 200, 'it cannot know yet')
  await site.region.start()
  await eventually(() => call(site.pop, 'hello'), (answer) => codeOf(answer) === 'ERR_REGION_UNREACHABLE')
  for (let times = 0; times < 20; times++) t.equal(codeOf(await call(site.pop, 'hello')), 'ERR_REGION_UNREACHABLE')
})

t.test('a region that is replaced by another one is not believed', async (t) => {
  const site = await startSite(t, { identity: 'key' })
  await site.deploy('hello', HELLO)
  await site.untilHot('hello')
  await site.region.kill('SIGKILL')
  unlinkSync(join(site.regionData, 'link-key.json'))
  await site.region.start()
  await eventually(() => Promise.resolve(site.pop.process().err()), (text) => text.includes('ERR_LINK_IDENTITY') && text.includes('not the one that is expected'))
  t.match(await (await fetch(`${site.pop.adminUrl}/readyz`)).json(), { checks: { region: false } }, 'as if there were none')
})

t.test("a second POP with a stolen copy of the first one's data: one of them is linked, and the region says so", async (t) => {
  const site = await startSite(t, { identity: 'key' })
  const stolen = `${site.popData}-stolen`
  mkdirSync(stolen)
  cpSync(join(site.popData, 'link-key.json'), join(stolen, 'link-key.json'))
  const way = site.pop.process().child.spawnargs
  const port = await freePort()
  const argv = way.slice(way.indexOf('pop') + 1)
  argv[argv.indexOf('--data') + 1] = stolen
  argv[argv.indexOf('--port') + 1] = String(port)
  argv[argv.indexOf('--admin-port') + 1] = String(await freePort())
  const thief = start(process.execPath, [BIN, 'pop', ...argv])
  t.teardown(() => thief.child.kill('SIGKILL'))
  const conflict = await eventually(() => Promise.resolve(site.region.process().err()), (text) => text.includes('Two processes link up with the same key'))
  t.match(conflict, /"popId":"pop-1"/)
  t.match(await (await fetch(`${site.region.adminUrl}/metrics`)).text(), /region_pop_key_conflicts_total [1-9]/)
})

t.test('a region beyond loopback takes no token', async (t) => {
  const site = await startSite(t, { region: ['--host', '0.0.0.0'], identity: 'stranger' })
  const port = await freePort()
  const pop = start(process.execPath, [BIN, 'pop', '--port', String(port), '--region', site.region.url, '--token', 'site', '--data', `${site.popData}-2`])
  t.teardown(() => pop.child.kill('SIGKILL'))
  await pop.untilErr('a token is accepted on loopback only')
  await registerPop(site.pops, 'pop-1', site.popData)
  await site.deploy('hello', HELLO)
  await eventually(() => call(site.pop, 'hello'), ({ status }) => status === 200)
})
