/**
 * A worker thread: one loop that pulls invocations, settles operations and runs timers, and sleeps on shared memory
 * when there is nothing to do. It never returns to its event loop while it serves; everything from outside comes by
 * the channel or by ports that the loop polls.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { receiveMessageOnPort } from 'node:worker_threads'
import type { ErrorCode, ErrorParams } from '../errors.ts'
import type { Binding, GuestValue } from '../microvm/binding.ts'
import { Executor } from '../microvm/executor.ts'
import type { Run, RunOutput } from '../microvm/run.ts'
import { OUTCOMES, START_KINDS, type Outcome } from '../outcome.ts'
import {
  END_NUMBERS_BYTES, type Entry, FLAG_BODY_MORE, FLAG_LOGS, HEAD_HAS_BODY, HEAD_LAST, KEPT, RECORD, RECORD_MAX_BYTES, RESPONSE_WINDOW_BYTES, WorkerChannel,
} from './channel.ts'
import type { FromEgress, FromWorker, ToEgress, ToWorker, WorkerTask } from './messages.ts'
import type { InvocationResult, SessionInput } from './types.ts'

type Build = Extract<ToWorker, { kind: 'build' }>

/** V8 frees a WebAssembly memory only when it collects, and does not feel the weight of those that it has not. */
setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Turns between looks at ports and timers when invocations keep coming. */
const TURNS_PER_LOOK = 16
/** An idle worker checks one slot by the oracle this often. */
const SCRUB_EVERY_MS = 1_000
const SLEEP_MAX_MS = 1_000
/** More than can wait in the ring, for those that had ended are among them. */
const CANCELED_EARLY_MAX = 1_000
const LOG_TAIL_BYTES = 65_536

export default function serve(task: WorkerTask): void {
  const worker = new WorkerLoop(task)
  worker.loop()
}

class WorkerLoop {
  readonly #task: WorkerTask
  readonly #channel: WorkerChannel
  readonly #executor: Executor
  readonly #builds = new Map<number, Build>()
  /** Runs that were cancelled and are not here, the oldest first. */
  readonly #canceledEarly = new Set<number>()
  #closed = false
  #scrubAtMs = performance.now() + SCRUB_EVERY_MS

  constructor(task: WorkerTask) {
    this.#task = task
    this.#channel = new WorkerChannel(task.channel)
    this.#executor = new Executor({
      runtime: task.runtime, slotCount: task.slotCount, residentMaxBytes: task.residentMaxBytes, output: this.#output(), siteName: task.siteName,
      isCanceled: (runId) => {
        // What a guest that takes long has logged is seen while it runs.
        this.#channel.flush()
        this.#channel.wakeHost()
        return this.#channel.isCanceled(runId)
      },
      nowMs: () => performance.now(),
      epochMs: () => Date.now(),
      threadCpuMs: () => {
        const { user, system } = process.threadCpuUsage()
        return (user + system) / 1000
      },
      releaseMemory: collectGarbage,
      incident: (what, image) => this.#post({ kind: 'incident', what, imageId: image.imageId }),
    })
    this.#post({ kind: 'ready' })
  }

  loop(): void {
    while (!this.#closed) {
      let turns = 0
      while (turns < TURNS_PER_LOOK && this.#channel.take((entry) => this.#start(entry))) turns++
      const messages = this.#channel.takeMessageSignal() && this.#readPorts()
      if (this.#executor.nextTimerAtMs <= performance.now()) {
        this.#executor.runTimers()
        this.#channel.flush()
      }
      if (turns === 0 && !messages) this.#rest()
    }
  }

  /** Nothing to do: tidy up, spin briefly, sleep. */
  #rest(): void {
    this.#channel.wakeHost()
    const nowMs = performance.now()
    const scrub = nowMs >= this.#scrubAtMs
    if (scrub) this.#scrubAtMs = nowMs + SCRUB_EVERY_MS
    if (this.#executor.idle(scrub)) return
    const spinUntilMs = nowMs + this.#task.spinUs / 1000
    const seen = this.#channel.wakeCount
    while (performance.now() < spinUntilMs) if (this.#channel.wakeCount !== seen || this.#channel.hasEntry) return
    this.#channel.wait(Math.max(0, Math.min(SLEEP_MAX_MS, this.#executor.nextTimerAtMs - nowMs)))
  }

  #start(entry: Entry): void {
    this.#run(entry.runId, entry.build, entry.call, entry.flags, entry.deadlineAtMs, entry.head, entry.body, entry.session)
  }

  #run(runId: number, buildIndex: number, call: number, flags: number, deadlineAtMs: number, head: Uint8Array, body: Uint8Array | null, session: SessionInput | null): void {
    let build = this.#builds.get(buildIndex)
    if (build === undefined) {
      // Its description was posted before the entry was sent.
      this.#readPorts()
      build = this.#builds.get(buildIndex)
    }
    this.#channel.setCurrentRun(runId)
    if (build === undefined) this.#refuse(runId, 'loadShed', 'ERR_NO_CAPACITY', [0])
    else if (this.#canceledEarly.delete(runId)) this.#refuse(runId, 'canceled', 'ERR_CANCELED', [])
    else {
      if ((flags & FLAG_BODY_MORE) !== 0) this.#channel.write(RECORD.STARTED, runId, 0, 0, 0, null, null)
      this.#executor.start({
        id: runId, image: build.image, call, limits: build.limits, secrets: build.secrets, account: build.account, body,
        bodyStreamed: (flags & FLAG_BODY_MORE) !== 0,
        deadlineAtMs: Math.min(performance.now() + build.limits.wallMs, deadlineAtMs - performance.timeOrigin),
        wantLogs: (flags & FLAG_LOGS) !== 0,
        keepMaxBytes: session?.keepMaxBytes ?? 0,
        state: session?.state ?? null,
      }, head)
    }
    this.#channel.setCurrentRun(0)
    this.#channel.flush()
  }

  /** A message may be read before the entry of its run is taken; more often the run has ended already. */
  #noteCanceled(runId: number): void {
    this.#canceledEarly.add(runId)
    if (this.#canceledEarly.size <= CANCELED_EARLY_MAX) return
    const [oldest = 0] = this.#canceledEarly
    this.#canceledEarly.delete(oldest)
  }

  /** It never ran. */
  #refuse(runId: number, outcome: Outcome, code: ErrorCode, params: ErrorParams): void {
    const detail = Buffer.from(JSON.stringify({ error: { code, params }, exception: null, logs: [] }))
    this.#channel.write(RECORD.END, runId, OUTCOMES.indexOf(outcome), 0, 0, new Uint8Array(END_NUMBERS_BYTES), detail)
  }

  /** Reads what lies in the ports. Returns whether there was anything. */
  #readPorts(): boolean {
    let any = false
    for (let message = receiveMessageOnPort(this.#task.port); message !== undefined; message = receiveMessageOnPort(this.#task.port)) {
      any = true
      this.#handle(message.message as ToWorker)
    }
    for (let message = receiveMessageOnPort(this.#task.egress); message !== undefined; message = receiveMessageOnPort(this.#task.egress)) {
      any = true
      this.#settle(message.message as FromEgress)
    }
    if (any) this.#channel.flush()
    return any
  }

  #handle(message: ToWorker): void {
    switch (message.kind) {
      case 'build':
        this.#builds.set(message.index, message)
        break
      case 'forgetBuild':
        this.#builds.delete(message.index)
        break
      case 'forgetImage':
        this.#post({ kind: 'forgotten', reply: message.reply, done: this.#executor.forgetImage(message.image) })
        break
      case 'start':
        this.#run(message.runId, message.build, message.call, message.flags, message.deadlineAtMs, Buffer.from(message.head), message.body, message.session)
        break
      case 'body':
        this.#turnOf(message.runId, () => this.#executor.body(message.runId, message.chunk))
        break
      case 'acknowledge':
        this.#turnOf(message.runId, () => this.#executor.acknowledge(message.runId, message.bytes, RESPONSE_WINDOW_BYTES))
        break
      case 'cancel':
        if (!this.#executor.cancel(message.runId)) this.#noteCanceled(message.runId)
        break
      case 'serviceHead': {
        const { runId, id, head, body, last } = message
        this.#turnOf(runId, () => {
          if (body !== null) this.#executor.serviceData(runId, id, body)
          // The guest may take it all at once.
          if (last) this.#executor.serviceData(runId, id, 'complete')
          this.#executor.settle(runId, id, true, (binding) => binding.newString(head))
        })
        break
      }
      case 'serviceData':
        this.#turnOf(message.runId, () => this.#executor.serviceData(message.runId, message.id, message.chunk ?? 'complete'))
        break
      case 'serviceFailed':
        this.#turnOf(message.runId, () => this.#executor.serviceData(message.runId, message.id, { failure: message.reason }))
        break
      case 'serviceWritten':
        this.#turnOf(message.runId, () => this.#executor.settle(message.runId, message.operation, true, (binding) => binding.newNull()))
        break
      case 'stats': {
        const { slotCount, runCount, parkedCount, residentBytes, counts } = this.#executor
        this.#post({ kind: 'stats', reply: message.reply, stats: { slots: slotCount, running: runCount, parked: parkedCount, residentBytes, counts: { ...counts } } })
        break
      }
      case 'close':
        this.#closed = true
        break
    }
  }

  #settle(message: FromEgress): void {
    switch (message.kind) {
      case 'head':
        this.#turnOf(message.runId, () => this.#executor.settle(message.runId, message.id, true, (binding) => binding.newString(message.head)))
        break
      case 'data':
        this.#turnOf(message.runId, () => this.#executor.settleRead(message.runId, message.fetchId, message.chunk))
        break
      case 'subtle': {
        const { runId, id, answer } = message
        const made = (binding: Binding): GuestValue =>
          answer.kind === 'bytes' ? binding.newArrayBuffer(answer.bytes) : binding.newString(answer.kind === 'text' ? answer.text : `${answer.name}\n${answer.message}\n${answer.code}`)
        this.#turnOf(runId, () => this.#executor.settle(runId, id, answer.kind !== 'failed', made))
        break
      }
      case 'taken':
        this.#turnOf(message.runId, () => this.#executor.settle(message.runId, message.id, true, (binding) => binding.newNull()))
        break
      case 'failed':
        this.#turnOf(message.runId, () => this.#executor.failFetch(message.runId, message.fetchId, `${message.name}\n${message.message}\n${message.code}`))
        break
    }
  }

  #turnOf(runId: number, turn: () => void): void {
    this.#channel.setCurrentRun(runId)
    turn()
    this.#channel.setCurrentRun(0)
  }

  #post(message: FromWorker): void {
    this.#task.port.postMessage(message)
  }

  #output(): RunOutput {
    const channel = this.#channel
    const { egress } = this.#task
    const send = (message: ToEgress): void => egress.postMessage(message)
    return {
      head(run, status, headers, body, last) {
        const fits = headers.length + (body?.length ?? 0) <= RECORD_MAX_BYTES
        const flags = (last && fits ? HEAD_LAST : 0) | (fits && body !== null ? HEAD_HAS_BODY : 0)
        channel.write(RECORD.HEAD, run.spec.id, status | 0, START_KINDS.indexOf(run.startKind) | flags, headers.length, headers, fits ? body : null)
        if (fits || body === null) return
        writeChunks(channel, run, body)
        if (last) channel.write(RECORD.BODY_END, run.spec.id, 0, 0, 0, null, null)
      },
      data(run, chunk) {
        writeChunks(channel, run, chunk)
        run.unacknowledgedBytes += chunk.length
        channel.flush()
        return run.unacknowledgedBytes < RESPONSE_WINDOW_BYTES
      },
      bodyEnd(run) {
        channel.write(RECORD.BODY_END, run.spec.id, 0, 0, 0, null, null)
      },
      bodyTaken(run, bytes) {
        channel.write(RECORD.TAKEN, run.spec.id, bytes, 0, 0, null, null)
      },
      flush() {
        channel.flush()
      },
      end(run) {
        const result = run.result(performance.now())
        endNumbers[0] = result.cpuUs
        endNumbers[1] = result.wallUs
        endNumbers[2] = result.dirtyPages
        endNumbers[3] = result.memoryBytes
        if (run.kept.kind === 'kept') writeState(channel, run.spec.id, run.kept.state)
        channel.write(RECORD.END, run.spec.id, OUTCOMES.indexOf(result.outcome), START_KINDS.indexOf(result.startKind), KEPT.indexOf(run.kept.kind), endNumberBytes, endDetail(result))
      },
      log(run, level, line) {
        channel.write(RECORD.LOG, run.spec.id, level, 0, 0, Buffer.from(line), null)
      },
      fetch(run, id, head, body) {
        send({ kind: 'fetch', runId: run.spec.id, id, account: run.spec.account, head, body })
      },
      fetchRead(run, fetchId) {
        send({ kind: 'read', runId: run.spec.id, fetchId })
      },
      fetchAbort(run, fetchId) {
        send({ kind: 'abort', runId: run.spec.id, fetchId })
      },
      subtle(run, id, request, data) {
        send({ kind: 'subtle', runId: run.spec.id, id, account: run.spec.account, request, data })
      },
      zip(run, id, format) {
        send({ kind: 'zip', runId: run.spec.id, id, account: run.spec.account, format })
      },
      zipWrite(run, zipId, id, chunk) {
        send({ kind: 'zipWrite', runId: run.spec.id, fetchId: zipId, id, chunk })
      },
      service(run, id, head, body) {
        const lines = Buffer.from(head)
        const fits = lines.length + (body?.length ?? 0) <= RECORD_MAX_BYTES
        channel.write(RECORD.SERVICE, run.spec.id, id, lines.length, fits ? 0 : 1, lines, fits ? body : null)
        if (!fits && body !== null) writeServiceBody(channel, run, id, 0, body)
        if (!fits) channel.write(RECORD.SERVICE_BODY, run.spec.id, id, 0, 1, null, null)
      },
      serviceWrite(run, serviceId, id, chunk) {
        if (chunk === null) channel.write(RECORD.SERVICE_BODY, run.spec.id, serviceId, id, 1, null, null)
        else writeServiceBody(channel, run, serviceId, id, chunk)
      },
      serviceTaken(run, serviceId, bytes) {
        channel.write(RECORD.SERVICE_TAKEN, run.spec.id, serviceId, bytes, 0, null, null)
      },
      serviceAbort(run, serviceId) {
        channel.write(RECORD.SERVICE_CANCEL, run.spec.id, serviceId, 0, 0, null, null)
      },
    }
  }
}

const endNumbers = new Float64Array(4)
const endNumberBytes = new Uint8Array(endNumbers.buffer)

/** What a result says beyond its numbers, or null. Long exceptions and logs are cut so that the record fits. */
function endDetail({ error, exception, logs }: InvocationResult): Uint8Array | null {
  if (error === null && exception === null && logs.length === 0) return null
  const cut = (text: string): string => text.slice(0, 8_192)
  const detail = {
    error: error === null ? null : { code: error.code, params: error.params.map((param) => (typeof param === 'string' ? cut(param) : param)) },
    exception: exception === null ? null : { name: cut(exception.name), message: cut(exception.message), stack: cut(exception.stack) },
    logs: lastLogs(logs),
  }
  return Buffer.from(JSON.stringify(detail))
}

/** The newest lines that together stay below what a log tail shows many times over. */
function lastLogs(logs: readonly string[]): readonly string[] {
  let bytes = 0
  let first = logs.length
  while (first > 0 && bytes + (logs[first - 1]?.length ?? 0) < LOG_TAIL_BYTES) bytes += logs[--first]?.length ?? 0
  return logs.slice(first)
}

function writeChunks(channel: WorkerChannel, run: Run, body: Uint8Array): void {
  for (let at = 0; at < body.length; at += RECORD_MAX_BYTES) channel.write(RECORD.DATA, run.spec.id, 0, 0, 0, body.subarray(at, at + RECORD_MAX_BYTES), null)
}

/** Only the last piece is acknowledged. At most what a request body may have, or the other side says so. */
function writeServiceBody(channel: WorkerChannel, run: Run, serviceId: number, id: number, body: Uint8Array): void {
  for (let at = 0; at < body.length; at += RECORD_MAX_BYTES) {
    const end = at + RECORD_MAX_BYTES
    channel.write(RECORD.SERVICE_BODY, run.spec.id, serviceId, end < body.length ? 0 : id, 0, body.subarray(at, end), null)
  }
}

function writeState(channel: WorkerChannel, runId: number, state: Uint8Array): void {
  for (let at = 0; at < state.length; at += RECORD_MAX_BYTES) channel.write(RECORD.STATE, runId, state.length, 0, 0, state.subarray(at, at + RECORD_MAX_BYTES), null)
}
