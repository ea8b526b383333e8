/** A POP site of several hosts, from outside: real processes over NATS, a region far away. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { zipSync } from 'fflate'
import { deployFunction } from '../../shared/cli/deployment.ts'
import { startDelayingProxy } from '../support/delaying-proxy.ts'
import { eventually } from '../support/dev-server.ts'
import { startNats } from '../support/nats.ts'
import { metric } from '../support/region-nodes.ts'
import { call, freePort, tier, writeKeys, type AdminTier } from '../support/site.ts'

/** Each way. A trip of 300 ms leaves 60 ms for questions, which a busy machine needs. */
const DELAY_MS = 150
const COUNTER = 'let n = 0; export default { async fetch(request) { return new Response(`${++n} ${await request.text()}`) } }'

t.setTimeout(280_000)
const nats = await startNats(t)
if (nats === null) process.exit(0)
const directory = t.testdir({})
const keysFile = join(directory, 'keys.json')
const apiOf = writeKeys(keysFile)
const folder = (name: string): string => {
  mkdirSync(join(directory, name))
  return join(directory, name)
}
const region = await tier(t, 'region', await freePort(), ['--data', folder('region'), '--keys', keysFile, '--token', 'site', '--workers', '1', '--memory', '256'])
const proxy = await startDelayingProxy(Number(new URL(region.url).port), DELAY_MS)
t.teardown(() => proxy.close())
/** Only the first holds what it was asked for, so the others ask it as long as it takes. */
const host = async (name: string): Promise<AdminTier> =>
  tier(t, 'pop', await freePort(), ['--data', folder(name), '--region', `http://127.0.0.1:${proxy.port}`, '--token', 'site', '--nats', nats.url, '--site', 'here', '--workers', '1', '--memory', '128', '--hot-min-requests', name === 'a' ? '5' : '100000'])
const hosts = await Promise.all(['a', 'b', 'c'].map(host))
const [a, b, c] = hosts as [AdminTier, AdminTier, AdminTier]
for (const each of hosts) await eventually(() => metric(each, 'pop_site_hosts_count'), (count) => count === 2, 60_000)

async function deploy(name: string): Promise<void> {
  await deployFunction(apiOf(region.url), { name, zip: zipSync({ 'index.mjs': Buffer.from(COUNTER) }), members: {}, publish: false, alias: null })
}

async function untilHot(pop: AdminTier, name: string): Promise<void> {
  await eventually(() => call(pop, name), ({ place, headers }) => place === 'pop' && headers.get('x-outpost-node') === null, 60_000)
}

function probes(pop: AdminTier, kind: 'existing' | 'final', result: string): Promise<number> {
  return metric(pop, `pop_probe_requests_total{kind="${kind}",result="${result}"}`)
}

await t.test('what one host holds the others have it run, instead of going to the region', async (t) => {
  await deploy('warm')
  await untilHot(a, 'warm')
  const started = performance.now()
  const answer = await eventually(() => call(b, 'warm', { method: 'POST', body: 'hello' }), ({ place }) => place === 'pop; reason=sibling', 60_000)
  t.ok(performance.now() - started < 60_000)
  t.equal(answer.body, '1 hello')
  t.ok(answer.headers.get('x-outpost-node'))
  t.ok((await probes(b, 'existing', 'hit')) + (await probes(b, 'final', 'hit')) >= 1)
  t.ok(await metric(a, 'pop_site_calls_total{kind="ran"}') >= 1)
})

await t.test('what nobody holds is asked for, then it goes to the region; whoever was asked last counts it', async (t) => {
  await deploy('nobody')
  const before = await probes(c, 'final', 'none')
  const answer = await call(c, 'nobody')
  t.match(answer.place, /^region; reason=/)
  t.equal(answer.status, 200)
  t.ok((await probes(c, 'final', 'none')) + (await probes(c, 'final', 'unreachable')) > before, 'the last question was a final one')
})

await t.test('a host that stands still costs bounded time and no call', async (t) => {
  await deploy('frozen')
  await untilHot(a, 'frozen')
  a.process().child.kill('SIGSTOP')
  try {
    const times: number[] = []
    for (let index = 0; index < 12; index += 1) {
      const startedAtMs = performance.now()
      const answer = await call(index % 2 === 0 ? b : c, 'frozen')
      times.push(performance.now() - startedAtMs)
      t.equal(answer.status, 200, answer.body)
      if (answer.place === 'pop') break
    }
    t.ok(Math.max(...times) < 10_000, `${Math.max(...times).toFixed(0)} ms at most`)
  } finally {
    a.process().child.kill('SIGCONT')
  }
})

await t.test('a host that is killed leaves the site, and no call fails', async (t) => {
  await deploy('killed')
  await untilHot(a, 'killed')
  await a.kill('SIGKILL')
  for (let index = 0; index < 6; index += 1) t.equal((await call(index % 2 === 0 ? b : c, 'killed')).status, 200)
  await eventually(() => metric(b, 'pop_site_hosts_count'), (count) => count === 1, 60_000)
  await a.start()
  await eventually(() => metric(b, 'pop_site_hosts_count'), (count) => count === 2, 60_000)
})
