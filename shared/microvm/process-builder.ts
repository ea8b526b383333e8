/**
 * The image builder as a region uses it: builds run in a child process, one at a time, each under a wall limit. Code
 * that is being built is untrusted and has had no chance to prove anything: what goes wrong there costs the process,
 * which is replaced.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Clock } from '../clock.ts'
import { CodedError } from '../errors.ts'
import type { Log } from '../log.ts'
import { siblingModule } from '../module-url.ts'
import type { FromBuilder, ToBuilder } from './build-main.ts'
import type { BuildRequest, BuildResult, ImageBuilder } from './build-types.ts'

/** Top level, priming and probes have limits of their own below this; it bounds what they do not see. */
const BUILD_MAX_MS = 60_000
const HEAP_MIB = 512

interface Pending {
  readonly request: BuildRequest
  readonly resolve: (result: BuildResult) => void
  readonly reject: (error: CodedError) => void
}

export class ProcessImageBuilder implements ImageBuilder {
  readonly #clock: Clock
  readonly #log: Log
  readonly #waiting: Pending[] = []
  #child: ChildProcess | null = null
  #ready = false
  #current: { readonly pending: Pending; readonly id: number; readonly stopTimer: () => void } | null = null
  #nextId = 1
  #closed = false

  constructor(deps: { readonly clock: Clock; readonly log: Log }) {
    this.#clock = deps.clock
    this.#log = deps.log
  }

  /** Starts the process ahead of the first build. */
  warm(): void {
    if (this.#child === null && !this.#closed) this.#spawn()
  }

  build(request: BuildRequest): Promise<BuildResult> {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        reject(new CodedError('ERR_BUILD_FAILED', ['the builder is closed']))
        return
      }
      this.#waiting.push({ request, resolve, reject })
      this.warm()
      this.#next()
    })
  }

  close(): Promise<void> {
    this.#closed = true
    const child = this.#child
    this.#child = null
    if (child === null || child.exitCode !== null) return Promise.resolve()
    return new Promise((resolve) => {
      child.ref()
      child.once('exit', () => resolve())
      child.kill('SIGKILL')
    })
  }

  #spawn(): void {
    const child = fork(fileURLToPath(siblingModule(import.meta.url, './build-main')), {
      serialization: 'advanced', stdio: ['ignore', 'ignore', 'inherit', 'ipc'], env: {},
      execArgv: ['--disable-warning=ExperimentalWarning', `--max-old-space-size=${HEAP_MIB}`, '--stack-size=7000'],
    })
    this.#child = child
    this.#ready = false
    child.on('message', (message: FromBuilder) => {
      if (message.kind === 'ready') this.#ready = true
      else if (this.#current?.id === message.id) {
        const { pending, stopTimer } = this.#current
        stopTimer()
        this.#current = null
        pending.resolve(message.result)
      }
      this.#next()
    })
    child.on('error', (error) => this.#lost(child, error.message))
    child.on('exit', (code, signal) => this.#lost(child, `it exited with ${signal ?? String(code)}`))
    child.unref()
    child.channel?.unref()
  }

  #next(): void {
    if (this.#current !== null || !this.#ready || this.#child === null) return
    const pending = this.#waiting.shift()
    if (pending === undefined) {
      this.#child.channel?.unref()
      return
    }
    const child = this.#child
    const id = this.#nextId++
    child.channel?.ref()
    const stopTimer = this.#clock.after(BUILD_MAX_MS, () => {
      this.#current = null
      pending.resolve({ kind: 'refused', error: { code: 'ERR_BUNDLE_LIMIT', params: ['time', `${BUILD_MAX_MS} ms`] } })
      child.kill('SIGKILL')
    })
    this.#current = { pending, id, stopTimer }
    child.send({ id, request: pending.request } satisfies ToBuilder)
  }

  #lost(child: ChildProcess, why: string): void {
    if (this.#child !== child) return
    this.#child = null
    this.#ready = false
    const { current } = { current: this.#current }
    this.#current = null
    current?.stopTimer()
    current?.pending.reject(new CodedError('ERR_BUILD_FAILED', [why]))
    if (current === null && !this.#closed) {
      // It died before it was asked for anything: the next one would too.
      for (const { reject } of this.#waiting.splice(0)) reject(new CodedError('ERR_BUILD_FAILED', [why]))
    }
    this.#log.warn('the builder process ended', { why })
    if (this.#waiting.length > 0 && !this.#closed) this.#spawn()
  }
}
