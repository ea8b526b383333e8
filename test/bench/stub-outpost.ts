/**
 * Stands in for Outpost in tests of the benchmarks: runs deployed modules in this process, each request in a newly evaluated
 * module, so that module counters read 1. A fault makes it answer as a broken Outpost would.
 */
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Scope } from '../../bench/harness/scope.ts'
import type { Outpost, StartOutpost } from '../../bench/servers/outpost.ts'
import { LOOPBACK, type Server } from '../../bench/servers/server.ts'

/** `leaks-state`: module state outlives a request. `mixes-up`: answers carry another request's id. `fails`: every tenth request gets 500. */
export type Fault = 'none' | 'leaks-state' | 'mixes-up' | 'fails'

interface Loaded {
  readonly default?: { fetch(request: Request): Response | Promise<Response> }
  readonly handler?: (event: { readonly body: string }) => Promise<{ readonly statusCode: number; readonly headers: Record<string, string>; readonly body: string }>
}

/** Modules are cached by their address for the life of the process, so no number comes twice. */
let instances = 0

export function stubOutpost(fault: Fault = 'none'): StartOutpost {
  return async (scope: Scope): Promise<Outpost> => {
    const sources = new Map<string, string>()
    const heavy = new Set<string>()
    let requests = 0
    const answer = async (incoming: IncomingMessage): Promise<{ status: number; headers: Record<string, string>; body: string }> => {
      requests += 1
      if (fault === 'fails' && requests % 10 === 0) return { status: 500, headers: {}, body: '{"code":"ERR_INTERNAL"}' }
      const chunks: Buffer[] = []
      for await (const chunk of incoming) chunks.push(chunk as Buffer)
      const body = Buffer.concat(chunks).toString()
      const [, name = '', rest = ''] = /^\/fn\/([^/]+)(\/.*)$/.exec(incoming.url ?? '') ?? []
      const source = sources.get(name)
      if (source === undefined) return { status: 404, headers: {}, body: '{"code":"ERR_FUNCTION_NOT_FOUND"}' }
      const instance = fault === 'leaks-state' ? 0 : ++instances
      const module = (await import(`data:text/javascript,${encodeURIComponent(source)}//${instance}`)) as Loaded
      if (module.handler !== undefined) {
        const result = await module.handler({ body })
        return { status: result.statusCode, headers: result.headers, body: result.body }
      }
      const { method = 'GET' } = incoming
      const response = await module.default?.fetch(new Request(`http://stub${rest}`, method === 'POST' ? { method, body } : { method }))
      if (response === undefined) return { status: 500, headers: {}, body: 'no handler' }
      const text = await response.text()
      return { status: response.status, headers: Object.fromEntries(response.headers), body: fault === 'mixes-up' ? text.replace(/"id":\d+/, '"id":1') : text }
    }
    const placeOf = (url: string): string => (heavy.has(/^\/fn\/([^/]+)\//.exec(url)?.[1] ?? '') ? 'region; reason=heavy' : 'pop')
    const server = createServer((incoming, outgoing) => {
      answer(incoming).then(
        ({ status, headers, body }) => outgoing.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body), 'x-outpost-place': placeOf(incoming.url ?? '') }).end(body),
        (error: unknown) => outgoing.writeHead(500).end(String(error)),
      )
    })
    await new Promise<void>((resolve) => server.listen(0, LOOPBACK, resolve))
    const { port } = server.address() as AddressInfo
    const stop = async (): Promise<void> => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
    scope.defer(stop)
    const tier = (name: string): Server => ({ name, pids: [process.pid], target: (functionName = '') => ({ host: LOOPBACK, port, path: `/fn/${functionName}/` }), stop })
    return {
      pop: tier('outpost'),
      region: tier('region'),
      deploy(deployment) {
        sources.set(deployment.name, deployment.source)
        if ((deployment.cpuMs ?? 0) > 1_000) heavy.add(deployment.name)
        return Promise.resolve()
      },
      untilHot: () => Promise.resolve(),
      stop,
    }
  }
}
