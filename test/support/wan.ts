/**
 * Hosts with a network between them, each a network namespace of its own, and the lines of that network, which can be made
 * slow, lossy, one-way or silent while real processes talk over them with the kernel's own TCP. See wan.c.
 *
 * `here` is the test itself: what it connects to goes over the lines too.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { needTool, skip } from './tools.ts'

/** One direction of a line. What is not named stays as it is; in the beginning nothing is delayed, lost or limited. */
export interface LineSettings {
  readonly delayMs?: number
  /** Added to the delay, evenly between 0 and this. Packets keep their order. */
  readonly jitterMs?: number
  /** Of 1. */
  readonly loss?: number
  readonly doubled?: number
  /** Share of packets that are not delayed and so overtake others. */
  readonly reordered?: number
  /** 0: unlimited. */
  readonly bytesPerSecond?: number
  /** How long a packet waits at a limited line before it is lost instead. In the beginning 200 ms. */
  readonly queueMs?: number
  readonly blocked?: boolean
  /** Which packets are lost depends on this alone. */
  readonly seed?: number
}

export interface LineStats {
  readonly packets: number
  readonly bytes: number
  readonly lost: number
}

export interface Wan {
  /** Of a host, as all others see it. */
  address(host: string): string
  /** The command that runs `command` at a host. It dies with this process. */
  at(host: string, command: readonly string[]): readonly [file: string, ...argv: string[]]
  /** One direction. */
  set(from: string, to: string, settings: LineSettings): Promise<void>
  /** Both directions: `delayMs` is half a round trip. */
  between(a: string, b: string, settings: LineSettings): Promise<void>
  /** Everything vanishes, both ways; nobody is told. */
  partition(a: string, b: string): Promise<void>
  heal(a: string, b: string): Promise<void>
  /** The TCP connections of now go silent, as when a router in between forgot them; new ones work. Returns how many. */
  sever(a: string, b: string): Promise<number>
  stats(from: string, to: string): Promise<LineStats>
}

const SETTINGS: Readonly<Record<keyof LineSettings, (value: number) => string>> = {
  delayMs: (ms) => `delayUs=${Math.round(ms * 1000)}`,
  jitterMs: (ms) => `jitterUs=${Math.round(ms * 1000)}`,
  loss: (share) => `lossPpm=${Math.round(share * 1e6)}`,
  doubled: (share) => `doublePpm=${Math.round(share * 1e6)}`,
  reordered: (share) => `reorderPpm=${Math.round(share * 1e6)}`,
  bytesPerSecond: (bytes) => `bytesPerSecond=${Math.round(bytes)}`,
  queueMs: (ms) => `queueUs=${Math.round(ms * 1000)}`,
  blocked: (blocked) => `blocked=${blocked}`,
  seed: (seed) => `seed=${seed}`,
}

let compiled: string | null = null

/** Null after the test was skipped, with the reason: return then. Gone with the test. */
export async function needWan(t: Test, hosts: readonly string[]): Promise<Wan | null> {
  const compiler = needTool(t, 'gcc', 'gcc libc6-dev')
  if (compiler === null) return null
  const file = compiled ??= compile(compiler)
  const child = spawn(file, ['run', ...hosts], { stdio: ['pipe', 'pipe', 'inherit'] })
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const first = await answers.next()
  const [word, ...made] = String(first.value).split(' ')
  if (word !== 'ready') {
    skip(t, `needs network namespaces and TUN devices, which take root and /dev/net/tun: ${String(first.value)}`)
    return null
  }
  t.teardown(async () => {
    child.stdin.end()
    await once(child, 'close')
  })
  const found = new Map(made.map((entry) => {
    const [name = '', address = '', fd = ''] = entry.split('=')
    return [name, { address, fd }]
  }))
  const hostOf = (name: string): { readonly address: string; readonly fd: string } => {
    const host = found.get(name)
    if (host === undefined) throw new Error(`there is no host ${name}`)
    return host
  }
  /** Commands are answered in their order. */
  let last: Promise<unknown> = Promise.resolve()
  const say = (command: string): Promise<string[]> => {
    const answer = last.then(async () => {
      child.stdin.write(`${command}\n`)
      const answer = String((await answers.next()).value)
      const [verdict, ...words] = answer.split(' ')
      if (verdict !== 'ok') throw new Error(`${command}: ${answer}`)
      return words
    })
    last = answer.catch(() => undefined)
    return answer
  }
  const set = async (from: string, to: string, settings: LineSettings): Promise<void> => {
    const words = Object.entries(settings).map(([name, value]) => SETTINGS[name as keyof LineSettings](Number(value)))
    await say(`set ${from} ${to} ${words.join(' ')}`)
  }
  const between = async (a: string, b: string, settings: LineSettings): Promise<void> => {
    await set(a, b, settings)
    await set(b, a, settings)
  }
  return {
    address: (host) => hostOf(host).address,
    at: (host, command) => [file, 'enter', String(child.pid), hostOf(host).fd, ...command],
    set, between,
    partition: (a, b) => between(a, b, { blocked: true }),
    heal: (a, b) => between(a, b, { blocked: false }),
    async sever(a, b) {
      return Number((await say(`sever ${a} ${b}`))[0])
    },
    async stats(from, to) {
      const [packets = 0, bytes = 0, lost = 0] = (await say(`stats ${from} ${to}`)).map(Number)
      return { packets, bytes, lost }
    },
  }
}

function compile(compiler: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'outpost-wan-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'wan')
  execFileSync(compiler, ['-O2', '-Wall', '-Wextra', '-Werror', '-o', file, fileURLToPath(new URL('wan.c', import.meta.url))], { stdio: ['ignore', 'ignore', 'inherit'] })
  return file
}
