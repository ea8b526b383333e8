/** Nodes over a real NATS server, killed while they publish, and the server killed under them: what was acknowledged is everywhere. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { systemClock } from '../../shared/clock.ts'
import { NatsCoordination } from '../../shared/coordination/nats.ts'
import { eventually } from '../support/dev-server.ts'
import { startNats } from '../support/nats.ts'
import { ACCOUNT, createBody, startSharedNode, zipText, type SharedNode } from './shared-harness.ts'

const WRITER = fileURLToPath(new URL('../fixtures/shared-registry-writer.ts', import.meta.url))

interface Acknowledged {
  readonly functionName: string
  readonly version: string
  readonly sha256: string
}

interface Writer {
  readonly child: ChildProcess
  readonly acknowledged: Acknowledged[]
}

function tempDir(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'outpost-shared-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

async function startNode(t: Test, folder: string, name: string, url: string): Promise<SharedNode> {
  const node = await startSharedNode(folder, name, new NatsCoordination({ address: { url, credentialsFile: null, caFile: null }, replicas: 1, clock: systemClock }))
  t.teardown(() => node.close())
  return node
}

function startWriter(t: Test, folder: string, name: string, url: string): Writer {
  const child = fork(WRITER, [folder, name, url], { stdio: ['ignore', 'pipe', 'inherit', 'ipc'], execArgv: ['--disable-warning=ExperimentalWarning'] })
  const acknowledged: Acknowledged[] = []
  let rest = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      const [kind, functionName = '', version = '', sha256 = ''] = line.split(' ')
      if (kind === 'ack') acknowledged.push({ functionName, version, sha256 })
    }
  })
  t.teardown(() => child.kill('SIGKILL'))
  return { child, acknowledged }
}

async function kill({ child }: Writer): Promise<void> {
  child.kill('SIGKILL')
  await once(child, 'exit')
}

/** Each number once, and each there with the code that it was acknowledged with. */
async function requireAll(t: Test, nodes: readonly SharedNode[], writers: readonly Writer[]): Promise<void> {
  const all = writers.flatMap(({ acknowledged }) => acknowledged)
  const numbers = all.map(({ functionName, version }) => `${functionName}:${version}`)
  t.equal(new Set(numbers).size, numbers.length, `${numbers.length} versions acknowledged, each number once`)
  for (const node of nodes) {
    const missing = (): Acknowledged[] => all.filter(({ functionName, version, sha256 }) => node.registry.read(ACCOUNT, functionName).version(version)?.code.sha256Base64 !== sha256)
    await eventually(() => Promise.resolve(missing().length), (count) => count === 0, 15_000).catch(() => undefined)
    t.same(missing(), [], 'nothing acknowledged is missing')
    await eventually(() => Promise.resolve(node.audit().join()), (problems) => problems === '', 15_000).catch(() => undefined)
    t.same(node.audit(), [])
  }
}

t.setTimeout(150_000)

await t.test('nodes that are killed in the middle of publishes', { timeout: 90_000 }, async (t) => {
  const server = await startNats(t)
  if (server === null) return
  const folder = tempDir(t)
  const here = await startNode(t, folder, 'here', server.url)
  const writers: Writer[] = []
  for (let round = 0; round < 3; round += 1) {
    const two = ['w1', 'w2'].map((name) => startWriter(t, folder, name, server.url))
    writers.push(...two)
    await eventually(() => Promise.resolve(two.every(({ acknowledged }) => acknowledged.length >= 4 + round)), Boolean, 30_000)
    await Promise.all(two.map(kill))
  }
  const fresh = await startNode(t, folder, 'fresh', server.url)
  await requireAll(t, [here, fresh], writers)
  const back = await startNode(t, folder, 'w1', server.url)
  await requireAll(t, [back], writers)
})

await t.test('the NATS server is killed and started again in the middle of publishes', { timeout: 90_000 }, async (t) => {
  const server = await startNats(t)
  if (server === null) return
  const folder = tempDir(t)
  const here = await startNode(t, folder, 'here', server.url)
  const writers = ['w1', 'w2'].map((name) => startWriter(t, folder, name, server.url))
  for (let round = 0; round < 3; round += 1) {
    const before = writers.map(({ acknowledged }) => acknowledged.length)
    await eventually(() => Promise.resolve(writers.every(({ acknowledged }, index) => acknowledged.length >= (before[index] ?? 0) + 3)), Boolean, 30_000)
    await server.kill()
    await server.start()
  }
  const before = writers.map(({ acknowledged }) => acknowledged.length)
  await eventually(() => Promise.resolve(writers.every(({ acknowledged }, index) => acknowledged.length >= (before[index] ?? 0) + 2)), Boolean, 30_000)
  await Promise.all(writers.map(kill))
  await requireAll(t, [here], writers)
})

await t.test('a node that is cut off answers reads, refuses writes with a code, says so, and catches up', { timeout: 60_000 }, async (t) => {
  const server = await startNats(t)
  if (server === null) return
  const folder = tempDir(t)
  const [a, b] = [await startNode(t, folder, 'a', server.url), await startNode(t, folder, 'b', server.url)]
  await eventually(() => Promise.resolve(a.registry.status().current && b.registry.status().current), Boolean)
  t.equal((await a.call('POST', '', createBody('hello'))).status, 201)
  await eventually(() => Promise.resolve(b.registry.read(ACCOUNT, 'hello').function()), (record) => record !== null)
  t.same(b.audit(), [], 'with its images')
  t.match(b.region.readiness(), { ready: true, checks: { coordination: true, registry: true } })
  await server.kill()
  await eventually(() => Promise.resolve(b.region.readiness().checks['coordination']), (connected) => connected === false)
  t.match(b.region.readiness(), { ready: true, checks: { coordination: false } }, 'it goes on being asked')
  t.equal((await b.call('GET', '/hello')).status, 200)
  t.equal((await b.call('POST', '/hello/invocations', {})).status, 200)
  const startedAtMs = Date.now()
  const refused = await b.call('PUT', '/hello/code', { ZipFile: zipText('x') })
  t.equal(refused.status, 503)
  t.equal(refused.json['OutpostCode'], 'ERR_COORDINATION_UNREACHABLE')
  t.ok(Date.now() - startedAtMs < 3_000, 'at once')
  await server.start()
  const written = await eventually(() => b.call('PUT', '/hello/code', { ZipFile: zipText('y') }), ({ status }) => status === 200)
  await eventually(() => Promise.resolve(a.registry.read(ACCOUNT, 'hello').function()?.latest.code.sha256Base64), (sha256) => sha256 === written.json['CodeSha256'])
  t.pass('and it is at the other node')
})

await t.test('a node that starts while NATS is away serves what it has', { timeout: 60_000 }, async (t) => {
  const server = await startNats(t)
  if (server === null) return
  const folder = tempDir(t)
  const before = await startSharedNode(folder, 'a', new NatsCoordination({ address: { url: server.url, credentialsFile: null, caFile: null }, replicas: 1, clock: systemClock }))
  await before.call('POST', '', createBody('hello'))
  await before.close()
  await server.kill()
  const node = await startNode(t, folder, 'a', server.url)
  t.match(node.region.readiness(), { ready: true, checks: { coordination: false, registry: false } })
  t.equal((await node.call('POST', '/hello/invocations', {})).status, 200)
  await server.start()
  await eventually(() => Promise.resolve(node.registry.status().current), Boolean)
  t.equal((await node.call('DELETE', '/hello')).status, 204)
})
