/** What functions log on this host: kept for `outpost logs`, and passed to the process's own log as one record a line. */
import { randomUUID } from 'node:crypto'
import type { Clock } from '../clock.ts'
import type { ControlCall, Dispatcher } from '../http/types.ts'
import type { Log } from '../log.ts'
import type { BuildSpec, InvocationResult } from '../worker/types.ts'
import { addLocalLines, answerLogCall, isLogCall, type RegionLogDeps } from './log-calls.ts'
import { LogRing, type LogLine } from './ring.ts'

export interface FunctionLogLinesDeps {
  readonly tier: 'pop' | 'region'
  readonly clock: Clock
  readonly log: Log
}

/** A function that fails with each request must not fill the disk that the process's log goes to. */
const EXCEPTIONS_MAX = 100

export class FunctionLogLines {
  readonly #clock: Clock
  readonly #log: Log
  readonly #ring: LogRing
  /** The second that `#exceptions` counts. */
  #second = -1
  #exceptions = 0

  constructor({ tier, clock, log }: FunctionLogLinesDeps) {
    this.#clock = clock
    this.#log = log.child('function')
    this.#ring = new LogRing({ sourceId: `${tier}-${randomUUID().slice(0, 8)}`, clock })
  }

  add(line: Omit<LogLine, 'atMs'>): void {
    this.#ring.add(line)
    const { functionName, version, requestId, level, text } = line
    const fields = { functionName, version, requestId, text }
    if (level >= 3) this.#log.error('line', fields)
    else if (level === 2) this.#log.warn('line', fields)
    else this.#log.info('line', fields)
  }

  /** What ended an invocation: an exception, or the report of a run that was stopped at a limit. Of one beyond EXCEPTIONS_MAX a second the process's log is spared. */
  addException(build: Pick<BuildSpec, 'account' | 'functionName' | 'version'>, requestId: string, { name, stack }: NonNullable<InvocationResult['exception']>): void {
    const { account, functionName, version } = build
    const line = { account, functionName, version, requestId, level: 3, text: `${name.startsWith('ERR_LIMIT_') ? 'Stopped' : 'Uncaught'} ${stack}` }
    const second = Math.floor(this.#clock.monotonicMs() / 1_000)
    if (second !== this.#second) {
      this.#second = second
      this.#exceptions = 0
    }
    this.#exceptions += 1
    if (this.#exceptions <= EXCEPTIONS_MAX) this.add(line)
    else this.#ring.add(line)
  }

  /** The dispatcher with the call for log lines answered from here. */
  atRegion(inner: Dispatcher, deps: Pick<RegionLogDeps, 'authenticate' | 'exists'>): Dispatcher {
    return withControl(inner, (call) => (isLogCall(call) ? Promise.resolve(answerLogCall({ ...deps, ring: this.#ring, clock: this.#clock }, call)) : inner.control(call)))
  }

  /** The dispatcher with lines from here added to the region's answer. */
  atPop(inner: Dispatcher): Dispatcher {
    return withControl(inner, async (call) => {
      const reply = await inner.control(call)
      return isLogCall(call) ? addLocalLines(this.#ring, call, reply, this.#clock) : reply
    })
  }
}

function withControl(inner: Dispatcher, control: (call: ControlCall) => ReturnType<Dispatcher['control']>): Dispatcher {
  return { invoke: (call, sink) => inner.invoke(call, sink), control, readiness: () => inner.readiness() }
}
