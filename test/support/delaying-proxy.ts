/**
 * A TCP proxy that holds every chunk for a while, each way, without any limit of bandwidth, and counts round trips: what
 * the client sends after something reached it is one round later than that, what the server sends belongs to the latest
 * round that reached it. So it counts what depends on what, however fast or slow the machine is.
 */
import { connect, createServer, type Socket } from 'node:net'
import type { AddressInfo } from 'node:net'

export interface DelayingProxy {
  readonly port: number
  /** Round trips since the last `restart`. */
  readonly rounds: number
  readonly downBytes: number
  readonly upBytes: number
  restart(): void
  /** Takes nothing from the server any more, or again. */
  pause(what: 'paused' | 'flowing'): void
  close(): Promise<void>
}

export async function startDelayingProxy(targetPort: number, delayMs: number): Promise<DelayingProxy> {
  const counts = { rounds: 0, reachedServer: 0, downBytes: 0, upBytes: 0 }
  const sockets = new Set<Socket>()
  const servers = new Set<Socket>()
  const server = createServer((client) => {
    const upstream = connect(targetPort, '127.0.0.1')
    servers.add(upstream)
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.setNoDelay(true)
      // The other side hears of it by its end.
      socket.on('error', () => undefined)
    }
    // Timers of equal length fire in the order in which they were set.
    const later = (action: () => void): void => void setTimeout(action, delayMs)
    client.on('data', (chunk: Buffer) => {
      const round = counts.rounds + 1
      counts.upBytes += chunk.length
      later(() => {
        counts.reachedServer = Math.max(counts.reachedServer, round)
        upstream.write(chunk)
      })
    })
    upstream.on('data', (chunk: Buffer) => {
      const round = counts.reachedServer
      counts.downBytes += chunk.length
      later(() => {
        counts.rounds = Math.max(counts.rounds, round)
        client.write(chunk)
      })
    })
    client.on('close', () => later(() => upstream.destroy()))
    upstream.on('close', () => later(() => client.destroy()))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    get rounds() {
      return counts.rounds
    },
    get downBytes() {
      return counts.downBytes
    },
    get upBytes() {
      return counts.upBytes
    },
    restart() {
      Object.assign(counts, { rounds: 0, reachedServer: 0, downBytes: 0, upBytes: 0 })
    },
    pause(what) {
      for (const socket of servers) {
        if (what === 'paused') socket.pause()
        else socket.resume()
      }
    },
    close() {
      for (const socket of sockets) socket.destroy()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}
