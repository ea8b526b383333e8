/**
 * What the front door costs without functions behind it: `node bench/front-door.ts [--rounds N] [--quick]`.
 *
 * Its dispatcher answers at once; the peers are bare uWebSockets.js servers in the same run:
 *   bare          gives a function's input together (headers as one string, body copied) and sends the same answer with
 *                 the same headers, as one would write it by hand, without a check of anything. The bar: 0.75 of it.
 *   bare-minimal  reads nothing and sends a body. What a hand-written server cannot be either; for scale.
 * Each round runs every server once, every second round in reverse; ratios are formed within a round, medians count.
 */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Child } from './harness/child.ts'
import { cpuSeconds } from './harness/proc.ts'
import { Scope } from './harness/scope.ts'
import { alternate, median, ratios } from './harness/stats.ts'
import { hasWrk } from './load/wrk.ts'

const VARIANTS = ['front-door', 'bare', 'bare-minimal'] as const
type Variant = (typeof VARIANTS)[number]

interface Result {
  readonly requestsPerSecond: number
  readonly cpuUsPerRequest: number
}

const CONNECTIONS = 32
const BAR = 0.75
const SERVERS = fileURLToPath(new URL('front-door/servers.ts', import.meta.url))
const SCRIPT = fileURLToPath(new URL('front-door/post.lua', import.meta.url))

async function measure(scope: Scope, variant: Variant, durationS: number): Promise<Result> {
  const server = await Child.start(scope, { command: process.execPath, args: ['--disable-warning=ExperimentalWarning', SERVERS, variant] })
  const url = `http://127.0.0.1:${await server.firstLine(1, 20_000)}/fn/hello/orders?limit=3`
  await wrk(scope, url, 1)
  const before = cpuSeconds([server.pid])
  const result = await wrk(scope, url, durationS)
  const used = cpuSeconds([server.pid]) - before
  await server.stop()
  return { requestsPerSecond: result.perSecond, cpuUsPerRequest: (used * 1e6) / result.requests }
}

async function wrk(scope: Scope, url: string, durationS: number): Promise<{ requests: number; perSecond: number }> {
  const child = await Child.start(scope, { command: 'wrk', args: ['-t1', `-c${CONNECTIONS}`, `-d${durationS}s`, '--timeout', '10s', '-s', SCRIPT, url] })
  const output = await child.result((durationS + 30) * 1000)
  const requests = Number(/(\d+) requests in/.exec(output)?.[1])
  const perSecond = Number(/Requests\/sec:\s+([\d.]+)/.exec(output)?.[1])
  if (!(requests > 0) || /Non-2xx|Socket errors/.test(output)) throw new Error(`wrk failed:\n${output}`)
  return { requests, perSecond }
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, quick: { type: 'boolean', default: false } } })
  if (!hasWrk()) {
    console.log('not measured: wrk is not installed (Debian package wrk)')
    return
  }
  const scope = new Scope()
  process.on('exit', () => scope.abandon())
  const rounds = values.quick ? 1 : Number(values.rounds)
  const results = await alternate(VARIANTS, rounds, (variant) => measure(scope, variant, values.quick ? 1 : 3))
  await scope.close()
  const rps = (variant: Variant): number[] => results[variant].map(({ requestsPerSecond }) => requestsPerSecond)
  for (const variant of VARIANTS) {
    const cpuUs = median(results[variant].map(({ cpuUsPerRequest }) => cpuUsPerRequest))
    console.log(`${variant.padEnd(13)} ${Math.round(median(rps(variant)))} requests/s, ${cpuUs.toFixed(2)} us CPU a request   [${rps(variant).map(Math.round).join(' ')}]`)
  }
  const against = ratios(rps('front-door'), rps('bare'))
  const cpuAgainst = ratios(results.bare.map(({ cpuUsPerRequest }) => cpuUsPerRequest), results['front-door'].map(({ cpuUsPerRequest }) => cpuUsPerRequest))
  console.log(`front door against bare: ${median(against).toFixed(2)}x requests/s, ${median(cpuAgainst).toFixed(2)}x requests per CPU-second (bar: at least ${BAR}x)`)
  console.log(`front door against bare-minimal: ${median(ratios(rps('front-door'), rps('bare-minimal'))).toFixed(2)}x requests/s`)
}

await main()
