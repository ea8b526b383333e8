/**
 * A slot as the builder drives it: evaluates code, runs synthetic requests, and refuses what no image may hold. It
 * serves one build and is thrown away with it.
 */
import type { CodedErrorData } from '../errors.ts'
import { IntlHost } from '../intl/intl-host.ts'
import { MIB, type FunctionLimits } from '../limits.ts'
import type { InvocationKind } from '../worker/types.ts'
import type { ResidentImage } from './arena.ts'
import { callNumber } from '../guest/abi.ts'
import { Binding, GuestOutOfMemory, type GuestValue } from './binding.ts'
import { tidyHeap } from './capture.ts'
import { garbageCollector } from './garbage-collector.ts'
import { handleHostCall, type RefusedCall } from './host-calls.ts'
import { shownFrames } from './line-tables/map-stack.ts'
import { Run, type RunOutput } from './run.ts'
import { allocateText, type EngineCall, engineCaller, type MachineRuntime } from './runtime.ts'
import { Slot } from './slot.ts'
import { beginLastSlice, interrupt, noteWhere } from './stopping.ts'

/** The clock of every build: a constant, so that equal sources give equal images. */
const BUILD_CLOCK_MS = 1_700_000_000_000
const FUEL_SLICE = 500_000
/**
 * What a run may have beyond its image before the engine looks for garbage in cycles, and does so again at half as much more. A
 * collection writes to most of the heap and takes about a millisecond for each MiB of objects, so that a usual request has none.
 */
const GARBAGE_MAX_BYTES = 16 * MIB
const GC_THRESHOLD_MAX_BYTES = 0x7fff_ffff
const SEED = 0x9e37_79b9_7f4a_7c15n
const MODULE = 1
const STRIP_SOURCE = 1 << 4

export interface Refusal {
  readonly call: RefusedCall
  readonly detail: string
  /** Where the guest was, innermost frame first; in words if none of its frames were there. */
  readonly stack: string
}

export interface SyntheticRequest {
  readonly kind: InvocationKind
  readonly method: string
  readonly url: string
  /** `name\nvalue...` */
  readonly headers: string
  readonly body: string | null
}

export interface ProbeAnswer {
  /** What a client would see, as one comparable text; null if the guest did not answer. */
  readonly text: string | null
  readonly refusals: readonly Refusal[]
  readonly problem: string | null
}

export class BuildMachine {
  readonly slot: Slot
  readonly binding: Binding
  readonly call: EngineCall
  readonly refusals: Refusal[] = []
  readonly warnings: { readonly kind: string; readonly stack: string }[] = []
  /** Gives places of the bundle in a stack as the user knows them. */
  mapStack: (stack: string) => string = (stack) => stack
  /** Times the guest asked for the time. */
  clockReads = 0
  readonly #runtime: MachineRuntime
  readonly #intl = new IntlHost(garbageCollector())
  readonly #limits: FunctionLimits
  #run: Run
  #deadlineAtMs = 0
  #answer: string | null = null
  #budgetMs = 0

  constructor(runtime: MachineRuntime, limits: FunctionLimits, image: ResidentImage = runtime.prelude) {
    this.#runtime = runtime
    this.#limits = limits
    this.#run = this.#newRun()
    const slot: Slot = new Slot(runtime.engine, runtime.arena, runtime.bases, image, {
      hostCall: (namePtr, _nameLength, _thisPtr, argc, argvPtr) => handleHostCall(this.binding, {
        run: () => this.#run, runtime, siteName: '', output: this.#output, policy: { refused: (call, detail) => this.#noteRefusal(call, detail), warn: (kind) => this.#noteWarning(kind) },
        intl: this.#intl, nextOperationId: () => 0, startTimer: () => undefined, nowMs: () => 0,
      }, slot.bytes[namePtr >>> 0] ?? 0, argc, argvPtr),
      refuel: () => {
        if (performance.now() > this.#deadlineAtMs) {
          if (this.#run.kill !== null) {
            noteWhere(this.#run, this.binding, runtime)
            return 1
          }
          this.#run.stop('exceededCpu', 'ERR_BUNDLE_LIMIT', ['time', `${this.#budgetMs} ms`])
          beginLastSlice(this.#run, this.binding, runtime)
        }
        slot.grantFuel(FUEL_SLICE)
        return 0
      },
      interrupt: () => interrupt(this.#run, this.binding, runtime),
      promiseRejection: () => undefined,
      clock: (_id, resultPtr) => {
        this.clockReads += 1
        this.binding.writeU64(resultPtr, BigInt(BUILD_CLOCK_MS) * 1_000_000n)
        return 0
      },
      random: (pointer, length) => {
        this.binding.writeBytes(pointer, new Uint8Array(Math.min(length >>> 0, 65_536)).fill(0x5a))
        return 0
      },
    })
    this.slot = slot
    this.binding = new Binding(slot, runtime.scratch, runtime.undefinedValue)
    this.call = engineCaller(slot.instance.engine)
    this.#prepare()
  }

  get entries(): MachineRuntime['entries'] {
    return this.#runtime.entries
  }

  /** Why the guest was stopped, if it was. */
  get stopped(): CodedErrorData | null {
    const { kill, where } = this.#run
    if (kill === null) return null
    const { code, params } = kill.error
    const at = where === null ? '' : framesInLine(this.mapStack(where), 3)
    return at === '' ? kill.error : { code, params: [...params.slice(0, -1), `${params.at(-1) ?? ''} ${at}`] }
  }

  /** Runs `work` under a time limit. A trap is null; `stopped` or a pending exception tells why. */
  within<T>(budgetMs: number, work: () => T): T | null {
    this.#budgetMs = budgetMs
    this.#deadlineAtMs = performance.now() + budgetMs
    this.slot.grantFuel(FUEL_SLICE)
    try {
      return work()
    } catch (error) {
      this.slot.clearStrayFlags()
      if (error instanceof GuestOutOfMemory) this.#run.stop('exceededMemory', 'ERR_BUNDLE_LIMIT', ['memory', `${this.#limits.memoryMib} MiB`])
      else if (error instanceof RangeError) this.#run.stop('exception', 'ERR_BUNDLE_THROWS', ['RangeError: Maximum call stack size exceeded'])
      else if (!(error instanceof WebAssembly.RuntimeError)) throw error
      else this.#run.stop('exception', 'ERR_BUNDLE_THROWS', [error.message])
      return null
    }
  }

  /** Bytecode of a module, without its source but with its line tables; null when it does not compile. */
  compile(source: string, fileName: string): Uint8Array | null {
    const code = allocateText(this.binding, this.call, source)
    const file = allocateText(this.binding, this.call, fileName)
    const lengthAt = allocateText(this.binding, this.call, '    ')
    const at = this.call('qjs_compile', code, Buffer.byteLength(source), file, MODULE, STRIP_SOURCE, lengthAt) >>> 0
    if (at === 0) return null
    return this.slot.bytes.slice(at, at + this.binding.argument(lengthAt, 0))
  }

  /** Evaluates module bytecode: the boxed promise of its namespace. */
  evaluate(bytecode: Uint8Array): GuestValue {
    const at = this.call('wasm_malloc', bytecode.length) >>> 0
    if (at === 0) throw new GuestOutOfMemory()
    this.binding.writeBytes(at, bytecode)
    const promise = this.call('qjs_eval_bytecode', at, bytecode.length)
    this.call('wasm_free', at)
    this.drainJobs()
    return promise
  }

  drainJobs(): void {
    while (this.binding.runJob() !== 0);
  }

  /** One synthetic request in the machine as it is. */
  request(budgetMs: number, { kind, method, url, headers, body }: SyntheticRequest): ProbeAnswer {
    this.#run = this.#newRun(body === null ? null : Buffer.from(body))
    this.#answer = null
    const refusalsBefore = this.refusals.length
    const head = `00000000-0000-4000-8000-000000000000\n127.0.0.1\n${method}\n${url}${headers === '' ? '' : `\n${headers}`}`
    this.within(budgetMs, () => {
      const { dispatch, settled, follow, idle } = this.#runtime.entries
      const call = callNumber(kind === 'http' ? 0 : 1, method, body === null ? 0 : 1)
      const result = this.binding.call(dispatch, [this.binding.newNumber(call), this.binding.newString(head)])
      this.drainJobs()
      if (this.binding.isObject(result)) {
        if (this.binding.isException(this.binding.settleHandler(result, settled, follow))) this.#run.failure ??= this.binding.takeException()
        this.drainJobs()
      }
      if (this.#run.done) return
      this.binding.call(idle, [])
      this.drainJobs()
    })
    const { failure, done, bodySent, kill } = this.#run
    const refusals = this.refusals.slice(refusalsBefore)
    const problem = kill !== null ? kill.outcome : failure !== null ? `${failure.name}: ${failure.message} ${framesInLine(this.mapStack(failure.stack), 1)}`.trim() : done && bodySent ? null : 'it did not come to an end'
    return { text: this.#answer, refusals, problem }
  }

  /** The machine back at `image`, as a live restore would make it but with pinned randomness. */
  restore(image: ResidentImage): void {
    this.slot.reset()
    this.slot.reimage(image)
    this.#prepare()
  }

  /** Ready for capture: see tidyHeap. */
  tidy(): void {
    this.drainJobs()
    this.slot.grantFuel(0x7fff_ffff)
    tidyHeap(this.slot, this.call, this.#runtime.scratch)
    this.call('qjs_set_gc_threshold', Math.min(this.slot.virtualBytes + GARBAGE_MAX_BYTES, GC_THRESHOLD_MAX_BYTES))
    this.binding.writeU64(this.#runtime.randomState, SEED)
  }

  #prepare(): void {
    this.slot.arm(this.#limits.memoryMib * 16)
    this.slot.grantFuel(FUEL_SLICE)
    this.binding.writeU64(this.#runtime.randomState, SEED)
  }

  #newRun(body: Uint8Array | null = null): Run {
    return new Run({
      id: 1, image: this.#runtime.prelude, call: 0, limits: this.#limits, secrets: {}, account: '', body, bodyStreamed: false,
      deadlineAtMs: this.#limits.wallMs, wantLogs: false, keepMaxBytes: 0, state: null,
    }, 0)
  }

  /** The guest's stack at a host call. Evaluating inside the call sees the frames that led to it. */
  #stackHere(): string {
    const code = allocateText(this.binding, this.call, 'new Error().stack')
    const file = allocateText(this.binding, this.call, 'outpost:stack')
    const value = this.call('qjs_eval', code, 17, file, 0)
    const frames = this.binding.isString(value) ? framesInLine(this.mapStack(this.binding.string(value)), 3) : ''
    return frames === '' ? 'in something that the top level began' : frames
  }

  #noteRefusal(call: RefusedCall, detail: string): void {
    if (this.refusals.length < 20) this.refusals.push({ call, detail, stack: this.#stackHere() })
  }

  /** Each once, as priming and its probes run the same lines many times. */
  #noteWarning(kind: string): void {
    const stack = this.#stackHere()
    if (this.warnings.length < 20 && !this.warnings.some((known) => known.kind === kind && known.stack === stack)) this.warnings.push({ kind, stack })
  }

  readonly #output: RunOutput = {
    head: (_run, status, headers, body) => {
      this.#answer = `${status}\n${Buffer.from(headers).toString('latin1')}\n\n${body === null ? '' : Buffer.from(body).toString('latin1')}`
    },
    data: (_run, chunk) => {
      this.#answer = (this.#answer ?? '') + Buffer.from(chunk).toString('latin1')
      return true
    },
    bodyEnd: () => undefined,
    bodyTaken: () => undefined,
    flush: () => undefined,
    end: () => undefined,
    log: () => undefined,
    fetch: () => undefined,
    fetchRead: () => undefined,
    fetchAbort: () => undefined,
    subtle: () => undefined,
    zip: () => undefined,
    zipWrite: () => undefined,
    service: () => undefined,
    serviceWrite: () => undefined,
    serviceTaken: () => undefined,
    serviceAbort: () => undefined,
  }
}

/** The innermost frames of the function's own code, in one line. */
export function framesInLine(stack: string, framesMax: number): string {
  return shownFrames(stack).map((line) => line.trim()).filter((line) => line.startsWith('at ') && !line.endsWith('(<anonymous>)')).slice(0, framesMax).join(' ')
}
