import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { systemClock } from '../../../shared/clock.ts'
import { makeLinkKeyPair, type LinkKeyPair } from '../../../shared/identity/key-pair.ts'
import type { Fingerprint } from '../../../shared/identity/fingerprint.ts'
import { LINK_HANDSHAKES_PER_ADDRESS_MAX, LINK_MESSAGE_MAX_BYTES } from '../../../shared/limits.ts'
import { dialTls } from '../../../shared/link/dial.ts'
import { RegionIdentity, type KeyDirectory } from '../../../shared/link/identity.ts'
import { LinkServer } from '../../../shared/link/link-server.ts'
import { TlsLinkListener } from '../../../shared/link/tls-listener.ts'
import { connectedClient, makeClient, openFrame, RecordingSink, testLog, TestHandler, until, type TestClient, type TestLog } from './harness.ts'

class Directory implements KeyDirectory {
  readonly entries = new Map<Fingerprint, ReturnType<KeyDirectory['find']>>()

  find(fingerprint: Fingerprint): ReturnType<KeyDirectory['find']> {
    return this.entries.get(fingerprint) ?? null
  }

  has(name: string): boolean {
    return [...this.entries.values()].some((entry) => entry?.kind === 'known' && entry.name === name)
  }

  add(name: string, role: 'pop' | 'node' | 'region' = 'pop'): LinkKeyPair {
    const keys = makeLinkKeyPair()
    this.entries.set(keys.fingerprint, { kind: 'known', name, role })
    return keys
  }
}

interface Scene {
  readonly directory: Directory
  readonly server: LinkServer
  readonly handler: TestHandler
  readonly listener: TlsLinkListener
  readonly keys: LinkKeyPair
  readonly logged: TestLog
  readonly url: string
  /** What a POP with these keys is configured with. */
  readonly as: (keys: LinkKeyPair, expected?: Fingerprint) => Parameters<typeof makeClient>[1]
}

async function scene(t: Test, options: { readonly handshakeTimeoutMs?: number } = {}): Promise<Scene> {
  const directory = new Directory()
  const handler = new TestHandler()
  const logged = testLog()
  const server = new LinkServer({ regionId: 'region-1', identity: new RegionIdentity(null, [directory]), handler, clock: systemClock, log: logged.log })
  const keys = makeLinkKeyPair()
  const listener = await TlsLinkListener.listen({ server, keys, host: '127.0.0.1', port: 0, clock: systemClock, log: logged.log, ...options })
  t.teardown(() => {
    server.close()
    listener.close()
  })
  const as: Scene['as'] = (own, expected = keys.fingerprint) => ({ dial: dialTls({ keys: own, trust: { kind: 'pinned', fingerprints: [expected] } }) })
  return { directory, server, handler, listener, keys, logged, url: `wss://127.0.0.1:${listener.port}/link`, as }
}

/** Dials and waits for the first failure. */
async function refusal(t: Test, url: string, overrides: Parameters<typeof makeClient>[1]): Promise<TestClient['client']['state']> {
  const { client } = makeClient(url, overrides)
  t.teardown(() => client.close())
  client.start()
  await until(() => client.state.kind === 'backoff', 'refused')
  const { state } = client
  client.close()
  return state
}

function tls(t: Test, port: number, options: ConnectionOptions = {}): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options }, () => resolve(socket))
    socket.once('error', reject)
    t.teardown(() => socket.destroy())
  })
}

function untilClosed(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = ''
    socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
    socket.on('error', () => undefined)
    socket.once('close', () => resolve(text))
    if (socket.destroyed) resolve(text)
  })
}

const UPGRADE = 'GET /link HTTP/1.1\r\nHost: region\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n'

t.test('a POP that meets another region than it expects says nothing to it', async (t) => {
  const { as, directory, url, server, logged } = await scene(t)
  const keys = directory.add('berlin')
  t.match(await refusal(t, url, as(keys, makeLinkKeyPair().fingerprint)), { code: 'ERR_LINK_IDENTITY', reason: /not the one that is expected/ })
  t.same(server.pops(), [])
  t.notOk(logged.lines.some(({ message }) => message.includes('POP')), 'the region never heard of it')
})

t.test('a key that is not registered is refused, with what to do', async (t) => {
  const { as, url } = await scene(t)
  const keys = makeLinkKeyPair()
  t.match(await refusal(t, url, as(keys)), { code: 'ERR_LINK_IDENTITY', reason: new RegExp(`outpost region pop add NAME --fingerprint ${keys.fingerprint}`) })
})

t.test('a key that was revoked is told so', async (t) => {
  const { as, directory, url } = await scene(t)
  const keys = directory.add('berlin')
  directory.entries.set(keys.fingerprint, { kind: 'revoked' })
  t.match(await refusal(t, url, as(keys)), { code: 'ERR_LINK_REVOKED' })
})

t.test('a POP is who its key was registered for, whatever it claims', async (t) => {
  const { as, directory, handler, server, url } = await scene(t)
  directory.add('paris')
  const names: string[] = []
  handler.report = (popId) => {
    names.push(popId)
    return { seq: 0, load: 0, versions: [], pull: [] }
  }
  const { client } = await connectedClient(url, { ...as(directory.add('berlin')), popId: 'paris' })
  t.teardown(() => client.close())
  t.same(server.pops().map(({ popId }) => popId), ['berlin'])
  const host = { workers: 0, slots: 0, slotsUsed: 0, queued: 0, running: 0, parked: 0, residentBytes: 0, budgetBytes: 0, images: 0 }
  await client.report({ epoch: 'e', area: '', sequence: 1, part: 0, parts: 1, periodMs: 1, functions: [], held: [], host })
  t.same(names, ['berlin'])
})

t.test('a POP that claims to be a node or a region is refused', async (t) => {
  const { as, directory, url } = await scene(t)
  for (const role of ['node', 'region'] as const) {
    t.match(await refusal(t, url, { ...as(directory.add(`as-${role}`)), role }), { code: 'ERR_LINK_IDENTITY', reason: new RegExp(`registered as pop, not as ${role}`) })
  }
})

t.test('without a certificate nothing is to be had: neither a link nor anything else', async (t) => {
  const { listener, server } = await scene(t)
  const bare = await tls(t, listener.port)
  t.equal(bare.getProtocol(), 'TLSv1.3')
  const answer = untilClosed(bare)
  bare.write(UPGRADE)
  t.match(await answer, /^HTTP\/1.1 403 /)
  const page = await tls(t, listener.port)
  const other = untilClosed(page)
  page.write('GET / HTTP/1.1\r\nHost: region\r\n\r\n')
  t.match(await other, /^HTTP\/1.1 426 /)
  t.same(server.pops(), [])
})

t.test('older TLS, plain HTTP and rubbish end the connection', async (t) => {
  const { listener } = await scene(t)
  await t.rejects(tls(t, listener.port, { maxVersion: 'TLSv1.2' }))
  for (const bytes of [UPGRADE, '\x16\x03\x01\xff\xff'.padEnd(2_000, 'x'), 'SSH-2.0-x\r\n']) {
    const socket = connectTcp(listener.port, '127.0.0.1')
    const closed = untilClosed(socket)
    socket.write(bytes, 'latin1')
    t.notMatch(await closed, /HTTP/, JSON.stringify(bytes.slice(0, 20)))
  }
  await until(() => listener.arriving === 0)
})

t.test('an upgrade of another path, and one that is malformed', async (t) => {
  const { as, directory, listener } = await scene(t)
  const { certificate: cert, privateKey: key } = directory.add('berlin')
  t.ok(as)
  for (const [request, expected] of [[UPGRADE.replace('/link', '/other'), /^HTTP\/1.1 404 /], [UPGRADE.replace('Version: 13', 'Version: 12'), /^HTTP\/1.1 4\d\d /], [UPGRADE.replace('GET', 'POST'), /^HTTP\/1.1 4\d\d /], [UPGRADE.replace('Host: region', `Host: region\r\nX: ${'x'.repeat(20_000)}`), /^(HTTP\/1.1 4\d\d .*)?/]] as const) {
    const socket = await tls(t, listener.port, { cert, key })
    const answer = untilClosed(socket)
    socket.write(request)
    t.match(await answer, expected, request.slice(0, 30))
  }
})

t.test('slow handshakes end in time, and neither they nor a flood of them keep a POP out', async (t) => {
  const { as, directory, listener, url } = await scene(t, { handshakeTimeoutMs: 1_500 })
  const startedAtMs = performance.now()
  const idle = Array.from({ length: LINK_HANDSHAKES_PER_ADDRESS_MAX * 3 }, () => connectTcp(listener.port, '127.0.0.1'))
  const closed = idle.map(untilClosed)
  t.teardown(() => {
    for (const socket of idle) socket.destroy()
  })
  await until(() => listener.refused === LINK_HANDSHAKES_PER_ADDRESS_MAX * 2, 'the oldest made room')
  t.equal(listener.arriving, LINK_HANDSHAKES_PER_ADDRESS_MAX)
  const { client } = await connectedClient(url, as(directory.add('berlin')))
  t.teardown(() => client.close())
  t.ok(performance.now() - startedAtMs < 1_500, 'while they still wait')
  // Half a request after a whole handshake counts as well.
  const half = await tls(t, listener.port)
  half.write(UPGRADE.slice(0, 40))
  await Promise.all([...closed, untilClosed(half)])
  await until(() => listener.arriving === 0)
  t.equal(client.state.kind, 'open')
})

t.test('streams go both ways with backpressure, as on a plain link', async (t) => {
  const { as, directory, url } = await scene(t)
  const { client } = await connectedClient(url, as(directory.add('berlin')))
  t.teardown(() => client.close())
  const sent = Buffer.alloc(3_000_000, 'abcdefghijk')
  const sink = new RecordingSink()
  const stream = client.open(openFrame({ bodyMore: true }), sink)
  let at = 0
  const pump = (): void => {
    while (at < sent.length) {
      const chunk = sent.subarray(at, at + 100_000)
      at += chunk.length
      if (!stream.write(chunk)) return
    }
    stream.writeEnd()
  }
  sink.drain = pump
  pump()
  await sink.whenOver()
  t.equal(sink.outcome, 'ok')
  t.ok(sink.bytes.equals(sent))
})

t.test('a message that no link may send closes the link', async (t) => {
  const { directory, listener, server } = await scene(t)
  const { certificate: cert, privateKey: key } = directory.add('berlin')
  const socket = await tls(t, listener.port, { cert, key })
  socket.write(UPGRADE)
  await until(() => server.connectionCount === 1, 'upgraded')
  const head = Buffer.alloc(14)
  head.writeUInt8(0x82, 0)
  head.writeUInt8(0x80 | 127, 1)
  head.writeBigUInt64BE(BigInt(LINK_MESSAGE_MAX_BYTES + 1), 2)
  const closed = untilClosed(socket)
  socket.write(head)
  await closed
  await until(() => server.connectionCount === 0)
})

t.test('a key that is taken out of use ends its links at once, with their streams', async (t) => {
  const { as, directory, handler, server, url } = await scene(t)
  const keys = directory.add('berlin')
  const { client } = await connectedClient(url, as(keys))
  const bystander = await connectedClient(url, as(directory.add('paris')))
  t.teardown(() => {
    client.close()
    bystander.client.close()
  })
  const events: unknown[] = []
  client.onVersions((event) => events.push(event))
  const sink = new RecordingSink()
  client.open(openFrame({ functionName: 'held', bodyMore: true }), sink)
  await until(() => handler.runs.length === 1)
  directory.entries.set(keys.fingerprint, { kind: 'revoked' })
  server.dismiss(keys.fingerprint, { code: 'ERR_LINK_REVOKED', params: [keys.fingerprint] })
  t.equal(handler.held().canceled, 1, 'the run is cancelled before the call returns')
  t.same(server.pops().map(({ popId }) => popId), ['paris'])
  await sink.whenOver()
  t.equal(sink.errorCode, 'ERR_REGION_LOST')
  await until(() => client.state.kind === 'backoff')
  t.match(client.state, { code: 'ERR_LINK_REVOKED' })
  t.match(events, [{ kind: 'revoked' }], 'what the POP held is gone')
  await until(() => client.state.kind === 'connecting' || (client.state.kind === 'backoff' && client.state.failures > 1))
  await until(() => client.state.kind === 'backoff' && client.state.failures > 1)
  t.match(client.state, { code: 'ERR_LINK_REVOKED' }, 'it does not come back')
  t.equal(bystander.client.state.kind, 'open')
})

t.test('two processes with one key: the newer one stays, and it is seen', async (t) => {
  const { as, directory, logged, server, url } = await scene(t)
  const keys = directory.add('berlin')
  const first = await connectedClient(url, as(keys))
  const second = await connectedClient(url, { ...as(keys), popId: 'the-thief' })
  t.teardown(() => {
    first.client.close()
    second.client.close()
  })
  await until(() => first.client.state.kind !== 'open')
  t.ok(first.states.some((state) => state.kind === 'backoff' && state.code === 'ERR_LINK_IDENTITY'), 'the older one is told')
  t.ok(server.conflicts >= 1)
  t.ok(logged.lines.some(({ level, fields }) => level === 'error' && fields.popId === 'berlin'))
  t.equal(server.pops().length, 1)
})

t.test('a POP that trusts an authority wants its name on the certificate', async (t) => {
  const { directory, url } = await scene(t)
  const dial = dialTls({ keys: directory.add('berlin'), trust: { kind: 'authority', certificates: null } })
  t.match(await refusal(t, url, { dial }), { code: 'ERR_REGION_UNREACHABLE', reason: /self-signed/ })
})
