/**
 * The sandboxes of one process: an arena of images, worker threads that hold slots, and the hand-over between them and
 * the front door's thread.
 *
 * H1  Pull, not push: a bounded number of invocations waits at a worker, the rest in one queue here, bounded too; the
 *     worker that is free takes next. A worker that stays inside one guest loses its unstarted ones to the queue.
 * H2  Every invocation ends exactly once, also when its worker is lost: then with ERR_WORKER_LOST.
 * H3  An image is freed only when every worker has said that no slot holds it.
 * H4  A worker that does not come back after a run's deadline is replaced.
 */
import { MessageChannel } from 'node:worker_threads'
import { Piscina } from 'piscina'
import type { ImageId } from '../brand.ts'
import { CodedError, type CodedErrorData } from '../errors.ts'
import { CALL_SELECTED, callNumber, VERSION_HEADER } from '../guest/abi.ts'
import { warmUpPrelude } from '../guest/warm-up.ts'
import { IdTable } from '../id-table.ts'
import { MIB } from '../limits.ts'
import { ImageArena, type ResidentImage } from '../microvm/arena.ts'
import { loadEngine } from '../microvm/engine.ts'
import type { BlockId, ImageManifest } from '../microvm/manifest.ts'
import { createRuntime, globalValues, type RuntimeImages } from '../microvm/runtime.ts'
import { siblingModule } from '../module-url.ts'
import { START_KINDS } from '../outcome.ts'
import { RunInvocation, type ActiveRun, type IntroducedBuild, type WorkerHandle } from './active-run.ts'
import { createChannelMemory, FLAG_BODY_MORE, FLAG_LOGS, HEAD_HAS_BODY, HEAD_LAST, HEAD_START_KIND_MASK, HostChannel, RECORD, RESPONSE_WINDOW_BYTES, UNSTARTED_ALONE_MAX, UNSTARTED_MAX } from './channel.ts'
import type { SandboxHostOptions } from './host-options.ts'
import type { FromWorker, ToWorker, WorkerStats, WorkerTask } from './messages.ts'
import { ServiceCalls } from './service-calls.ts'
import { countTaken, countWritten, heldBody, wholeBuffer } from './request-body.ts'
import { failedResult, keptMachine, readResult, takeState } from './results.ts'
import type { BuildSpec, HostStats, Invocation, InvocationInput, InvocationResult, InvocationSink, SandboxHost } from './types.ts'

const STACK_SIZE_MB = 8
/** Builds that one worker is told of; at the bound it forgets those that it is not running. */
const BUILDS_KNOWN_MAX = 10_000
const SPIN_US = 200
/** With few invocations under way their latency counts and the thread has time; with many it does better to sleep and be woken. */
const POLL_SPIN_RUNS_MAX = 4
/** How long the front door's thread polls the answer rings after the last record or invocation before it waits to be woken. */
const POLL_SPIN_MS = 0.06
const POLL_BATCH = 64
const WATCH_EVERY_MS = 100
/** A worker that was inside one guest for this long gives its unstarted invocations back. */
const STUCK_MS = 1
const WATCHDOG_GRACE_MS = 2_000
const BASE_SLOT_BYTES = 2 * MIB

export class WorkerThreadHost implements SandboxHost {
  readonly #options: SandboxHostOptions
  readonly #arena: ImageArena
  readonly #slotsPerWorker: number
  #images: RuntimeImages | null = null
  #pools: Piscina[] = []
  #workers: WorkerHandle[] = []
  readonly #runs = new IdTable<ActiveRun>()
  readonly waiting: ActiveRun[] = []
  readonly #replies = new Map<number, { readonly worker: WorkerHandle; readonly resolve: (message: FromWorker | null) => void }>()
  readonly #usesOfImage = new Map<ImageId, number>()
  #nextRunId = 1
  #nextBuild = 1
  #nextReply = 1
  #activeAtMs = 0
  #pollScheduled = false
  #rescueScheduled = false
  readonly #rescueBound = (): void => this.#rescue()
  #state: 'new' | 'serving' | 'draining' | 'closed' = 'new'
  #stopWatch: () => void = () => undefined
  #whenIdle: (() => void)[] = []
  #lastStats: WorkerStats[] = []
  readonly counts = { incidents: 0, workersLost: 0, takenBack: 0 }
  /** Calls by service bindings; whoever answers invocations here has to be attached. */
  readonly services = new ServiceCalls()

  constructor(options: SandboxHostOptions) {
    this.#options = options
    // Half of the budget for images, half for slots and parked machines.
    this.#arena = new ImageArena(Math.floor(options.memoryBudgetBytes / 2))
    const slotBudget = Math.floor(options.memoryBudgetBytes / 2 / options.workers)
    this.#slotsPerWorker = Math.max(1, Math.min(options.slotsPerWorker, Math.floor(slotBudget / BASE_SLOT_BYTES)))
  }

  get engineBuild(): string {
    return this.#runtime().runtime.engineBuild
  }

  get runtimeImages(): RuntimeImages {
    return this.#runtime()
  }

  async start(): Promise<void> {
    this.#images = createRuntime(loadEngine(), this.#options.preludeSource, this.#arena, warmUpPrelude)
    this.#workers = await Promise.all(Array.from({ length: this.#options.workers }, (_, index) => this.#startWorker(index)))
    this.#state = 'serving'
    this.#watch()
  }

  hasImage(imageId: ImageId): boolean {
    return this.#arena.get(imageId) !== undefined
  }

  addImage(imageId: ImageId, manifest: ImageManifest, block: (id: BlockId) => Uint8Array): void {
    const { runtime } = this.#runtime()
    if (manifest.engineBuild !== runtime.engineBuild) throw new CodedError('ERR_STORE_BLOCK', [imageId, `of engine build ${manifest.engineBuild}, not ${runtime.engineBuild}`])
    this.#arena.add(imageId, manifest, globalValues(manifest, runtime.globalNames), block)
  }

  page(imageId: ImageId, index: number): Uint8Array {
    const image = this.#arena.get(imageId)
    if (image === undefined) throw new CodedError('ERR_STORE_BLOCK', [imageId, 'not here, though a child image needs it'])
    return this.#arena.page(image, index)
  }

  dropImage(imageId: ImageId): void {
    const image = this.#arena.get(imageId)
    if (image === undefined || (this.#usesOfImage.get(imageId) ?? 0) > 0) return
    void this.#forgetEverywhere(image).then((gone) => {
      if (gone && (this.#usesOfImage.get(imageId) ?? 0) === 0) this.#arena.remove(imageId)
    })
  }

  invoke(input: InvocationInput, sink: InvocationSink): Invocation {
    const run: ActiveRun = {
      id: this.#nextRunId, input, sink, enqueuedAtMs: this.#options.clock.monotonicMs(), worker: null, chunks: null, bodyAwaited: false, chunksEnded: false,
      bodyBytes: input.body?.length ?? 0, bodyWaitingBytes: input.bodyMore ? (input.body?.length ?? 0) : 0, bodyPaused: false, headSent: false, bodyEnded: false, passedBytes: 0, sinkPaused: false, canceled: false, state: null, stateBytes: 0, services: null, chainCalls: null,
    }
    this.#nextRunId = (this.#nextRunId % 0x7fff_fff0) + 1
    const refusal = this.#refusal(input)
    if (refusal !== null) {
      sink.end(failedResult('loadShed', refusal))
      return new RunInvocation(this, run)
    }
    this.#runs.add(run.id, run)
    this.#use(input.build.imageId, 1)
    if (this.waiting.length > 0 || !this.#handOver(run)) this.waiting.push(run)
    this.#schedulePoll()
    return new RunInvocation(this, run)
  }

  get queued(): number {
    return this.waiting.length
  }

  stats(): HostStats {
    const slots = this.#lastStats.reduce((sum, each) => sum + each.slots, 0)
    const residentBytes = this.#arena.usedBytes + this.#lastStats.reduce((sum, each) => sum + each.residentBytes, 0)
    return {
      workers: this.#workers.length, slots, slotsUsed: Math.min(slots, this.#runs.size - this.waiting.length), queued: this.waiting.length,
      running: this.#runs.size - this.waiting.length, parked: this.#lastStats.reduce((sum, each) => sum + each.parked, 0),
      residentBytes, budgetBytes: this.#options.memoryBudgetBytes, images: this.#arena.imageCount,
    }
  }

  /** Asks every worker for its numbers; `stats` shows them from then on. */
  async refreshStats(): Promise<readonly WorkerStats[]> {
    const answers = await Promise.all(this.#workers.map((worker) => this.#ask(worker, (reply) => ({ kind: 'stats', reply }))))
    this.#lastStats = answers.flatMap((answer) => (answer?.kind === 'stats' ? [answer.stats] : []))
    return this.#lastStats
  }

  async drain(timeoutMs: number): Promise<void> {
    if (this.#state === 'serving') this.#state = 'draining'
    if (this.#runs.size === 0) return
    await new Promise<void>((resolve) => {
      const stop = this.#options.clock.after(timeoutMs, () => {
        for (const run of this.#runs.values()) this.cancel(run)
        resolve()
      })
      this.#whenIdle.push(() => {
        stop()
        resolve()
      })
    })
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#stopWatch()
    for (const worker of this.#workers) this.#post(worker, { kind: 'close' })
    for (const run of this.#runs.values()) this.#finish(run, failedResult('platformFault', { code: 'ERR_WORKER_LOST', params: ['the host closed'] }))
    await Promise.all(this.#pools.map((pool) => pool.destroy()))
    for (const worker of this.#workers) worker.port.close()
    await this.#options.onClose?.()
  }

  // -- what an Invocation does

  write(run: ActiveRun, chunk: Uint8Array): void {
    countWritten(run, chunk.length)
    if (run.worker === null || !run.bodyAwaited) (run.chunks ??= []).push(chunk)
    else this.#post(run.worker, { kind: 'body', runId: run.id, chunk: wholeBuffer(chunk) })
  }

  writeEnd(run: ActiveRun): void {
    if (run.worker === null || !run.bodyAwaited) run.chunksEnded = true
    else this.#post(run.worker, { kind: 'body', runId: run.id, chunk: null })
  }

  sinkResumed(run: ActiveRun): void {
    run.sinkPaused = false
    this.#acknowledge(run)
  }

  stopRuns(which: (build: BuildSpec) => boolean, count: number): number {
    const runs = [...this.#runs.values()].filter((run) => !run.canceled && which(run.input.build)).slice(-Math.max(1, count))
    for (const run of runs) this.cancel(run)
    return runs.length
  }

  cancel(run: ActiveRun): void {
    if (this.#runs.get(run.id) === undefined || run.canceled) return
    run.canceled = true
    if (run.worker === null) {
      this.#leaveQueue(run, failedResult('canceled', { code: 'ERR_CANCELED', params: [] }))
      return
    }
    run.worker.channel.cancel(run.id)
    this.#post(run.worker, { kind: 'cancel', runId: run.id })
  }

  withdraw(run: ActiveRun): boolean {
    if (this.#runs.get(run.id) === undefined || run.canceled || run.worker !== null) return false
    this.#leaveQueue(run, failedResult('loadShed', { code: 'ERR_QUEUE_FULL', params: [this.waiting.length] }))
    return true
  }

  #leaveQueue(run: ActiveRun, result: InvocationResult): void {
    const at = this.waiting.indexOf(run)
    if (at !== -1) this.waiting.splice(at, 1)
    this.#finish(run, result)
  }

  // -- hand-over

  #refusal(input: InvocationInput): CodedErrorData | null {
    // What is in flight may need other functions to come to its end.
    const serves = this.#state === 'serving' || (this.#state === 'draining' && (input.chain ?? null) !== null)
    if (!serves) return { code: 'ERR_DRAINING', params: [] }
    if (this.waiting.length >= this.#options.queueMax) return { code: 'ERR_QUEUE_FULL', params: [this.waiting.length] }
    if (!this.hasImage(input.build.imageId)) return { code: 'ERR_INTERNAL', params: ['the image is not here'] }
    return null
  }

  /** Gives the run to the least busy of the workers that serve now; among equals to one that knows the build. */
  #handOver(run: ActiveRun): boolean {
    let best: WorkerHandle | null = null
    let bestLoad = Infinity
    let left = this.#options.workersAtOnce ?? this.#workers.length
    for (const worker of this.#workers) {
      if (worker.lost) continue
      const { pending } = worker.channel
      if (pending > 0 && this.#isStuck(worker)) continue
      if (left-- === 0) break
      if (pending > worker.channel.unstartedMax) continue
      const load = pending * 2 - (worker.builds.has(run.input.build.key) ? 1 : 0)
      if (load < bestLoad) {
        best = worker
        bestLoad = load
      }
    }
    return best !== null && this.#sendTo(best, run)
  }

  /** H1: what waits at a worker that is inside one guest for long goes to the others, oldest first. */
  #rescue(): void {
    this.#rescueScheduled = false
    let watching = false
    for (const worker of this.#workers) {
      const stuck = this.#isStuck(worker)
      if (stuck) for (const runId of worker.channel.takeBack()) this.#requeue(worker, runId)
      watching ||= stuck || worker.channel.pending > 1
    }
    if (this.waiting.length > 0) this.#refill()
    if (watching && this.#workers.length > 1) this.#rescueLater()
  }

  /** One timer for all: only with several workers, and only while something waits behind something. */
  #rescueLater(): void {
    if (this.#rescueScheduled || this.#state === 'closed') return
    this.#rescueScheduled = true
    setTimeout(this.#rescueBound, STUCK_MS)
  }

  /** Inside one guest for longer than STUCK_MS, as far as was looked. */
  #isStuck(worker: WorkerHandle): boolean {
    if (this.#workers.length === 1 || worker.lost) return false
    const { channel } = worker
    const nowMs = performance.now()
    const { turns } = channel
    if (channel.currentRun === 0 || turns !== worker.lastTurns) {
      worker.lastTurns = turns
      worker.stuckSinceMs = nowMs
    }
    return nowMs - worker.stuckSinceMs > STUCK_MS
  }

  #sendTo(worker: WorkerHandle, run: ActiveRun): boolean {
    const { input } = run
    const build = (worker.builds.get(input.build.key) ?? this.#introduce(worker, input.build)).index
    const selection = input.selection ?? null
    const call = callNumber(input.kind === 'http' ? 0 : 1, input.method, input.bodyMore ? 2 : input.body === null ? 0 : 1) | (selection === null ? 0 : CALL_SELECTED)
    const flags = (input.bodyMore ? FLAG_BODY_MORE : 0) | (input.wantLogs ? FLAG_LOGS : 0)
    const head = `${selection === null ? '' : `${selection}\n`}${input.requestId}\n${input.clientIp}\n${input.method}\n${input.url}${input.headers === '' ? '' : `\n${input.headers}`}${input.kind === 'event' ? `\n${VERSION_HEADER}\n${input.build.version}` : ''}`
    const deadlineAtMs = input.deadlineAtMs
    const sent = worker.channel.send(run.id, build, call, flags, deadlineAtMs, head, input.body, input.session ?? null)
    if (sent === 'full') return false
    if (sent === 'large') {
      const body = input.body === null ? null : new Uint8Array(input.body)
      this.#post(worker, { kind: 'start', runId: run.id, build, call, flags, deadlineAtMs, head, body, session: input.session ?? null })
    }
    run.worker = worker
    worker.runs.add(run.id, run)
    if (this.#workers.length > 1 && worker.channel.pending > 1) this.#rescueLater()
    return true
  }

  #introduce(worker: WorkerHandle, build: BuildSpec): IntroducedBuild {
    const image = this.#arena.get(build.imageId)
    if (image === undefined) throw new CodedError('ERR_INTERNAL', ['the image is not here'])
    if (worker.builds.size >= BUILDS_KNOWN_MAX) this.#forgetBuilds(worker, () => true)
    const introduced = { index: this.#nextBuild++, imageId: build.imageId }
    worker.builds.set(build.key, introduced)
    this.#post(worker, { kind: 'build', index: introduced.index, image, limits: build.limits, secrets: build.secrets, account: build.account })
    return introduced
  }

  /** Has a worker forget builds, but for those that its runs are of: it may not have begun these. */
  #forgetBuilds(worker: WorkerHandle, which: (build: IntroducedBuild) => boolean): void {
    const used = new Set(worker.runs.values().map(({ input }) => input.build.key))
    for (const [key, build] of worker.builds) {
      if (used.has(key) || !which(build)) continue
      worker.builds.delete(key)
      this.#post(worker, { kind: 'forgetBuild', index: build.index })
    }
  }

  #post(worker: WorkerHandle, message: ToWorker): void {
    worker.port.postMessage(message)
    worker.channel.messagePosted()
  }

  #refill(): void {
    while (this.waiting.length > 0) {
      const run = this.waiting[0]
      if (run === undefined || !this.#handOver(run)) return
      this.waiting.shift()
    }
  }

  // -- answers

  #schedulePoll(): void {
    this.#activeAtMs = performance.now()
    if (this.#pollScheduled) return
    this.#pollScheduled = true
    setImmediate(this.#poll)
  }

  readonly #poll = (): void => {
    let records = 0
    for (const worker of this.#workers) records += worker.channel.poll(POLL_BATCH, worker.onRecord)
    if (this.waiting.length > 0) this.#refill()
    if (this.#runs.size > 0 && this.#runs.size <= POLL_SPIN_RUNS_MAX) {
      const nowMs = performance.now()
      if (records > 0) this.#activeAtMs = nowMs
      if (nowMs - this.#activeAtMs < POLL_SPIN_MS) {
        setImmediate(this.#poll)
        return
      }
    }
    this.#pollScheduled = false
    for (const worker of this.#workers) this.#sleepOn(worker)
  }

  /** Waits for a worker's next record without spinning. */
  #sleepOn(worker: WorkerHandle): void {
    if (worker.sleeping || worker.lost) return
    const woken = worker.channel.sleep()
    if (woken === null) {
      this.#schedulePoll()
      return
    }
    worker.sleeping = true
    void woken.then(() => {
      worker.sleeping = false
      worker.channel.awake()
      if (!this.#pollScheduled) this.#poll()
    })
  }

  #onRecord(worker: WorkerHandle, type: number, runId: number, a: number, b: number, c: number, bytes: Uint8Array): void {
    const run = worker.runs.get(runId)
    if (run === undefined) return
    switch (type) {
      case RECORD.STARTED:
        run.bodyAwaited = true
        for (const message of heldBody(run)) this.#post(worker, message)
        return
      case RECORD.HEAD: {
        const last = (b & HEAD_LAST) !== 0
        run.headSent = true
        run.bodyEnded = last
        const headers = c === 0 ? '' : Buffer.from(bytes.buffer, bytes.byteOffset, c).toString()
        run.sink.head(a, headers, START_KINDS[b & HEAD_START_KIND_MASK] ?? 'warm', (b & HEAD_HAS_BODY) === 0 ? null : bytes.subarray(c), last)
        if (last) run.sink.bodyEnd()
        return
      }
      case RECORD.DATA:
        run.passedBytes += bytes.length
        run.sinkPaused = !run.sink.data(bytes)
        this.#acknowledge(run)
        return
      case RECORD.BODY_END:
        run.bodyEnded = true
        run.sink.bodyEnd()
        return
      case RECORD.TAKEN:
        countTaken(run, a)
        return
      case RECORD.STATE:
        takeState(run, a, bytes)
        return
      case RECORD.END:
        this.#finish(run, run.input.session ? { ...readResult(a, b, bytes), machine: keptMachine(c, run.state) } : readResult(a, b, bytes))
        return
      case RECORD.LOG:
        this.#options.onLogLine?.(run.input.build, run.input.requestId, a, Buffer.from(bytes).toString())
        return
      default:
        this.services.onRecord(run, type, a, b, c, bytes, (message) => this.#post(worker, message))
    }
  }

  #acknowledge(run: ActiveRun): void {
    if (run.sinkPaused || run.passedBytes < RESPONSE_WINDOW_BYTES / 2 || run.worker === null) return
    this.#post(run.worker, { kind: 'acknowledge', runId: run.id, bytes: run.passedBytes })
    run.passedBytes = 0
  }

  /** H2. */
  #finish(run: ActiveRun, result: InvocationResult): void {
    if (!this.#runs.delete(run.id)) return
    run.worker?.runs.delete(run.id)
    this.#use(run.input.build.imageId, -1)
    if (run.services !== null) this.services.endAll(run)
    if (run.headSent && !run.bodyEnded && result.outcome === 'ok') run.sink.bodyEnd()
    if (result.exception !== null) this.#options.onException?.(run.input.build, run.input.requestId, result.exception)
    run.sink.end(result)
    if (this.#runs.size === 0 && this.#whenIdle.length > 0) {
      const waiting = this.#whenIdle
      this.#whenIdle = []
      for (const resolve of waiting) resolve()
    }
  }

  #use(imageId: ImageId, by: number): void {
    const uses = (this.#usesOfImage.get(imageId) ?? 0) + by
    if (uses === 0) this.#usesOfImage.delete(imageId)
    else this.#usesOfImage.set(imageId, uses)
  }

  // -- workers

  async #startWorker(index: number): Promise<WorkerHandle> {
    const { runtime } = this.#runtime()
    const memory = createChannelMemory()
    const channel = new HostChannel(memory, this.#options.workers > 1 ? UNSTARTED_MAX : UNSTARTED_ALONE_MAX)
    const ports = new MessageChannel()
    const pool = new Piscina({
      filename: siblingModule(import.meta.url, './worker-main').href, minThreads: 1, maxThreads: 1, maxQueue: 1, idleTimeout: Infinity,
      atomics: 'disabled', resourceLimits: { stackSizeMb: STACK_SIZE_MB }, execArgv: ['--disable-warning=ExperimentalWarning'],
    })
    this.#pools[index] = pool
    const handle: WorkerHandle = {
      onRecord: (type, runId, a, b, c, bytes) => this.#onRecord(handle, type, runId, a, b, c, bytes),
      index, channel, port: ports.port1, abort: new AbortController(), runs: new IdTable(), builds: new Map(), sleeping: false, lastTurns: 0, stuckSinceMs: 0, watchedTurns: 0, watchedSinceMs: 0, lost: false,
    }
    const egress = this.#options.egressPort(index, channel.control)
    const task: WorkerTask = {
      index, runtime, channel: memory, slotCount: this.#slotsPerWorker, port: ports.port2, egress, spinUs: SPIN_US, siteName: this.#options.siteName ?? 'local',
      residentMaxBytes: Math.floor(this.#options.memoryBudgetBytes / 2 / this.#options.workers),
    }
    const ready = new Promise<void>((resolve, reject) => {
      ports.port1.on('message', (message: FromWorker) => {
        if (message.kind === 'ready') resolve()
        else this.#onMessage(message)
      })
      pool.run(task, { transferList: [ports.port2, egress], signal: handle.abort.signal }).then(
        () => this.#onWorkerGone(handle, 'it ended'),
        (error: unknown) => {
          reject(error instanceof Error ? error : new Error(String(error)))
          this.#onWorkerGone(handle, error instanceof Error ? error.message : String(error))
        },
      )
    })
    await ready
    return handle
  }

  #onMessage(message: FromWorker): void {
    if (message.kind === 'incident') {
      this.counts.incidents++
      this.#options.log.error('a reset sandbox differs from its image; it was destroyed', { what: message.what, image: message.imageId })
    } else if (message.kind !== 'ready') {
      this.#replies.get(message.reply)?.resolve(message)
      this.#replies.delete(message.reply)
    }
  }

  #onWorkerGone(worker: WorkerHandle, why: string): void {
    if (worker.lost || this.#state === 'closed') return
    worker.lost = true
    this.counts.workersLost++
    this.#options.log.error('a worker was lost', { worker: worker.index, why })
    worker.channel.poll(Infinity, worker.onRecord)
    for (const runId of worker.channel.takeBack()) this.#requeue(worker, runId)
    for (const run of worker.runs.values()) this.#finish(run, failedResult('platformFault', { code: 'ERR_WORKER_LOST', params: [why] }))
    for (const [reply, asked] of this.#replies) {
      if (asked.worker !== worker) continue
      this.#replies.delete(reply)
      asked.resolve(null)
    }
    worker.port.close()
    void this.#pools[worker.index]?.destroy()
    void this.#startWorker(worker.index).then(
      (fresh) => {
        this.#workers = this.#workers.map((each) => (each === worker ? fresh : each))
        this.#refill()
      },
      (error: unknown) => this.#options.log.error('a worker cannot be replaced', { worker: worker.index, why: String(error) }),
    )
  }

  #requeue(worker: WorkerHandle, runId: number): void {
    const run = worker.runs.get(runId)
    if (run === undefined) return
    worker.runs.delete(runId)
    run.worker = null
    this.counts.takenBack++
    this.waiting.unshift(run)
  }

  /** H1 and H4: looks at every worker a few times a second. */
  #watch(): void {
    this.#stopWatch = this.#options.clock.after(WATCH_EVERY_MS, () => {
      for (const worker of this.#workers) this.#watchWorker(worker)
      if (this.waiting.length > 0) {
        this.#shedExpired()
        this.#refill()
      }
      if (this.#runs.size > 0) this.#schedulePoll()
      if (this.#state !== 'closed') this.#watch()
    })
  }

  #watchWorker(worker: WorkerHandle): void {
    const { channel } = worker
    const nowMs = this.#options.clock.monotonicMs()
    if (channel.currentRun === 0 || channel.turns !== worker.watchedTurns) {
      worker.watchedTurns = channel.turns
      worker.watchedSinceMs = nowMs
      return
    }
    const run = worker.runs.get(channel.currentRun)
    if (run?.canceled === true) channel.cancel(run.id)
    const limitMs = Math.min(run?.input.build.limits.wallMs ?? 0, (run?.input.deadlineAtMs ?? 0) - this.#options.clock.nowMs() + (nowMs - worker.watchedSinceMs))
    if (nowMs - worker.watchedSinceMs > Math.max(0, limitMs) + (this.#options.watchdogGraceMs ?? WATCHDOG_GRACE_MS)) worker.abort.abort()
  }

  #shedExpired(): void {
    const nowMs = this.#options.clock.nowMs()
    for (const run of this.waiting.filter((each) => each.input.deadlineAtMs <= nowMs)) {
      this.#leaveQueue(run, failedResult('loadShed', { code: 'ERR_QUEUE_DEADLINE', params: [Math.round(this.#options.clock.monotonicMs() - run.enqueuedAtMs)] }))
    }
  }

  /** H3. */
  async #forgetEverywhere(image: ResidentImage): Promise<boolean> {
    for (const worker of this.#workers) this.#forgetBuilds(worker, ({ imageId }) => imageId === image.imageId)
    const answers = await Promise.all(this.#workers.map((worker) => this.#ask(worker, (reply) => ({ kind: 'forgetImage', image, reply }))))
    // A worker that was lost holds nothing any more.
    return answers.every((answer) => answer === null || (answer.kind === 'forgotten' && answer.done))
  }

  #ask(worker: WorkerHandle, make: (reply: number) => ToWorker): Promise<FromWorker | null> {
    if (worker.lost) return Promise.resolve(null)
    const reply = this.#nextReply++
    return new Promise((resolve) => {
      this.#replies.set(reply, { worker, resolve })
      this.#post(worker, make(reply))
    })
  }

  #runtime(): RuntimeImages {
    if (this.#images === null) throw new CodedError('ERR_INTERNAL', ['the host has not started'])
    return this.#images
  }
}
