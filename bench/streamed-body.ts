/**
 * What a host holds of a body that goes through a guest: 50 MB at 1 Gbit/s in and out again, at a hot POP and at the region.
 * The first body of a process is left out, as it brings buffers and compiled code that stay; its growth stands beside.
 */
import { request } from 'node:http'
import { atMost, type Benchmark, type BenchmarkContext } from './harness/benchmark.ts'
import { fixture } from './harness/fixtures.ts'
import { residentBytes } from './harness/proc.ts'
import { median } from './harness/stats.ts'
import { OUTPOST_DEFAULTS } from './servers/outpost.ts'
import type { Server, Target } from './servers/server.ts'

const BYTES_PER_MS = 125_000
const PIECE = Buffer.alloc(62_500, 'outpost ')
const SAMPLE_EVERY_MS = 25
/** The most that a POP runs itself. */
const CPU_MS = 1_000
const MIB = 2 ** 20

export const streamedBody: Benchmark = {
  name: 'streamed-body',
  needs: ['linux'],
  figures: [
    { key: 'streamed-body-pop', what: '50 MB at 1 Gbit/s through a guest that pipes it: resident memory of the POP above idle', bar: atMost(32, 'MiB') },
    { key: 'streamed-body-region', what: 'the same at the region', bar: atMost(32, 'MiB') },
  ],
  async run(context) {
    const outpost = await context.startOutpost(context.scope, OUTPOST_DEFAULTS)
    await outpost.deploy({ name: 'pipe', source: fixture('pipe'), cpuMs: CPU_MS })
    await outpost.untilHot('pipe', 30_000)
    const rows = []
    for (const tier of ['pop', 'region'] as const) {
      const first = await growthMib(context, outpost[tier], 'first')
      const later: number[] = []
      for (let round = 1; round <= context.rounds; round++) later.push(await growthMib(context, outpost[tier], String(round)))
      rows.push({ key: `streamed-body-${tier}`, value: median(later), rounds: later, detail: { firstMib: first, mostMib: Math.max(...later) }, note: `sampled every ${SAMPLE_EVERY_MS} ms` })
    }
    return rows
  },
}

async function growthMib(context: BenchmarkContext, server: Server, which: string): Promise<number> {
  context.progress(`${server.name}: body ${which}`)
  const idle = residentBytes(server.pids)
  let highest = idle
  const timer = setInterval(() => {
    highest = Math.max(highest, residentBytes(server.pids))
  }, SAMPLE_EVERY_MS)
  try {
    await stream(server.target('pipe'), context.quick ? 2_000_000 : 50_000_000)
  } finally {
    clearInterval(timer)
  }
  return (highest - idle) / MIB
}

/** Rejects unless every byte comes back. */
function stream({ host, port, path }: Target, bytes: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host, port, path, method: 'POST', headers: { 'content-length': bytes } }, (answer) => {
      let received = 0
      answer.on('data', (chunk: Buffer) => (received += chunk.length))
      answer.on('error', reject)
      answer.on('end', () => {
        if (answer.statusCode === 200 && received === bytes) resolve()
        else reject(new Error(`status ${answer.statusCode}, ${received} of ${bytes} bytes`))
      })
    })
    outgoing.on('error', reject)
    const startedAtMs = performance.now()
    let sent = 0
    const pace = setInterval(() => {
      const due = Math.min(bytes, (performance.now() - startedAtMs) * BYTES_PER_MS)
      while (sent < due && !outgoing.writableNeedDrain) {
        const piece = PIECE.subarray(0, Math.min(PIECE.length, bytes - sent))
        outgoing.write(piece)
        sent += piece.length
      }
      if (sent < bytes) return
      clearInterval(pace)
      outgoing.end()
    }, 1)
    outgoing.on('close', () => clearInterval(pace))
  })
}
