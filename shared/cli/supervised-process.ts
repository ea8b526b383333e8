/**
 * A child process that is kept running: started, awaited until it says `ready`, started again with growing pauses when it
 * ends by itself, and stopped by SIGTERM, after a deadline by SIGKILL.
 *
 * S1: there is at most one child at any time. S2: after `stop` was called no child is started. S3: a child that ends
 * before it was ever ready fails `start`; later ends only cost a restart.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { CodedError } from '../errors.ts'

/** The pause before a restart doubles from the first to the second. */
const RESTART_DELAY_MIN_MS = 100
const RESTART_DELAY_MAX_MS = 5_000
/** A child that was ready for this long starts over with the shortest pause. */
const UPTIME_FOR_RESET_MS = 10_000
/** Lines of a child's output kept to explain why it ended. */
const KEPT_LINES = 20

const readySchema = z.object({ kind: z.literal('ready'), port: z.number(), adminPort: z.number().nullable() })
export type ReadyMessage = z.infer<typeof readySchema>

export interface SupervisedOptions {
  /** `region` or `pop`; for messages. */
  readonly name: string
  readonly file: string
  /** Told what the child before said, so that a restart can take the same ports. */
  readonly argv: (before: ReadyMessage | null) => readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  readonly clock: Clock
  /** Each line of the child's stdout and stderr. */
  readonly onLine: (line: string) => void
  /** The child ended though nobody asked it to; it is started again after the pause. */
  readonly onRestart: (reason: string, delayMs: number) => void
}

type State =
  | { readonly kind: 'idle' }
  | { readonly kind: 'running'; readonly child: ChildProcess; readonly exited: Promise<void>; readonly startedAtMs: number }
  | { readonly kind: 'pausing'; readonly cancel: () => void }
  | { readonly kind: 'stopped' }

export class SupervisedProcess {
  readonly #options: SupervisedOptions
  #state: State = { kind: 'idle' }
  #ready: ReadyMessage | null = null
  #restartDelayMs = RESTART_DELAY_MIN_MS
  #firstStart: PromiseWithResolvers<ReadyMessage> = Promise.withResolvers()
  #lines: string[] = []
  #restarts = 0

  constructor(options: SupervisedOptions) {
    this.#options = options
    // Whoever called `start` hears of it there.
    this.#firstStart.promise.catch(() => undefined)
  }

  get restarts(): number {
    return this.#restarts
  }

  /** Null while there is no child. */
  get pid(): number | null {
    return this.#state.kind === 'running' ? (this.#state.child.pid ?? null) : null
  }

  /** Resolves when the child is ready. Rejects with ERR_PROCESS_FAILED if it ends before; it is then not started again. */
  start(): Promise<ReadyMessage> {
    if (this.#state.kind === 'idle') this.#spawn()
    return this.#firstStart.promise
  }

  /** Joins a stop that is under way. */
  async stop(timeoutMs: number): Promise<void> {
    const state = this.#state
    if (state.kind === 'pausing') state.cancel()
    this.#state = { kind: 'stopped' }
    if (state.kind !== 'running') return
    state.child.kill('SIGTERM')
    const cancel = this.#options.clock.after(timeoutMs, () => state.child.kill('SIGKILL'))
    await state.exited
    cancel()
  }

  #spawn(): void {
    const { file, argv, env, cwd, clock } = this.#options
    this.#lines = []
    const child = spawn(file, argv(this.#ready), { cwd, env: { ...env, OUTPOST_SUPERVISED: '1' }, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] })
    for (const stream of [child.stdout, child.stderr]) {
      if (stream !== null) createInterface({ input: stream }).on('line', (line) => this.#line(line))
    }
    child.on('message', (message) => {
      const parsed = readySchema.safeParse(message)
      if (!parsed.success) return
      this.#ready = parsed.data
      this.#firstStart.resolve(parsed.data)
    })
    const exited = new Promise<void>((done) => {
      // `close` comes when the output is read to its end too, so that the last words are kept. A child that cannot be started gives `error` and no `exit`.
      child.once('close', (code, signal) => this.#ended(signal === null ? `exit code ${code}` : `signal ${signal}`, done))
      child.on('error', (error) => {
        // The same event reports a signal that could not be sent; that child is still there.
        if (child.pid === undefined) this.#ended(error.message, done)
      })
    })
    this.#state = { kind: 'running', child, exited, startedAtMs: clock.monotonicMs() }
  }

  #line(line: string): void {
    this.#lines.push(line)
    if (this.#lines.length > KEPT_LINES) this.#lines.shift()
    this.#options.onLine(line)
  }

  #ended(how: string, done: () => void): void {
    done()
    if (this.#state.kind !== 'running') return
    const reason = this.#lastWords() ?? how
    if (this.#ready === null) {
      this.#state = { kind: 'stopped' }
      this.#firstStart.reject(new CodedError('ERR_PROCESS_FAILED', [this.#options.name, reason]))
      return
    }
    if (this.#options.clock.monotonicMs() - this.#state.startedAtMs > UPTIME_FOR_RESET_MS) this.#restartDelayMs = RESTART_DELAY_MIN_MS
    const delayMs = this.#restartDelayMs
    this.#restartDelayMs = Math.min(delayMs * 2, RESTART_DELAY_MAX_MS)
    const cancel = this.#options.clock.after(delayMs, () => {
      this.#restarts += 1
      this.#spawn()
    })
    this.#state = { kind: 'pausing', cancel }
    this.#options.onRestart(reason, delayMs)
  }

  /** The line by which `outpost` itself reports its failure, if there is one. */
  #lastWords(): string | null {
    return this.#lines.findLast((line) => line.startsWith('outpost: '))?.slice('outpost: '.length) ?? null
  }
}
