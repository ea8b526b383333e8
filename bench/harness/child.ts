/** Starts a program that belongs to a scope: it ends with the scope, by its own process id, and its last output is kept for error messages. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { processTree } from './proc.ts'
import type { Scope } from './scope.ts'

const OUTPUT_KEPT_CHARS = 4_000
/** Of standard output and of the extra pipe each; what our own programs print is far below. */
const RECEIVED_MAX_CHARS = 4_000_000
/** From SIGTERM to SIGKILL. */
const STOP_TIMEOUT_MS = 8_000

export interface ChildOptions {
  readonly command: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
}

export class Child {
  readonly pid: number
  readonly #process: ChildProcess
  readonly #name: string
  readonly #received: Record<1 | 3, string> = { 1: '', 3: '' }
  readonly #closed: Promise<unknown>
  #output = ''

  private constructor(process: ChildProcess, name: string) {
    this.#process = process
    this.#name = name
    this.pid = process.pid ?? -1
    this.#closed = new Promise((resolve) => process.once('close', resolve))
    const keep = (chunk: Buffer): void => {
      this.#output = (this.#output + chunk.toString()).slice(-OUTPUT_KEPT_CHARS)
    }
    process.stdout?.on('data', keep)
    process.stderr?.on('data', keep)
    for (const fd of [1, 3] as const) {
      const stream = process.stdio[fd] as Readable
      stream.on('data', (chunk: Buffer) => {
        if (this.#received[fd].length < RECEIVED_MAX_CHARS) this.#received[fd] += chunk.toString()
      })
    }
  }

  /** A fourth file descriptor is a pipe from the child, for programs that report there. */
  static async start(scope: Scope, options: ChildOptions): Promise<Child> {
    const name = options.command.split('/').at(-1) ?? options.command
    if (scope.isClosed) throw new Error(`${name} is not started: the run was stopped`)
    const spawned = spawn(options.command, options.args, {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    })
    const child = new Child(spawned, name)
    await once(spawned, 'spawn')
    const forget = scope.onAbandon(() => spawned.kill('SIGKILL'))
    scope.defer(async () => {
      await child.stop()
      forget()
    })
    return child
  }

  get hasExited(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null
  }

  /** The last of what it wrote to standard output and standard error. */
  get output(): string {
    return this.#output
  }

  /** Rejects when the child exits before `condition` holds, or after `timeoutMs`. */
  async until(condition: () => Promise<boolean> | boolean, timeoutMs: number, what: string): Promise<void> {
    const startedAtMs = performance.now()
    while (!(await condition())) {
      if (this.hasExited) throw new Error(`${this.#name} exited before ${what}:\n${this.#output}`)
      if (performance.now() - startedAtMs > timeoutMs) throw new Error(`${this.#name}: no ${what} within ${timeoutMs} ms:\n${this.#output}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  /** The first line on standard output (`1`) or on the extra pipe (`3`). */
  async firstLine(fd: 1 | 3, timeoutMs: number): Promise<string> {
    await this.until(() => this.#received[fd].includes('\n'), timeoutMs, 'first line')
    return this.#received[fd].slice(0, this.#received[fd].indexOf('\n'))
  }

  /** Everything on standard output, once the child has exited with code 0. */
  async result(timeoutMs: number): Promise<string> {
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), timeoutMs)
    await this.#closed
    clearTimeout(timer)
    if (this.#process.exitCode !== 0) {
      throw new Error(`${this.#name} ended with ${this.#process.exitCode ?? this.#process.signalCode ?? 'nothing'}:\n${this.#output}`)
    }
    return this.#received[1]
  }

  /** SIGTERM; SIGKILL for it, and for descendants that outlive it, after a while. Idempotent. */
  async stop(): Promise<void> {
    if (this.hasExited) return
    const tree = processTree(this.pid)
    const exited = once(this.#process, 'exit')
    this.#process.kill('SIGTERM')
    const timer = setTimeout(() => tree.forEach(killNow), STOP_TIMEOUT_MS)
    await exited
    clearTimeout(timer)
    tree.filter((pid) => pid !== this.pid).forEach(killNow)
  }
}

function killNow(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended already.
  }
}
