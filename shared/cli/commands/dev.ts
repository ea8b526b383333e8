/** `outpost dev [dir]`: POP and region on this machine, the functions of a directory deployed and kept up to date. */
import { existsSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { systemClock } from '../../clock.ts'
import { CodedError } from '../../errors.ts'
import { ApiClient } from '../api-client.ts'
import type { CliContext } from '../context.ts'
import { hostInUrl, startDevServer, type DevServer } from '../dev-server.ts'
import { FolderDeployer } from '../folder-deployer.ts'
import { DEFAULT_PORT, portNumber, wholeNumber } from '../options.ts'
import { requireFreePort } from '../ports.ts'
import { untilAborted } from '../tier.ts'

export interface DevOptions {
  readonly port: number
  readonly host: string
  readonly data: string
  readonly hotMinRequests: number
  readonly drainTimeout: number
  readonly log: string
  readonly json?: boolean
}

export function addDev(program: Command, context: CliContext): void {
  program
    .command('dev')
    .description('run a POP and a region here, and deploy the functions of a directory whenever they change')
    .argument('[dir]', 'each .js, .mjs or .ts file in it that exports a handler, or the `main` of its outpost.json, wrangler.jsonc or package.json')
    .option('--port <port>', 'port of the POP; 0 takes a free one', portNumber, DEFAULT_PORT)
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--data <dir>', 'where functions and images are kept', '.outpost')
    .option('--hot-min-requests <count>', 'requests within five minutes that make a function hot at the POP', wholeNumber(0, 1_000_000), 1)
    .option('--drain-timeout <ms>', 'how long requests in flight may go on after Ctrl-C', wholeNumber(0, 3_600_000), 10_000)
    .option('--log <format>', 'pretty or json', 'pretty')
    .option('--json', 'print one JSON line once it is ready')
    .action((dir: string | undefined, options: DevOptions) => runDev(context, dir === undefined ? null : resolve(context.cwd, dir), options))
}

/** Shared with `start`. Resolves after a signal and an orderly stop. */
export async function runDev(context: CliContext, dir: string | null, options: DevOptions): Promise<void> {
  if (dir !== null && !(existsSync(dir) && statSync(dir).isDirectory())) throw new CodedError('ERR_ENTRY_NOT_FOUND', [`${dir} that is a directory`])
  if (options.log !== 'pretty' && options.log !== 'json') throw new CodedError('ERR_USAGE', ['--log takes pretty or json'])
  await requireFreePort(options.port, options.host, '--port')
  const stop = context.stopSignal()
  const server = await startDevServer(context, {
    port: options.port,
    host: options.host,
    dataDir: resolve(context.cwd, options.data),
    drainTimeoutMs: options.drainTimeout,
    hotMinRequests: options.hotMinRequests,
    logFormat: options.log,
    clock: systemClock,
  })
  const host = hostInUrl(options.host)
  const folder = dir === null ? null : new FolderDeployer({
    dir,
    // The region itself: an edit is deployed even while the POP is being started again.
    api: new ApiClient(new URL(`http://${host}:${server.regionPort}`), { accessKeyId: 'dev', secretAccessKey: 'dev' }),
    clock: systemClock,
    say: (text) => context.err(text),
  })
  try {
    await folder?.start()
    context.out(options.json === true ? readyJson(server, host, folder) : readyText(server, host, folder))
    await untilAborted(stop)
  } finally {
    await folder?.close()
    await server.stop()
  }
}

function readyJson(server: DevServer, host: string, folder: FolderDeployer | null): string {
  const url = `http://${host}:${server.popPort}`
  const functions = (folder?.deployed ?? []).map((name) => ({ name, url: `${url}/fn/${name}/` }))
  return `${JSON.stringify({ event: 'ready', url, regionUrl: `http://${host}:${server.regionPort}`, functions })}\n`
}

function readyText(server: DevServer, host: string, folder: FolderDeployer | null): string {
  const url = `http://${host}:${server.popPort}`
  const names = folder?.deployed ?? []
  const lines = names.map((name) => `  ${name}  ${url}/fn/${name}/  http://${name}.localhost:${server.popPort}/`)
  const first = names[0]
  const hint = first === undefined ? `deploy one:  outpost deploy ENTRY --name NAME --endpoint ${url}` : `try:  curl -i '${url}/fn/${first}/?name=edge'`
  return `\nOutpost is ready at ${url} (region at port ${server.regionPort})\n${lines.map((line) => `${line}\n`).join('')}${hint}\n\n`
}
