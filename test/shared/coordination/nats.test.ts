import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ManualClock, systemClock, type Clock } from '../../../shared/clock.ts'
import { NatsCoordination } from '../../../shared/coordination/nats.ts'
import type { Documents } from '../../../shared/coordination/types.ts'
import { toCodedError } from '../../../shared/errors.ts'
import { COORDINATION_TIMEOUT_MS, LEASE_TTL_MS } from '../../../shared/limits.ts'
import { eventually } from '../../support/dev-server.ts'
import { startNats } from '../../support/nats.ts'
import { needTool } from '../../support/tools.ts'
import { bytes, coordinationSuite, revisionOf, watchAll } from './suite.ts'

// Timers of a client do not keep a process alive, and while its server is away it has no socket either.
t.setTimeout(100_000)
const alive = setInterval(() => undefined, 1_000)
t.teardown(() => clearInterval(alive))

const UNREACHABLE = { code: 'ERR_COORDINATION_UNREACHABLE' }

function open(t: Test, url: string, clock: Clock = systemClock, caFile: string | null = null): NatsCoordination {
  const coordination = new NatsCoordination({ address: { url, credentialsFile: null, caFile }, replicas: 1, clock })
  t.teardown(() => coordination.close())
  return coordination
}

void t.test('the suite', async (t) => {
  const server = await startNats(t)
  if (server === null) return
  coordinationSuite(t, { open: (clock) => Promise.resolve(new NatsCoordination({ address: { url: server.url, credentialsFile: null, caFile: null }, replicas: 1, clock })) })
})

void t.test('a server that is killed and started again: nothing acknowledged is lost, watches miss and repeat nothing', { timeout: 30_000 }, async (t) => {
  const server = await startNats(t)
  if (server === null) return
  const [writer, watcher] = [open(t, server.url), open(t, server.url)]
  const documents = await writer.documents('things')
  const told = watchAll(await watcher.documents('things'))
  const revisions = new Map<string, number>()
  let writing = true
  let refused = 0
  const write = async (): Promise<void> => {
    for (let index = 0; writing; index += 1) {
      const key = `k${index % 7}`
      try {
        revisions.set(key, await update(documents, key, String(index)))
      } catch (error) {
        t.match(toCodedError(error), UNREACHABLE)
        refused += 1
      }
    }
  }
  const written = write()
  for (let round = 0; round < 3; round += 1) {
    const before = told.events.length
    await eventually(() => Promise.resolve(told.events.length), (count) => count > before + 20)
    await server.kill()
    await eventually(() => Promise.resolve(watcher.connected), (connected) => !connected)
    await server.start()
    await eventually(() => Promise.resolve(watcher.connected && writer.connected), Boolean)
  }
  const before = told.events.length
  await eventually(() => Promise.resolve(told.events.length), (count) => count > before + 20)
  writing = false
  await written
  t.comment(`${refused} writes failed, ${told.events.length} events`)
  for (const [key, revision] of revisions) {
    const found = await documents.get(key)
    t.ok(found !== null && found.revision >= revision, `${key} is as acknowledged or later`)
    await eventually(() => Promise.resolve(told.events.some((event) => event.startsWith(`${key}=`) && revisionOf(event) === found?.revision)), Boolean)
  }
  const seen = told.events.filter((event) => event !== 'current').map(revisionOf)
  t.same(seen, [...new Set(seen)].sort((a, b) => a - b), 'each once, in order')
  t.equal(told.events.filter((event) => event === 'current').length, 1)
  t.notOk(told.events.includes('gap'))
  told.watch.stop()
})

void t.test('calls to a server that is gone fail within their time, and go on when it is back', { timeout: 30_000 }, async (t) => {
  const server = await startNats(t)
  if (server === null) return
  const coordination = open(t, server.url)
  const documents = await coordination.documents('things')
  const blobs = await coordination.blobs('things')
  const revision = await documents.update('a', bytes('1'), 0)
  await server.kill()
  await eventually(() => Promise.resolve(coordination.connected), (connected) => !connected)
  const startedAtMs = Date.now()
  await Promise.all([
    t.rejects(documents.get('a'), UNREACHABLE),
    t.rejects(documents.update('a', bytes('2'), revision), UNREACHABLE),
    t.rejects(blobs.put('b', bytes('1')), UNREACHABLE),
    t.rejects(blobs.list()[Symbol.asyncIterator]().next(), UNREACHABLE),
  ])
  const tookMs = Date.now() - startedAtMs
  t.ok(tookMs < COORDINATION_TIMEOUT_MS * 1.5, `${tookMs} ms`)
  // A call that waits when the server comes back is answered.
  const waiting = documents.get('a')
  await server.start()
  t.match(await waiting, { revision }, 'what failed was not sent later')
  t.equal(await update(documents, 'a', '3') > revision, true)
})

void t.test('a server that hangs is as good as gone, and is found to be', { timeout: 30_000 }, async (t) => {
  const server = await startNats(t)
  if (server === null) return
  const coordination = open(t, server.url)
  const documents = await coordination.documents('things')
  const revision = await documents.update('a', bytes('1'), 0)
  const told = watchAll(documents)
  await eventually(() => Promise.resolve(told.events.includes('current')), Boolean)
  server.suspend()
  const startedAtMs = Date.now()
  await t.rejects(documents.get('a'), UNREACHABLE)
  t.ok(Date.now() - startedAtMs < COORDINATION_TIMEOUT_MS * 1.5)
  await eventually(() => Promise.resolve(coordination.connected), (connected) => !connected)
  server.resume()
  await eventually(() => Promise.resolve(coordination.connected), Boolean)
  const later = await update(documents, 'a', '2')
  t.ok(later > revision)
  await eventually(() => Promise.resolve(told.events.join()), (events) => events === `a=1@${revision},current,a=2@${later}`)
  told.watch.stop()
})

void t.test('a client that starts before its server finds it later', { timeout: 30_000 }, async (t) => {
  const server = await startNats(t)
  if (server === null) return
  await server.kill()
  const coordination = open(t, server.url)
  const documents = await coordination.documents('things')
  const told = watchAll(documents)
  t.notOk(coordination.connected)
  await t.rejects(documents.get('a'), UNREACHABLE)
  await server.start()
  const revision = await documents.update('a', bytes('1'), 0)
  await eventually(() => Promise.resolve(told.events.includes(`a=1@${revision}`)), Boolean)
  t.ok(coordination.connected)
  told.watch.stop()
})

void t.test('while the server is away leases run out by the clock of their holder, and are not back with it', { timeout: 30_000 }, async (t) => {
  const server = await startNats(t)
  if (server === null) return
  const clock = new ManualClock()
  const coordination = open(t, server.url, clock)
  const membership = await (await coordination.members('nodes')).join('m1', {})
  const candidacy = (await coordination.leadership('first')).stand('m1', { onElected: () => undefined, onLost: () => undefined })
  await eventually(() => Promise.resolve(candidacy.term()), (term) => term === 1)
  await server.kill()
  await eventually(() => Promise.resolve(coordination.connected), (connected) => !connected)
  clock.advance(LEASE_TTL_MS - 1)
  t.ok(membership.holds(), 'for as long as nobody else can have given it away')
  clock.advance(1)
  t.notOk(membership.holds())
  t.equal(candidacy.term(), null)
  await membership.lost
  await server.start()
  await eventually(() => {
    clock.advance(100)
    return Promise.resolve(candidacy.term())
  }, (term) => term !== null)
  t.ok((candidacy.term() ?? 0) > 1, 'leads again, under a later term')
  t.notOk(membership.holds(), 'a membership that is lost stays lost')
})

void t.test('a bucket that somebody deletes is made again, and watches say that what was there is gone', { timeout: 30_000 }, async (t) => {
  const server = await startNats(t)
  if (server === null) return
  const coordination = open(t, server.url)
  const documents = await coordination.documents('things')
  for (const key of ['a', 'b', 'c']) await documents.update(key, bytes('1'), 0)
  const told = watchAll(documents)
  await eventually(() => Promise.resolve(told.events.length), (count) => count === 4)
  // As a disk that was lost: the server comes back without its streams.
  await server.kill('SIGTERM')
  spawnSync('rm', ['-rf', join(server.path, 'jetstream')])
  await server.start()
  const revision = await eventually(() => documents.update('d', bytes('1'), 0).catch(() => 0), (made) => made > 0)
  await eventually(() => Promise.resolve(told.events.slice(4).join()), (events) => events === `gap,d=1@${revision},current`)
  told.watch.stop()
})

void t.test('users with passwords and tokens, in the URL', { timeout: 30_000 }, async (t) => {
  const server = await startNats(t, { configuration: 'authorization { users: [ { user: "node", password: "p@ss:word" } ] }' })
  if (server === null) return
  const good = open(t, server.url.replace('nats://', 'nats://node:p%40ss%3Aword@'))
  t.equal(await (await good.documents('things')).update('a', bytes('1'), 0), 1)
  const bad = open(t, server.url.replace('nats://', 'nats://node:wrong@'))
  await t.rejects((await bad.documents('things')).get('a'), UNREACHABLE)
  t.notOk(bad.connected)
  const withToken = await startNats(t, { configuration: 'authorization { token: "s3cret" }' })
  if (withToken === null) return
  const token = open(t, withToken.url.replace('nats://', 'nats://s3cret@'))
  t.equal(await (await token.documents('things')).update('a', bytes('1'), 0), 1)
})

void t.test('TLS with an authority of one\'s own; without it the server is refused', { timeout: 30_000 }, async (t) => {
  const openssl = needTool(t, 'openssl', 'openssl')
  if (openssl === null) return
  const folder = t.testdir({})
  const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const made = spawnSync(openssl, ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key, '-out', certificate, '-days', '1', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'])
  t.equal(made.status, 0, made.stderr.toString())
  const server = await startNats(t, { configuration: `tls { cert_file: "${certificate}", key_file: "${key}" }` })
  if (server === null) return
  const url = `tls://localhost:${server.port}`
  const trusted = open(t, url, systemClock, certificate)
  t.equal(await (await trusted.documents('things')).update('a', bytes('1'), 0), 1)
  const untrusting = open(t, url)
  await t.rejects((await untrusting.documents('things')).get('a'), UNREACHABLE)
})

void t.test('an address that cannot be one is refused, and no message shows a password', async (t) => {
  for (const url of ['http://h', 'nats://', 'nats://a b', 'nats://u:secret@', 'nats://u:%zz@h', 'nats://h:x', 'nats://h1,,h2', 'nats://u:secret@h/path']) {
    const error = toCodedError(thrownBy(() => new NatsCoordination({ address: { url, credentialsFile: null, caFile: null }, replicas: 1, clock: systemClock })))
    t.equal(error.code, 'ERR_CONFIG', url)
    t.notMatch(error.message, /secret/)
  }
  const folder = t.testdir({})
  for (const files of [{ credentialsFile: join(folder, 'none'), caFile: null }, { credentialsFile: null, caFile: join(folder, 'none') }]) {
    t.match(thrownBy(() => new NatsCoordination({ address: { url: 'nats://h', ...files }, replicas: 1, clock: systemClock })), { code: 'ERR_CONFIG' })
  }
})

async function update(documents: Documents, key: string, text: string): Promise<number> {
  return await documents.update(key, bytes(text), (await documents.get(key))?.revision ?? 0)
}

function thrownBy(action: () => unknown): unknown {
  try {
    action()
    return null
  } catch (error) {
    return error
  }
}
