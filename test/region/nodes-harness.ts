/** Nodes of one region in this process: real regions with sandboxes that are not, real links, coordination in memory. Each has a registry of its own: deploy to all. */
import type { Test } from 'tap'
import { RegionNodes } from '../../region/nodes.ts'
import { systemClock } from '../../shared/clock.ts'
import type { CodedError } from '../../shared/errors.ts'
import type { AnswerSink, InvokeCall, Placement } from '../../shared/http/types.ts'
import { App, closeListenSocket, localPort } from '../../shared/http/uws.ts'
import { TokenIdentity } from '../../shared/link/identity.ts'
import { LinkClient } from '../../shared/link/link-client.ts'
import { LinkServer } from '../../shared/link/link-server.ts'
import { systemRandom } from '../../shared/random.ts'
import type { InvocationResult } from '../../shared/worker/types.ts'
import type { MemoryCoordination } from '../support/memory-coordination.ts'
import { PUBLIC_KEY, testLog, until, type TestLog } from '../shared/link/harness.ts'
import { handlerZip, startRegion, type FakeHost, type TestRegion } from './fakes.ts'

export const ACCOUNT = '000000000000'
const PEER_TOKEN = 'a token of nodes'

export interface TestNode extends TestRegion {
  readonly name: string
  readonly nodes: RegionNodes
  readonly logged: TestLog
  readonly url: string
  readonly host: FakeHost
  /** Ends its links and its listener, as the end of its process would; the group hears nothing. */
  kill(): void
}

export async function startNode(t: Test, coordination: MemoryCoordination, name: string): Promise<TestNode> {
  const logged = testLog()
  const { log } = logged
  let nodes: RegionNodes | null = null
  const made = await startRegion({
    nodes: ({ registry }, topics) => {
      nodes = new RegionNodes({
        coordination, regionName: 'test', newName: () => name, topics, registry, capacity: 64, fingerprint: null, clock: systemClock, random: systemRandom, log,
        makeLink: ({ memberId, info }, self) => new LinkClient({
          url: `ws://${info.address}/link`, token: PEER_TOKEN, popId: self, publicKey: PUBLIC_KEY, role: 'node', expects: memberId, clock: systemClock, random: systemRandom, log,
        }),
      })
      return nodes.router
    },
  })
  const joined = nodes as RegionNodes | null
  if (joined === null) throw new Error('the region made no nodes')
  const server = new LinkServer({ regionId: 'region-1', memberId: () => joined.peers.self, identity: joined.identity(new TokenIdentity('of POPs', PEER_TOKEN)), handler: made.region.links, clock: systemClock, log })
  const app = App()
  server.attach(app)
  const [port, stopListening] = await new Promise<[number, () => void]>((resolve, reject) => {
    app.listen('127.0.0.1', 0, (socket) => (socket === false ? reject(new Error('cannot listen')) : resolve([localPort(socket), () => closeListenSocket(socket)])))
  })
  await joined.start(made.region, `127.0.0.1:${port}`)
  let alive = true
  const kill = (): void => {
    if (!alive) return
    alive = false
    joined.peers.close()
    server.close()
    stopListening()
  }
  t.teardown(async () => {
    kill()
    await joined.leave()
    await made.close()
  })
  return { ...made, name, nodes: joined, logged, url: `ws://127.0.0.1:${port}/link`, kill }
}

export async function startNodes(t: Test, coordination: MemoryCoordination, names: readonly string[]): Promise<readonly TestNode[]> {
  const nodes: TestNode[] = []
  for (const name of names) nodes.push(await startNode(t, coordination, name))
  await untilRing(nodes, names)
  return nodes
}

export async function untilRing(nodes: readonly TestNode[], names: readonly string[]): Promise<void> {
  await until(() => nodes.every(({ nodes: each }) => (each.cluster?.ring?.document.members ?? []).map(({ id }) => id).join() === [...names].sort().join()), `ring of ${names.join()}`)
  await until(() => nodes.every(({ nodes: each }) => names.every((name) => each.peers.self === name || each.peers.reachable(name))), 'links')
}

export async function deploy(nodes: readonly TestNode[], functionName: string, code = `export const handler = ${JSON.stringify(functionName)}`): Promise<void> {
  const ZipFile = Buffer.from(handlerZip(code)).toString('base64')
  for (const { region, registry } of nodes) {
    const isNew = registry.read(ACCOUNT, functionName).function() === null
    const reply = await region.control({
      requestId: 'r', method: isNew ? 'POST' : 'PUT', rawPath: `/2015-03-31/functions${isNew ? '' : `/${functionName}/code`}`, headers: 'authorization\nAWS4-HMAC-SHA256 any',
      body: Buffer.from(JSON.stringify(isNew ? { FunctionName: functionName, Code: { ZipFile } } : { ZipFile })), clientIp: '',
    })
    if (reply.status >= 300) throw new Error(Buffer.from(reply.body).toString())
  }
}

export interface Answered {
  readonly node: string | null
  readonly start: string | null
  readonly body: string
  readonly code: string | null
  readonly result: InvocationResult | null
}

export function callOf(functionName: string, more: Partial<InvokeCall> = {}): InvokeCall {
  return {
    requestId: 'request', account: ACCOUNT, functionName, qualifier: null, invocationKind: 'http', method: 'GET', url: 'http://x/', headers: '', body: null, bodyMore: false, clientIp: '',
    deadlineAtMs: Date.now() + 10_000, wantLogs: false, ...more,
  }
}

/** A client of a node's front door. */
export function call({ region }: TestNode, functionName: string, more: Partial<InvokeCall> = {}, whileUnderWay: (answer: ReturnType<TestRegion['region']['invoke']>) => void = () => undefined): Promise<Answered> {
  return new Promise((resolve) => {
    let body = ''
    const done = (placement: Placement | null, code: string | null, result: InvocationResult | null): void =>
      resolve({ node: placement?.node ?? null, start: placement?.startKind ?? null, body, code, result })
    const sink: AnswerSink = {
      head: (_status, _headers, _placement, chunk) => {
        if (chunk !== null) body += Buffer.from(chunk).toString()
      },
      data(chunk) {
        body += Buffer.from(chunk).toString()
        return true
      },
      bodyEnd: () => undefined,
      end: (result, placement) => done(placement, null, result),
      fail: (error: CodedError, placement) => done(placement, error.code, null),
    }
    whileUnderWay(region.invoke(callOf(functionName, more), sink))
  })
}
