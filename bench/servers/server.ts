/** A server under load, whatever it is. */
import { createServer, type AddressInfo } from 'node:net'

export interface Target {
  readonly host: string
  readonly port: number
  readonly path: string
}

export interface Server {
  readonly name: string
  /** Every process that does work for an answer; their descendants count with them. */
  readonly pids: readonly number[]
  target(path?: string): Target
  stop(): Promise<void>
}

export const LOOPBACK = '127.0.0.1'

/** A port that was free just now, for programs that cannot choose one themselves. */
export async function freePort(): Promise<number> {
  const probe = createServer()
  await new Promise<void>((resolve) => probe.listen(0, LOOPBACK, resolve))
  const { port } = probe.address() as AddressInfo
  await new Promise((resolve) => probe.close(resolve))
  return port
}

export function urlOf(target: Target): string {
  return `http://${target.host}:${target.port}${target.path}`
}
