/** Where and with what the figures were taken; the header of every result. */
import { execFileSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { workerdVersion } from '../servers/workerd.ts'

export interface Environment {
  readonly date: string
  readonly machine: string
  readonly kernel: string
  /** Of the last minute, before the run: above about 0.2 the machine was not idle. */
  readonly loadBefore: number
  readonly node: string
  readonly commit: string
  readonly engine: string
  readonly peers: string
  readonly generator: string
  readonly notMeasured: readonly string[]
}

const NOT_MEASURED = [
  'networks: client, POP and region share one machine and loopback',
  'TLS, request logging to disk, and more than one POP or region',
  'absolute times of other machines: only ratios within this run carry over',
  'HTTP pipelining and HTTP/2; clients with more than 32 busy connections, except where a row says so',
] as const

export function environment(now: Date): Environment {
  const processors = cpus()
  return {
    date: now.toISOString(),
    machine: `${processors.length} x ${processors[0]?.model ?? 'unknown processor'}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: `${process.platform} ${release()} ${process.arch}`,
    loadBefore: Math.round((loadavg()[0] ?? 0) * 100) / 100,
    node: process.version,
    commit: commit(),
    engine: `quickjs-wasi ${versionOf('quickjs-wasi/package.json')}`,
    peers: `workerd ${workerdVersion()}, uWebSockets.js ${uwsVersion()}`,
    generator: wrkVersion(),
    notMeasured: NOT_MEASURED,
  }
}

function commit(): string {
  const git = (...args: string[]): string => execFileSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  try {
    return git('rev-parse', '--short=12', 'HEAD') + (git('status', '--porcelain', '--untracked-files=no') === '' ? '' : ' with local changes')
  } catch {
    return 'not a git checkout'
  }
}

function wrkVersion(): string {
  try {
    execFileSync('wrk', ['-v'], { encoding: 'utf8', stdio: 'pipe' })
  } catch (error) {
    const { stdout } = error as { stdout?: string }
    const version = /^(wrk \S+(?: \d\S*)?)/.exec(stdout ?? '')?.[1]
    if (version !== undefined) return `${version} and bench/load/open-loop.ts`
  }
  return 'bench/load/open-loop.ts (no wrk)'
}

/** The repack's version: its upstream has the same number. */
function uwsVersion(): string {
  return versionOf('uWebSockets.js/package.json')
}

function versionOf(packageJson: string): string {
  const require = createRequire(import.meta.url)
  // Packages whose `exports` hide package.json are read by path.
  for (const directory of require.resolve.paths(packageJson) ?? []) {
    try {
      return (JSON.parse(readFileSync(`${directory}/${packageJson}`, 'utf8')) as { version: string }).version
    } catch {
      continue // Not in this node_modules.
    }
  }
  return 'unknown'
}
