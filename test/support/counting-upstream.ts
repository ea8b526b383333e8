/** A server that functions call and wait for: what it counts is what runs, wherever it runs. */
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Upstream {
  readonly port: number
  /** Requests that wait now, and the most that ever did at once. */
  readonly running: () => number
  readonly peak: () => number
  /** Answers every request that waits, and those that come, until `hold`. */
  release(): void
  hold(): void
}

export async function startUpstream(t: { teardown(run: () => void): void }): Promise<Upstream> {
  const waiting = new Set<ServerResponse>()
  let peak = 0
  let open = false
  const server = createServer((_request, response) => {
    waiting.add(response)
    peak = Math.max(peak, waiting.size)
    response.on('close', () => waiting.delete(response))
    if (open) response.end('released')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    port: (server.address() as AddressInfo).port,
    running: () => waiting.size,
    peak: () => peak,
    release() {
      open = true
      for (const response of waiting) response.end('released')
    },
    hold: () => (open = false),
  }
}

/** Source of a function that waits for the upstream; `/quick` does not. */
export const waiter = (port: number): string => `export default { async fetch(request) {
  if (new URL(request.url).pathname === '/quick') return new Response('quick')
  return new Response(await (await fetch('http://127.0.0.1:${port}/')).text())
} }`
