/**
 * The load generator, a process of its own: several streams of requests at once against one server.
 *
 * Latency counts from the moment a request was due, not from when it was sent: when the server stalls, the requests that
 * should have gone out meanwhile show their full wait (no coordinated omission). Arrivals of an open stream are drawn ahead
 * of time from a seed, so every peer gets the same ones.
 *
 * Due times are well below the millisecond of Node's timers. While an open stream runs, the loop therefore turns without
 * blocking (`setImmediate`) and sleeps in slices of SLEEP_SLICE_MS on a futex in between: about a tenth of a core, and an
 * answer is seen at most about that much late.
 */
import { build } from 'hdr-histogram-js'
import { assertNever } from '../../shared/brand.ts'
import { seededRandom, type Random } from '../../shared/random.ts'
import { Connection } from './connection.ts'
import type { LoadResult, LoadSpec, StreamResult, StreamSpec } from './load-spec.ts'
import { asksOf, type Ask } from './plans.ts'

const SLEEP_SLICE_MS = 0.05
/** Requests of a stream that are due and have no free connection; more means that the server is far below the offered load. */
const BACKLOG_MAX = 200_000

/** A queue of due times, and the connections that serve them. */
class Stream {
  readonly #spec: StreamSpec
  readonly #load: LoadSpec
  readonly #random: Random
  readonly #nextAsk: () => Ask
  readonly #latencyUs = histogram()
  readonly #lagUs = histogram()
  readonly #free: Connection[] = []
  readonly #underWay = new Map<Connection, { readonly ask: Ask; readonly dueMs: number }>()
  readonly #due: number[] = []
  #dueHead = 0
  #nextDueMs = 0
  #startMs = 0
  #remaining: number
  #isOpen = true
  #finished = false
  #opening = 0
  #sent = 0
  #answered = 0
  #failed = 0
  #firstFailure = ''
  #lastAnswerMs = 0

  constructor(spec: StreamSpec, load: LoadSpec, index: number) {
    this.#spec = spec
    this.#load = load
    this.#random = seededRandom(load.seed + index)
    this.#nextAsk = asksOf(spec.plan, load.seed + index + 1000)
    const { arrivals } = spec
    this.#remaining = arrivals.kind === 'closed' ? arrivals.count : arrivals.kind === 'burst' ? spec.connections : Infinity
  }

  get isOpenLoop(): boolean {
    return this.#spec.arrivals.kind === 'open'
  }

  /** Nothing falls due any more and nothing is under way. */
  get isDone(): boolean {
    return !this.#isOpen && this.#underWay.size === 0 && this.#backlog === 0
  }

  get nextDueMs(): number {
    return this.#isOpen ? this.#nextDueMs : Infinity
  }

  get #backlog(): number {
    return this.#due.length - this.#dueHead
  }

  async connect(): Promise<void> {
    // In batches below usual listen backlogs: 2,000 at once overflow them and then wait a second for the retry.
    for (let opened = 0; opened < this.#spec.connections; opened += 64) {
      const batch = Math.min(64, this.#spec.connections - opened)
      this.#free.push(...(await Promise.all(Array.from({ length: batch }, () => Connection.open(this.#load.host, this.#load.port, this)))))
    }
  }

  start(nowMs: number): void {
    this.#startMs = nowMs
    this.#lastAnswerMs = nowMs
    const { arrivals } = this.#spec
    switch (arrivals.kind) {
      case 'open':
        this.#nextDueMs = nowMs + this.#gapMs(arrivals.ratePerSecond)
        break
      case 'closed':
      case 'burst':
        this.#nextDueMs = Infinity
        for (let sent = 0; sent < this.#spec.connections; sent++) this.#addDue(nowMs)
        this.#isOpen = this.#remaining > 0
        break
      default:
        assertNever(arrivals)
    }
    this.#sendDue()
  }

  /** Moves what has fallen due into the queue and sends what finds a connection. */
  turn(nowMs: number): void {
    const { arrivals } = this.#spec
    const endMs = this.#startMs + this.#load.durationMs
    if (this.#isOpen && arrivals.kind === 'open') {
      while (this.#nextDueMs <= nowMs && this.#nextDueMs < endMs) {
        this.#addDue(this.#nextDueMs)
        this.#nextDueMs += this.#gapMs(arrivals.ratePerSecond)
      }
    }
    if (nowMs >= endMs) this.#isOpen = false
    if (this.#backlog > BACKLOG_MAX) this.#giveUp(`more than ${BACKLOG_MAX} requests were due and unsent`)
    this.#sendDue()
  }

  answer(connection: Connection, status: number, body: string, nowMs: number): void {
    const request = this.#underWay.get(connection)
    this.#underWay.delete(connection)
    if (request === undefined) {
      this.#fail('an answer that nobody asked for')
      return
    }
    this.#lastAnswerMs = nowMs
    const wrong = request.ask.verify(status, body)
    if (wrong !== null) this.#fail(wrong)
    else {
      this.#answered += 1
      if (request.dueMs - this.#startMs >= this.#load.warmupMs) this.#latencyUs.recordValue(Math.round((nowMs - request.dueMs) * 1000))
    }
    this.#free.push(connection)
    if (this.#spec.arrivals.kind === 'closed') {
      if (this.#isOpen) this.#addDue(nowMs)
    }
    this.#sendDue()
  }

  broken(connection: Connection, why: string): void {
    if (this.#underWay.delete(connection)) this.#fail(why)
    const index = this.#free.indexOf(connection)
    if (index >= 0) this.#free.splice(index, 1)
    // A server may close a connection that is idle; there is always one to replace it.
    this.#opening += 1
    Connection.open(this.#load.host, this.#load.port, this).then(
      (replacement) => {
        this.#opening -= 1
        if (this.#finished) replacement.close()
        else this.#free.push(replacement)
        this.#sendDue()
      },
      (error: unknown) => {
        this.#opening -= 1
        if (this.#free.length + this.#underWay.size + this.#opening === 0) this.#giveUp(`no connection is left: ${String(error)}`)
      },
    )
  }

  finish(): StreamResult {
    this.#finished = true
    this.#failed += this.#underWay.size + this.#backlog
    if (this.#firstFailure === '' && this.#failed > 0) this.#firstFailure = 'no answer in time'
    for (const connection of [...this.#free, ...this.#underWay.keys()]) connection.close()
    const latency = this.#latencyUs
    return {
      label: this.#spec.label,
      sent: this.#sent,
      answered: this.#answered,
      failed: this.#failed,
      firstFailure: this.#firstFailure,
      counted: latency.totalCount,
      p50Us: latency.getValueAtPercentile(50),
      p90Us: latency.getValueAtPercentile(90),
      p99Us: latency.getValueAtPercentile(99),
      maxUs: latency.maxValue,
      meanUs: latency.mean,
      lagP99Us: this.#lagUs.getValueAtPercentile(99),
      elapsedMs: this.#lastAnswerMs - this.#startMs,
    }
  }

  #addDue(dueMs: number): void {
    if (this.#remaining <= 0) return
    this.#remaining -= 1
    if (this.#remaining === 0) this.#isOpen = false
    this.#due.push(dueMs)
  }

  #sendDue(): void {
    if (this.#finished) return
    while (this.#backlog > 0) {
      // The one idle longest: all stay in use, and none reaches the server's idle timeout.
      const connection = this.#free.shift()
      if (connection === undefined) break
      const dueMs = this.#due[this.#dueHead++] ?? 0
      const ask = this.#nextAsk()
      this.#underWay.set(connection, { ask, dueMs })
      this.#sent += 1
      connection.send(ask)
      if (dueMs - this.#startMs >= this.#load.warmupMs) this.#lagUs.recordValue(Math.max(0, Math.round((performance.now() - dueMs) * 1000)))
    }
    if (this.#dueHead > 10_000) {
      this.#due.splice(0, this.#dueHead)
      this.#dueHead = 0
    }
  }

  #gapMs(ratePerSecond: number): number {
    return (-Math.log(1 - this.#random.next()) * 1000) / ratePerSecond
  }

  #fail(why: string): void {
    this.#failed += 1
    if (this.#firstFailure === '') this.#firstFailure = why
  }

  #giveUp(why: string): void {
    this.#isOpen = false
    if (this.#backlog > 0) this.#fail(why)
    this.#failed += Math.max(0, this.#backlog - 1)
    this.#dueHead = this.#due.length
  }
}

type Recorder = ReturnType<typeof build>

/** Up to 100 s in microseconds with three digits. */
function histogram(): Recorder {
  return build({ bitBucketSize: 32, lowestDiscernibleValue: 1, highestTrackableValue: 100_000_000, numberOfSignificantValueDigits: 3 })
}

async function run(load: LoadSpec): Promise<LoadResult> {
  const streams = load.streams.map((spec, index) => new Stream(spec, load, index))
  for (const stream of streams) await stream.connect()

  const cpuBefore = process.cpuUsage()
  const startMs = performance.now()
  const giveUpMs = startMs + load.durationMs + load.drainMs
  for (const stream of streams) stream.start(startMs)
  const sleeper = new Int32Array(new SharedArrayBuffer(4))
  const isPaced = streams.some((stream) => stream.isOpenLoop)
  while (performance.now() < giveUpMs && !streams.every((stream) => stream.isDone)) {
    const nowMs = performance.now()
    for (const stream of streams) stream.turn(nowMs)
    if (!isPaced) {
      await new Promise((resolve) => setTimeout(resolve, 1))
      continue
    }
    await new Promise((resolve) => setImmediate(resolve))
    const nextDueMs = Math.min(...streams.map((stream) => stream.nextDueMs))
    const sleepMs = Math.min(SLEEP_SLICE_MS, nextDueMs - performance.now())
    if (sleepMs > 0.01) Atomics.wait(sleeper, 0, 0, sleepMs)
  }
  const elapsedMs = performance.now() - startMs
  const cpu = process.cpuUsage(cpuBefore)
  return { streams: streams.map((stream) => stream.finish()), generatorCpuShare: (cpu.user + cpu.system) / 1000 / elapsedMs }
}

console.log(JSON.stringify(await run(JSON.parse(process.argv[2] ?? '{}') as LoadSpec)))
