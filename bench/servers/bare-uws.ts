/** Peer: a bare uWebSockets.js server in a process of its own that does the same JSON work with nothing around it. */
import { fileURLToPath } from 'node:url'
import { Child } from '../harness/child.ts'
import type { Scope } from '../harness/scope.ts'
import { LOOPBACK, type Server } from './server.ts'

const START_TIMEOUT_MS = 20_000

export async function startBareUws(scope: Scope): Promise<Server> {
  const child = await Child.start(scope, { command: process.execPath, args: [fileURLToPath(new URL('bare-uws-main.ts', import.meta.url))] })
  const { port } = JSON.parse(await child.firstLine(1, START_TIMEOUT_MS)) as { port: number }
  return {
    name: 'bare uWebSockets.js',
    pids: [child.pid],
    target: (path = '/') => ({ host: LOOPBACK, port, path }),
    stop: () => child.stop(),
  }
}
