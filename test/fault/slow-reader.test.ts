/** Clients that read slowly, and a line that is full: what the others on the same link see, and what it costs in memory. */
import t from 'tap'
import { codesOf, look, percentileMs, summary, type Seen } from '../support/callers.ts'
import { eventually } from '../support/dev-server.ts'
import { deploy, startNet, type Net, type NetTier } from '../support/net-site.ts'
import { answering, BUSY_MS } from './far.ts'

const MIB = 1024 * 1024
const READERS = 40
const BODY_BYTES = 6_000_000
const BODY = `export default { fetch: () => { let left = ${BODY_BYTES}; return new Response(new ReadableStream({ pull(c) { const n = Math.min(left, 60000); left -= n; if (n > 0) c.enqueue(new Uint8Array(n)); if (left === 0) c.close() } })) } }`
/** Asks for bodies, all at once, and says how many bytes have come. */
const READER = `const [,url,count]=process.argv;let bytes=0;for(let i=0;i<Number(count);i++)require('http').get(url,{agent:false},(r)=>{r.on('data',(b)=>{bytes+=b.length})}).on('error',()=>{});setInterval(()=>console.log(bytes),100)`
const COLD = 60

interface Readers {
  readonly bytes: () => number
  stop(): Promise<void>
}

function startReaders(net: Net, pop: NetTier, count: number): Readers {
  const { child, ended } = net.process('reader', [process.execPath, '-e', READER, `${pop.url}/fn/large/`, String(count)])
  let bytes = 0
  child.stdout?.on('data', (text: Buffer) => (bytes = Number(text.toString())))
  return {
    bytes: () => bytes,
    async stop() {
      child.kill('SIGKILL')
      await ended
    },
  }
}

await t.test('clients that read slowly, and bodies that fill the line', async (t) => {
  const net = await startNet(t, ['reader', 'pop', 'region'])
  if (net === null) return
  const region = await net.region('region')
  const pop = await net.pop('pop', region)
  await deploy(region, 'large', BODY, { Timeout: 60, Outpost: { Limits: { CpuMs: 5_000 } } })
  for (let index = 0; index < COLD; index += 1) await deploy(region, `cold${index}`, answering('cold'))
  await net.wan.between('pop', 'region', { delayMs: 10 })
  let next = 0
  const coldCalls = async (count: number): Promise<Seen[]> => {
    const seen: Seen[] = []
    for (let times = 0; times < count; times += 1) seen.push(await look(pop, `cold${next++ % COLD}`))
    return seen
  }

  await t.test('forty clients that read 10 KB/s each hold up nobody else; POP and region hold a window or two for each', async (t) => {
    await net.wan.set('pop', 'reader', { bytesPerSecond: READERS * 10_000 })
    const before = { pop: pop.residentBytes(), region: region.residentBytes() }
    const readers = startReaders(net, pop, READERS)
    await eventually(async () => readers.bytes(), (bytes) => bytes > 1_000_000)
    const seen = await coldCalls(40)
    t.same(codesOf(seen), [], summary(seen))
    t.ok(percentileMs(seen, 0.5) < 20 + BUSY_MS, `a call of others takes ${percentileMs(seen, 0.5).toFixed(0)} ms, 90 % ${percentileMs(seen, 0.9).toFixed(0)} ms`)
    t.ok(readers.bytes() < READERS * BODY_BYTES / 10, 'they do read slowly')
    const grown = { pop: pop.residentBytes() - before.pop, region: region.residentBytes() - before.region }
    t.ok(grown.pop < READERS * MIB + 64 * MIB, `the POP has grown by ${Math.round(grown.pop / MIB)} MiB`)
    // There each has a machine too.
    t.ok(grown.region < READERS * 4 * MIB + 64 * MIB, `the region by ${Math.round(grown.region / MIB)} MiB`)
    await readers.stop()
  })

  await t.test('eight bodies at once over a line of 1 MiB/s: small calls wait for what is in the socket, not for the bodies', async (t) => {
    await net.wan.set('pop', 'reader', { bytesPerSecond: 0 })
    await net.wan.between('pop', 'region', { bytesPerSecond: MIB, queueMs: 100 })
    const readers = startReaders(net, pop, 8)
    await eventually(async () => readers.bytes(), (bytes) => bytes > 2 * MIB)
    const seen = await coldCalls(10)
    t.same(codesOf(seen), [], summary(seen))
    t.ok(percentileMs(seen, 1) < 3_000, `p50 ${percentileMs(seen, 0.5).toFixed(0)} ms, the slowest ${percentileMs(seen, 1).toFixed(0)} ms`)
    await readers.stop()
    await eventually(() => coldCalls(1), ([call]) => call !== undefined && call.code === null && call.tookMs < 20 + BUSY_MS)
  })
})
