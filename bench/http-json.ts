/** The main figure: a hot JSON fetch handler, reset after every request, at 32 connections; throughput, and CPU per request. */
import { atLeast, type Benchmark } from './harness/benchmark.ts'
import { startBareUwsPeer, startOutpostWith, startWorkerdWith, warmUp } from './harness/peers.ts'
import { alternate, median, ratios } from './harness/stats.ts'
import { runWrkWithCpu } from './load/wrk.ts'

export const httpJson: Benchmark = {
  name: 'http-json',
  needs: ['wrk', 'peers', 'linux'],
  figures: [
    { key: 'json-rps-vs-workerd', what: 'hot JSON fetch handler, 32 connections: requests/s against workerd', bar: atLeast(2.5, 'x') },
    { key: 'json-cpu-vs-workerd', what: 'the same: requests per CPU-second of server processes against workerd', bar: atLeast(1.2, 'x') },
    { key: 'json-rps-vs-bare-uws', what: 'the same: requests/s against a bare uWebSockets.js server', bar: atLeast(0.22, 'x') },
  ],
  async run(context) {
    const peers = {
      outpost: (await startOutpostWith(context, 'json-fetch')).peer,
      workerd: await startWorkerdWith(context, 'json-fetch'),
      bareUws: await startBareUwsPeer(context),
    }
    await warmUp(context, Object.values(peers))
    const results = await alternate(['outpost', 'workerd', 'bareUws'] as const, context.rounds, (name, round) => {
      context.progress(`round ${round + 1}: ${name}`)
      const { server, target, check } = peers[name]
      return runWrkWithCpu(context.scope, server, target, { connections: 32, durationS: context.quick ? 1 : 4, check })
    })
    const perSecond = (name: keyof typeof peers): number[] => results[name].map((result) => result.requestsPerSecond)
    const perCpuSecond = (name: keyof typeof peers): number[] => results[name].map((result) => result.requestsPerCpuSecond)
    const againstWorkerd = ratios(perSecond('outpost'), perSecond('workerd'))
    const cpuAgainstWorkerd = ratios(perCpuSecond('outpost'), perCpuSecond('workerd'))
    const againstBare = ratios(perSecond('outpost'), perSecond('bareUws'))
    const throughput = { outpostPerS: median(perSecond('outpost')), workerdPerS: median(perSecond('workerd')), bareUwsPerS: median(perSecond('bareUws')) }
    return [
      { key: 'json-rps-vs-workerd', value: median(againstWorkerd), rounds: againstWorkerd, detail: throughput, note: '' },
      {
        key: 'json-cpu-vs-workerd', value: median(cpuAgainstWorkerd), rounds: cpuAgainstWorkerd,
        detail: { outpostPerCpuS: median(perCpuSecond('outpost')), workerdPerCpuS: median(perCpuSecond('workerd')), bareUwsPerCpuS: median(perCpuSecond('bareUws')) },
        note: '',
      },
      { key: 'json-rps-vs-bare-uws', value: median(againstBare), rounds: againstBare, detail: throughput, note: '' },
    ]
  },
}
