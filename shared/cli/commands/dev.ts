/** `outpost dev [dirs...]`: POP and region on this machine, the functions of directories deployed and kept up to date. */
import { existsSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { systemClock } from '../../clock.ts'
import { CodedError } from '../../errors.ts'
import { ApiClient } from '../api-client.ts'
import type { CliContext } from '../context.ts'
import { hostInUrl, startDevServer, type DevServer } from '../dev-server.ts'
import { runBuildCommand } from '../build-command.ts'
import { FolderDeployer } from '../folder-deployer.ts'
import { readFolder, type Folder, type FolderOptions } from '../function-folder.ts'
import { collect, DEFAULT_PORT, portNumber, variableOption, wholeNumber } from '../options.ts'
import { requireFreePort } from '../ports.ts'
import type { ProjectConfig } from '../project-config.ts'
import { untilAborted } from '../tier.ts'

export interface DevOptions {
  readonly port: number
  readonly host: string
  readonly data: string
  readonly hotMinRequests: number
  readonly drainTimeout: number
  readonly log: string
  readonly json?: boolean
  readonly config?: string
  readonly env?: string
  readonly var?: readonly string[]
  /** Port and host were given: a configuration has no say. */
  readonly portGiven?: boolean
  readonly hostGiven?: boolean
}

export function addDev(program: Command, context: CliContext): void {
  program
    .command('dev')
    .description('run a POP and a region here, and deploy the functions of directories whenever they change')
    .argument('[dirs...]', 'of each the `main` of its outpost.jsonc, wrangler configuration or package.json, or every .js, .mjs and .ts file in it that exports a handler')
    .option('--port <port>', 'port of the POP; 0 takes a free one', portNumber, DEFAULT_PORT)
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--data <dir>', 'where functions and images are kept', '.outpost')
    .option('-c, --config <file>', 'configuration file, in place of the one that the directory has')
    .option('-e, --env <name>', 'environment of the configuration')
    .option('--var <key=value>', 'a variable of `env`, in place of one of the configuration; may be repeated', collect)
    .option('--hot-min-requests <count>', 'requests within five minutes that make a function hot at the POP', wholeNumber(0, 1_000_000), 1)
    .option('--drain-timeout <ms>', 'how long requests in flight may go on after Ctrl-C', wholeNumber(0, 3_600_000), 10_000)
    .option('--log <format>', 'pretty or json', 'pretty')
    .option('--json', 'print one JSON line once it is ready')
    .action((dirs: readonly string[], options: DevOptions, command: Command) => {
      const given = (name: string): boolean => command.getOptionValueSource(name) !== 'default'
      return runDev(context, dirs.map((dir) => resolve(context.cwd, dir)), { ...options, portGiven: given('port'), hostGiven: given('host') })
    })
}

/** Shared with `start`. Resolves after a signal and an orderly stop. */
export async function runDev(context: CliContext, dirs: readonly string[], options: DevOptions): Promise<void> {
  for (const dir of dirs) if (!(existsSync(dir) && statSync(dir).isDirectory())) throw new CodedError('ERR_ENTRY_NOT_FOUND', [`${dir} that is a directory`])
  if (options.log !== 'pretty' && options.log !== 'json') throw new CodedError('ERR_USAGE', ['--log takes pretty or json'])
  if (options.config !== undefined && dirs.length > 1) throw new CodedError('ERR_USAGE', ['--config is of one directory'])
  const folderOptions: FolderOptions = {
    environment: options.env ?? null, file: options.config === undefined ? null : resolve(context.cwd, options.config), vars: Object.fromEntries((options.var ?? []).map(variableOption)),
  }
  const projects = await prepare(context, dirs, folderOptions)
  const port = options.portGiven === true ? options.port : (projects.find(({ dev }) => dev.port !== null)?.dev.port ?? options.port)
  const address = options.hostGiven === true ? options.host : (projects.find(({ dev }) => dev.host !== null)?.dev.host ?? options.host)
  await requireFreePort(port, address, '--port')
  const stop = context.stopSignal()
  const server = await startDevServer(context, {
    port,
    host: address,
    dataDir: resolve(context.cwd, options.data),
    drainTimeoutMs: options.drainTimeout,
    hotMinRequests: options.hotMinRequests,
    logFormat: options.log,
    clock: systemClock,
  })
  const host = hostInUrl(address)
  // The region itself: an edit is deployed even while the POP is being started again.
  const api = new ApiClient(new URL(`http://${host}:${server.regionPort}`), { accessKeyId: 'dev', secretAccessKey: 'dev' })
  const folders = dirs.map((dir) => new FolderDeployer({ dir, folder: folderOptions, api, clock: systemClock, say: (text) => context.err(text) }))
  try {
    for (const folder of folders) await folder.start()
    await sayMissingServices(context, api, folders)
    const names = folders.flatMap((folder) => folder.deployed).sort()
    context.out(options.json === true ? readyJson(server, host, names) : readyText(server, host, names))
    await untilAborted(stop)
  } finally {
    await Promise.all(folders.map((folder) => folder.close()))
    await server.stop()
  }
}

/** Runs the projects' build commands, and sees that no two directories have a function of one name. A configuration that cannot be read is told when it is deployed. */
async function prepare(context: CliContext, dirs: readonly string[], options: FolderOptions): Promise<readonly ProjectConfig[]> {
  const projects: ProjectConfig[] = []
  const dirOf = new Map<string, string>()
  for (const dir of dirs) {
    const folder = dirs.length > 1 || options.environment != null || options.file != null ? readFolder(dir, options) : tryFolder(dir, options)
    for (const { name } of folder?.functions ?? []) {
      const other = dirOf.get(name)
      if (other !== undefined) throw new CodedError('ERR_CONFIG', [`${other} and ${dir} both have a function ${name}: give one another name`])
      dirOf.set(name, dir)
    }
    if (folder?.project == null) continue
    await runBuildCommand(folder.project, context)
    projects.push(folder.project)
  }
  return projects
}

function tryFolder(dir: string, options: FolderOptions): Folder | null {
  try {
    return readFolder(dir, options)
  } catch {
    // The deployer reads it again, says why, and waits for it to be mended.
    return null
  }
}

/** Calls of these fail until they are there, which is easily overlooked. */
async function sayMissingServices(context: CliContext, api: ApiClient, folders: readonly FolderDeployer[]): Promise<void> {
  for (const service of new Set(folders.flatMap((folder) => folder.services))) {
    if ((await api.getConfiguration(service)) === null) context.err(`warning: a service binding is of ${service}, which is not deployed here: start dev with its directory too\n`)
  }
}

function readyJson(server: DevServer, host: string, names: readonly string[]): string {
  const url = `http://${host}:${server.popPort}`
  const functions = names.map((name) => ({ name, url: `${url}/fn/${name}/` }))
  return `${JSON.stringify({ event: 'ready', url, regionUrl: `http://${host}:${server.regionPort}`, functions })}\n`
}

function readyText(server: DevServer, host: string, names: readonly string[]): string {
  const url = `http://${host}:${server.popPort}`
  const lines = names.map((name) => `  ${name}  ${url}/fn/${name}/  http://${name}.localhost:${server.popPort}/`)
  const first = names[0]
  const hint = first === undefined ? `deploy one:  outpost deploy ENTRY --name NAME --endpoint ${url}` : `try:  curl -i '${url}/fn/${first}/?name=edge'`
  return `\nOutpost is ready at ${url} (region at port ${server.regionPort})\n${lines.map((line) => `${line}\n`).join('')}${hint}\n\n`
}
