/** Pages and events that are streamed reach the client as they are produced: their beginning before what their end waits for. */
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { bundle } from '../../shared/cli/bundle.ts'
import { deployFunction } from '../../shared/cli/deployment.ts'
import { zipBundle } from '../../shared/cli/zip.ts'
import { startSite, type Tier } from '../support/site.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** Only a failure waits that long. */
const FIRST_BYTES_TIMEOUT_MS = 60_000

const ROUTES = [
  { path: '/page', type: 'text/html; charset=utf-8', first: /<h1>first<\/h1>.*<em>waiting<\/em>/, last: /<p>released<\/p>/ },
  { path: '/events', type: 'text/event-stream', first: /^data: first\nid: 1\n\n$/, last: /data: released\nid: 2\n\n$/ },
  { path: '/by-hand', type: 'text/event-stream', first: /^data: first\n\n$/, last: /data: released\n\n$/ },
]

await t.test('streams flow as they are produced', async (t) => {
  const upstream = await startHeldUpstream(t)
  const egress = ['--egress-allow', `127.0.0.1:${upstream.port}`]
  const site = await startSite(t, { pop: ['--hot-min-requests', '1', ...egress], region: egress })
  const made = await bundle('test/fixtures/frameworks/streaming.jsx', ROOT)
  const deploy = (name: string): Promise<unknown> => deployFunction(site.api('region'), { name, zip: zipBundle(made), members: { Timeout: 120, Environment: { Variables: { UPSTREAM: `http://127.0.0.1:${upstream.port}/` } } }, publish: false, alias: null })

  for (const [index, route] of ROUTES.entries()) {
    const name = `streaming-${index}`
    await deploy(name)
    await t.test(`${route.path} from the region through a POP`, (t) => flows(t, site.pop, name, 'region; reason=not-hot', route))
    await site.untilHot(name)
    await t.test(`${route.path} at a hot POP`, (t) => flows(t, site.pop, name, 'pop', route))
  }

  async function flows(t: Test, { url }: Tier, name: string, place: string, { path, type, first, last }: (typeof ROUTES)[number]): Promise<void> {
    const response = await fetch(`${url}/fn/${name}${path}`, { signal: AbortSignal.timeout(FIRST_BYTES_TIMEOUT_MS) })
    t.equal(response.headers.get('x-outpost-place'), place)
    t.equal(response.headers.get('content-type'), type)
    const text = (response.body ?? new ReadableStream<Uint8Array>()).pipeThrough(new TextDecoderStream())
    let received = ''
    for await (const part of text) {
      received += part
      // The upstream has the guest's question and holds its answer until the beginning is here.
      if (upstream.releasedCount() === 0 && first.test(received)) await upstream.release()
    }
    t.equal(upstream.releasedCount(), 1, 'what came before the upstream answered was the beginning')
    t.match(received, last)
    upstream.reset()
  }
})

interface HeldUpstream {
  readonly port: number
  /** Answers one request, the one that is there or the next. */
  release(): Promise<void>
  releasedCount(): number
  reset(): void
}

/** Answers nothing until told to. */
async function startHeldUpstream(t: Test): Promise<HeldUpstream> {
  const held: ServerResponse[] = []
  let [releasedCount, onHeld] = [0, (): void => undefined]
  const server = createServer((_request, response) => {
    held.push(response)
    onHeld()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    port: (server.address() as AddressInfo).port,
    async release() {
      if (held.length === 0) await new Promise<void>((resolve) => { onHeld = resolve })
      releasedCount += 1
      held.shift()?.end('released')
    },
    releasedCount: () => releasedCount,
    reset() {
      releasedCount = 0
    },
  }
}
