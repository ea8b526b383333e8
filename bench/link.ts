/**
 * What the link costs, without functions behind it: `node bench/link.ts [--quick]`.
 *
 * The region is a process of its own that answers every invocation at once. Figures: the round trip of one stream at a
 * time, the time per stream with many under way, and bulk transfer each way; beside each the bare primitive, an echo of
 * WebSocket messages of the same size between the same two libraries, and the same link over mutual TLS (ws at the region, not
 * uWS), in the same run, taking turns.
 */
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { WebSocket } from 'undici'
import { systemClock } from '../shared/clock.ts'
import { App, closeListenSocket, localPort } from '../shared/http/uws.ts'
import { makeLinkKeyPair } from '../shared/identity/key-pair.ts'
import type { Fingerprint } from '../shared/identity/fingerprint.ts'
import { dialTls, dialWebSocket } from '../shared/link/dial.ts'
import { RegionIdentity, TokenIdentity } from '../shared/link/identity.ts'
import { LinkClient } from '../shared/link/link-client.ts'
import { LinkServer } from '../shared/link/link-server.ts'
import { TlsLinkListener } from '../shared/link/tls-listener.ts'
import type { LinkAnswer, LinkHandler, LinkStreamSink, OpenInvocation } from '../shared/link/types.ts'
import { silentLog } from '../shared/log.ts'
import { systemRandom } from '../shared/random.ts'
import { makePopKeys } from '../shared/store/pop-keys.ts'
import type { InvocationResult } from '../shared/worker/types.ts'

const TOKEN = 'bench'
const REQUEST_BODY = Buffer.from(JSON.stringify({ name: 'edge', items: [1, 2, 3] }))
const RESPONSE_BODY = Buffer.from(JSON.stringify({ hello: 'edge', sum: 6 }))
const BULK_BYTES = 4 * 1024 * 1024
const CHUNK = Buffer.alloc(64 * 1024, 7)
const RESULT: InvocationResult = { outcome: 'ok', error: null, exception: null, startKind: 'warm', cpuUs: 12, wallUs: 20, dirtyPages: 30, memoryBytes: 1_300_000, logs: [] }
/** What a raw message of the size of an open frame with body holds. */
const RAW_MESSAGE = Buffer.alloc(420, 1)

const OPEN: OpenInvocation = {
  kind: 'invoke', requestId: '7f3b0c1e-5a52-4a6e-9d68-2f9f3d2b8c11', account: '000000000000', functionName: 'bench', qualifier: null, invocationKind: 'http',
  method: 'POST', url: 'http://bench.localhost/items?limit=3', headers: 'content-type\napplication/json\naccept\n*/*\nuser-agent\nbench/1\nx-forwarded-for\n127.0.0.1',
  body: REQUEST_BODY, bodyMore: false, clientIp: '127.0.0.1', remainingMs: 30_000, wantLogs: false, reason: 'not-hot', hops: 1, session: null, ring: null, reservation: null,
}

async function region(): Promise<void> {
  const unused = (): never => {
    throw new Error('not part of this benchmark')
  }
  const handler: LinkHandler = {
    invoke: (_pop, open, _deadlineAtMs, answer) => {
      answer.started()
      if (open.functionName === 'download') return download(answer)
      const finish = (): void => {
        answer.head(200, 'content-type\napplication/json', 'warm', '$LATEST', RESPONSE_BODY, true)
        answer.bodyEnd()
        answer.end(RESULT, '$LATEST')
      }
      if (!open.bodyMore) finish()
      return { write: () => true, writeEnd: finish, resume: () => undefined, cancel: () => undefined }
    },
    snapshot: (_pop, functions) => ({ seq: 0, functions: [], answered: functions.length }),
    control: unused, chain: unused, blocks: unused, peerBlocks: unused, describe: unused, report: unused, ask: unused,
  }
  const app = App()
  const everyKey = { find: () => ({ kind: 'known', name: 'bench-by-key', role: 'pop' }) as const, has: () => false }
  const server = new LinkServer({ regionId: 'bench', identity: new RegionIdentity(new TokenIdentity(TOKEN), [everyKey]), handler, clock: systemClock, log: silentLog })
  server.attach(app)
  const keys = makeLinkKeyPair()
  const listener = await TlsLinkListener.listen({ server, keys, host: '127.0.0.1', port: 0, clock: systemClock, log: silentLog })
  app.ws('/raw', { maxPayloadLength: 1024 * 1024, maxBackpressure: 64 * 1024 * 1024, message: (ws, message) => void ws.send(message, true) })
  app.listen('127.0.0.1', 0, (socket) => {
    if (socket === false) process.exit(1)
    process.send?.({ port: localPort(socket), linkPort: listener.port, fingerprint: keys.fingerprint })
    process.once('disconnect', () => {
      closeListenSocket(socket)
      process.exit(0)
    })
  })
}

function download(answer: LinkAnswer): ReturnType<LinkHandler['invoke']> {
  let sentBytes = 0
  const resume = (): void => {
    while (sentBytes < BULK_BYTES) {
      sentBytes += CHUNK.length
      if (!answer.data(CHUNK) && sentBytes < BULK_BYTES) return
    }
    answer.bodyEnd()
    answer.end(RESULT, '$LATEST')
  }
  if (answer.head(200, '', 'warm', '$LATEST', null, false)) resume()
  return { write: () => true, writeEnd: () => undefined, resume, cancel: () => undefined }
}

function invoke(client: LinkClient, open: OpenInvocation, ended: (bytes: number) => void): ReturnType<LinkClient['open']> {
  let bytes = 0
  const sink: LinkStreamSink = {
    started: () => undefined,
    head: (_status, _headers, _startKind, _version, body) => {
      bytes += body?.length ?? 0
    },
    data: (chunk) => {
      bytes += chunk.length
      return true
    },
    bodyEnd: () => undefined,
    drain: () => undefined,
    end: () => ended(bytes),
    error: (error) => {
      throw new Error(error.code)
    },
  }
  return client.open(open, sink)
}

async function sequential(count: number, once: (done: () => void) => void): Promise<{ p50: number; p99: number }> {
  const times: number[] = []
  for (let round = 0; round < count; round += 1) {
    const startMs = performance.now()
    await new Promise<void>((resolve) => once(resolve))
    times.push((performance.now() - startMs) * 1000)
  }
  times.sort((a, b) => a - b)
  return { p50: times[Math.floor(count * 0.5)] ?? 0, p99: times[Math.floor(count * 0.99)] ?? 0 }
}

/** Microseconds per operation with `width` of them always under way. */
async function pipelined(count: number, width: number, once: (done: () => void) => void): Promise<number> {
  const startMs = performance.now()
  await new Promise<void>((resolve) => {
    let begun = 0
    let ended = 0
    const next = (): void => {
      begun += 1
      once(() => {
        ended += 1
        if (ended === count) resolve()
        else if (begun < count) next()
      })
    }
    for (let index = 0; index < Math.min(width, count); index += 1) next()
  })
  return ((performance.now() - startMs) * 1000) / count
}

async function pop(quick: boolean): Promise<void> {
  const child = fork(import.meta.filename, ['region'], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const { port, linkPort, fingerprint } = await new Promise<{ port: number; linkPort: number; fingerprint: Fingerprint }>((resolve, reject) => {
    child.once('message', (value) => resolve(value as { port: number; linkPort: number; fingerprint: Fingerprint }))
    child.once('exit', () => reject(new Error('the region ended')))
  })
  const common = { token: TOKEN, popId: 'bench', publicKey: makePopKeys().publicKey, clock: systemClock, random: systemRandom, log: silentLog }
  const client = await opened(new LinkClient({ ...common, url: `ws://127.0.0.1:${port}/link`, dial: dialWebSocket }))
  const tlsClient = await opened(new LinkClient({ ...common, url: `wss://127.0.0.1:${linkPort}/link`, dial: dialTls({ keys: makeLinkKeyPair(), trust: { kind: 'pinned', fingerprints: [fingerprint] } }) }))
  const raw = new WebSocket(`ws://127.0.0.1:${port}/raw`)
  raw.binaryType = 'arraybuffer'
  const waiting: (() => void)[] = []
  raw.addEventListener('message', () => waiting.shift()?.())
  await new Promise((resolve) => raw.addEventListener('open', resolve))

  const streamOn = (by: LinkClient) => (done: () => void): void => {
    invoke(by, OPEN, (bytes) => {
      if (bytes !== RESPONSE_BODY.length) throw new Error('wrong answer')
      done()
    })
  }
  const stream = streamOn(client)
  const streamTls = streamOn(tlsClient)
  const echo = (done: () => void): void => {
    waiting.push(done)
    raw.send(RAW_MESSAGE)
  }
  const uploadOn = (by: LinkClient) => (done: () => void): void => {
    const up = invoke(by, { ...OPEN, body: null, bodyMore: true }, () => done())
    for (let sent = 0; sent < BULK_BYTES; sent += CHUNK.length) up.write(CHUNK)
    up.writeEnd()
  }
  const downloadOn = (by: LinkClient) => (done: () => void): void => {
    invoke(by, { ...OPEN, functionName: 'download', body: null }, (bytes) => {
      if (bytes !== BULK_BYTES) throw new Error('wrong answer')
      done()
    })
  }

  const count = quick ? 300 : 20_000
  await pipelined(count, 64, stream)
  await pipelined(count, 64, streamTls)
  await pipelined(count, 64, echo)
  const rows: [string, string][] = []
  const idleRaw = await sequential(count / 5, echo)
  const idle = await sequential(count / 5, stream)
  const idleTls = await sequential(count / 5, streamTls)
  rows.push(['one stream at a time, p50 us', `${idle.p50.toFixed(1)}   bare WebSocket echo ${idleRaw.p50.toFixed(1)}   mutual TLS ${besides(idleTls.p50, idle.p50)}`])
  rows.push(['one stream at a time, p99 us', `${idle.p99.toFixed(1)}   bare WebSocket echo ${idleRaw.p99.toFixed(1)}   mutual TLS ${besides(idleTls.p99, idle.p99)}`])
  for (const width of [8, 64, 512]) {
    const bare = await pipelined(count * 2, width, echo)
    const turns = [0, 0]
    for (let turn = 0; turn < 4; turn += 1) turns[turn % 2] = (turns[turn % 2] ?? 0) + (await pipelined(count, width, turn % 2 === 0 ? stream : streamTls)) / 2
    const [ours = 0, tls = 0] = turns
    rows.push([`${width} under way, us per stream`, `${ours.toFixed(2)}   bare WebSocket echo ${bare.toFixed(2)}   mutual TLS ${besides(tls, ours)}`])
  }
  const bulkCount = quick ? 2 : 40
  const mibPerS = (us: number): string => ((BULK_BYTES / 1024 / 1024 / us) * 1_000_000).toFixed(0)
  for (const [name, on] of [['upload, MiB/s', uploadOn], ['download, MiB/s', downloadOn]] as const) {
    const plain = await pipelined(bulkCount, 1, on(client))
    rows.push([name, `${mibPerS(plain)}   mutual TLS ${mibPerS(await pipelined(bulkCount, 1, on(tlsClient)))}`])
  }
  for (const [name, figure] of rows) process.stdout.write(`${name.padEnd(36)}${figure}\n`)
  client.close()
  tlsClient.close()
  raw.close()
  await ended(child)
}

function besides(us: number, plainUs: number): string {
  return `${us.toFixed(1)} (${(us / plainUs).toFixed(2)} of plain)`
}

async function opened(client: LinkClient): Promise<LinkClient> {
  await new Promise<void>((resolve) => {
    client.onState((state) => {
      if (state.kind === 'open') resolve()
    })
    client.start()
  })
  return client
}

async function ended(child: ChildProcess): Promise<void> {
  const exit = new Promise((resolve) => child.once('exit', resolve))
  child.disconnect()
  await exit
}

if (process.argv[2] === 'region') await region()
else await pop(process.argv.includes('--quick'))
