/**
 * Peer: workerd, started straight from its binary with a configuration of its own. One worker per module; the first answers
 * on the socket. With `router`, a small worker in front sends `/INDEX/...` to the worker of that index.
 * workerd keeps module state from request to request, so a module counter grows in its answers: that is its semantics.
 */
import { createRequire } from 'node:module'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Child } from '../harness/child.ts'
import type { Scope } from '../harness/scope.ts'
import { LOOPBACK, type Server } from './server.ts'

const COMPATIBILITY_DATE = '2025-06-01'
const START_TIMEOUT_MS = 60_000

/** `modules`: sources of self-contained ES modules. */
export async function startWorkerd(scope: Scope, modules: readonly string[], options: { readonly router: boolean } = { router: false }): Promise<Server> {
  const directory = scope.temporaryDirectory('outpost-bench-workerd-')
  modules.forEach((source, index) => writeFileSync(join(directory, `worker-${index}.js`), source))
  if (options.router) writeFileSync(join(directory, 'router.js'), ROUTER)
  writeFileSync(join(directory, 'config.capnp'), configOf(modules.length, options.router))

  const child = await Child.start(scope, { command: workerdBinary(), args: ['serve', '--control-fd=3', join(directory, 'config.capnp')] })
  const report = JSON.parse(await child.firstLine(3, START_TIMEOUT_MS)) as { event: string; port: number }
  if (report.event !== 'listen') throw new Error(`workerd did not listen: ${JSON.stringify(report)}`)
  return {
    name: 'workerd',
    pids: [child.pid],
    target: (path = '/') => ({ host: LOOPBACK, port: report.port, path }),
    stop: () => child.stop(),
  }
}

export function workerdBinary(): string {
  const loaded = createRequire(import.meta.url)('workerd') as { default: unknown }
  if (typeof loaded.default !== 'string') throw new Error('the workerd package names no binary for this platform')
  return loaded.default
}

/** Of the npm package, which is that of the binary. */
export function workerdVersion(): string {
  return (createRequire(import.meta.url)('workerd/package.json') as { version: string }).version
}

const ROUTER = `
export default {
  fetch(request, env) {
    const [, index, rest] = /^https?:\\/\\/[^/]+\\/(\\d+)(\\/.*)$/.exec(request.url)
    return env['worker' + index].fetch(new Request('http://worker' + rest, request))
  },
}
`

function configOf(workerCount: number, hasRouter: boolean): string {
  const indexes = Array.from({ length: workerCount }, (_, index) => index)
  const services = indexes.map((index) => `(name = "worker${index}", worker = .worker${index})`)
  const workers = indexes.map((index) => workerOf(`worker${index}`, `worker-${index}.js`, ''))
  if (hasRouter) {
    services.push('(name = "router", worker = .router)')
    workers.push(workerOf('router', 'router.js', indexes.map((index) => `(name = "worker${index}", service = "worker${index}")`).join(', ')))
  }
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [${services.join(', ')}],
  sockets = [(name = "http", address = "${LOOPBACK}:0", http = (), service = "${hasRouter ? 'router' : 'worker0'}")],
);
${workers.join('\n')}
`
}

function workerOf(name: string, file: string, bindings: string): string {
  return `const ${name} :Workerd.Worker = (
  modules = [(name = "${file}", esModule = embed "${file}")],
  bindings = [${bindings}],
  compatibilityDate = "${COMPATIBILITY_DATE}",
);`
}
