/**
 * A machine for tests: the stock QuickJS class with the prelude in it and all HOST_CALLS played by this file.
 *
 * Nothing waits for real time: operations settle in the order in which they were started, timers when nothing else is
 * left, by their due time on a clock of the harness. So `invoke` runs an invocation to its end synchronously.
 */
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { EvalFlags, QuickJS, type JSValueHandle } from 'quickjs-wasi'
import { CALL_SELECTED, callNumber, GUEST_ENTRIES, HOST_CALLS, OPERATIONS, RESPOND_DONE, RESPOND_MORE, RESPOND_STATUS, RESPOND_WIRE_SHIFT, RESPOND_WIRES } from '../../../shared/guest/abi.ts'
import { selectionLine, type Selection } from '../../../shared/guest/selection.ts'
import { bundlePrelude } from '../../../shared/guest/bundle.ts'
import { IntlHost, type IntlValue } from '../../../shared/intl/intl-host.ts'
import { legacyDecode, legacyName } from '../../../shared/microvm/legacy-decode.ts'
import { compute } from '../../../shared/node-compat/compute.ts'
import { subtleNow } from '../../support/subtle-thread.ts'

export interface FetchedRequest {
  readonly method: string
  readonly url: string
  readonly redirect: string
  readonly headers: [string, string][]
  readonly body: Uint8Array | null
}

export interface FetchAnswer {
  readonly status?: number
  readonly statusText?: string
  readonly url?: string
  readonly headers?: [string, string][]
  readonly chunks?: (string | Uint8Array)[]
  /** `name\nmessage\ncode`: fetch rejects. */
  readonly error?: string
  /** Never answers. */
  readonly hangs?: true
}

export interface MachineOptions {
  readonly vars?: Record<string, string>
  readonly secrets?: Record<string, string>
  readonly handlerExport?: string | null
  readonly origin?: string
  readonly fetch?: (request: FetchedRequest) => FetchAnswer
  /** Calls of `write` that answer false, counted from 0. */
  readonly fullAtWrites?: readonly number[]
}

export interface Input {
  readonly kind?: 'http' | 'event'
  readonly method?: string
  readonly url?: string
  readonly headers?: [string, string][]
  readonly body?: string | Uint8Array
  /** Given: the body is streamed, in these chunks. */
  readonly chunks?: (string | Uint8Array)[]
  /** Calls entry `abort` after so many settled operations. */
  readonly abortAfter?: number
  /** Another handler than the default one. */
  readonly selection?: Partial<Selection>
}

export interface Output {
  readonly status: number
  readonly headers: [string, string][]
  readonly body: Uint8Array
  readonly text: string
  /** Chunks as written, the first included. */
  readonly chunks: readonly Uint8Array[]
  readonly streamed: boolean
  readonly ended: boolean
  readonly failure: { readonly name: string; readonly message: string; readonly stack: string } | null
  readonly respondCount: number
  readonly doneCount: number
  /** `level text` */
  readonly logs: readonly string[]
  readonly hung: boolean
  readonly drains: number
  readonly canceled: number
}

const require_ = (name: string): Uint8Array => readFileSync(new URL(import.meta.resolve(`quickjs-wasi/${name}`)))
export const ENGINE = {
  wasm: new WebAssembly.Module(require_('quickjs.wasm')),
  extensions: ['url', 'encoding', 'headers', 'structured-clone'].map((name) => ({ name, wasm: new WebAssembly.Module(require_(`${name}.so`) as Uint8Array<ArrayBuffer>) })),
}
let prelude: Promise<string> | null = null

const utf8 = new TextEncoder()
export function toBytes(value: string | Uint8Array): Uint8Array {
  return typeof value === 'string' ? utf8.encode(value) : value
}

function flat(headers: [string, string][]): string {
  return headers.map(([name, value]) => `${name}\n${value}`).join('\n')
}

function pairs(lines: readonly string[]): [string, string][] {
  const list: [string, string][] = []
  for (let i = 0; i + 1 < lines.length; i += 2) list.push([lines[i] ?? '', lines[i + 1] ?? ''])
  return list
}

interface Pending {
  readonly id: number
  readonly op: number
  readonly dueMs: number
  readonly settle: () => { readonly ok: 0 | 1; readonly value: string | Uint8Array | null | undefined } | null
}

export class Machine {
  readonly vm: QuickJS
  readonly warnings: string[] = []
  readonly buildLogs: string[] = []
  kind = ''
  entrypoints: readonly string[] = []
  #options: MachineOptions
  #entries: JSValueHandle
  #building = true
  readonly #intl = new IntlHost(() => undefined)
  #clockMs = 0
  #nextId = 1
  #pending: Pending[] = []
  #bodies = new Map<number, Uint8Array[]>()
  #rejections = new Map<number, JSValueHandle>()
  #requestChunks: Uint8Array[] = []
  #requestBody: Uint8Array = new Uint8Array(0)
  #out = emptyOutput()
  #prefix: JSValueHandle | null = null

  private constructor(vm: QuickJS, options: MachineOptions) {
    this.vm = vm
    this.#options = options
    this.#entries = vm.undefined
  }

  /** Builds a machine around one ES module. Rejects with what its top level throws. */
  static async create(source: string, options: MachineOptions = {}): Promise<Machine> {
    prelude ??= bundlePrelude()
    const script = await prelude
    const holder: { machine: Machine | null } = { machine: null }
    const vm = await QuickJS.create({ ...ENGINE, maxStackSize: 256 * 1024, onUnhandledRejection: (promise: JSValueHandle, reason: JSValueHandle, handled: boolean) => holder.machine?.trackRejection(promise, reason, handled) })
    const machine = new Machine(vm, options)
    holder.machine = machine
    const host = vm.newObject()
    for (const name of Object.keys(HOST_CALLS) as (keyof typeof HOST_CALLS)[]) {
      vm.setProp(host, name, vm.newFunction(`host.${name}`, (...rest) => machine.#toGuest(machine.hostCall(name, rest))))
    }
    machine.#entries = vm.callFunction(vm.evalCode(script, 'prelude.js'), vm.undefined, host)
    for (const name of GUEST_ENTRIES) if (!machine.#entries.getProp(name).isFunction) throw new Error(`install gave no ${name}`)
    await machine.#build(source)
    return machine
  }

  async #build(source: string): Promise<void> {
    const { vars = {}, secrets = {}, handlerExport = null, origin = null } = this.#options
    this.call('configure', JSON.stringify({ vars, secretNames: Object.keys(secrets), origin, functionName: 'hello', version: '7', memoryMib: 128, accountId: '123456789012', arn: 'arn:aws:lambda:local:123456789012:function:hello:7', handlerExport }))
    const promise = this.vm.evalCode(source, 'bundle.js', EvalFlags.TYPE_MODULE)
    this.vm.executePendingJobs()
    const settled = await this.vm.resolvePromise(promise)
    if ('error' in settled) {
      const error = settled.error
      throw new Error(`${error.getProp('name').toString()}: ${error.getProp('message').toString()}`)
    }
    const [kind = '', ...entrypoints] = this.vm.callFunction(this.#entries.getProp('load'), this.vm.undefined, settled.value).toString().split('\n')
    this.kind = kind
    this.entrypoints = entrypoints
    this.#building = false
    this.buildLogs.push(...this.#out.logs)
  }

  /** Evaluates a script in the machine and gives its value. */
  eval(code: string): unknown {
    const value = this.vm.dump(this.vm.evalCode(code))
    this.vm.executePendingJobs()
    return value
  }

  call(entry: (typeof GUEST_ENTRIES)[number], ...values: (string | number | Uint8Array | null | undefined)[]): void {
    this.vm.callFunction(this.#entries.getProp(entry), this.vm.undefined, ...values.map((value) => this.#toGuest(value))).dispose()
  }

  invoke(input: Input = {}): Output {
    this.#out = emptyOutput()
    this.#pending = []
    this.#requestBody = toBytes(input.body ?? '')
    this.#requestChunks = (input.chunks ?? []).map(toBytes)
    const isEvent = input.kind === 'event'
    const url = input.url ?? (isEvent ? 'arn:aws:lambda:local:123456789012:function:hello' : 'http://hello.localhost/')
    const headers = input.headers ?? []
    const selection = selectionLine({ entrypoint: null, handler: 'fetch', props: null, ...input.selection })
    const head = `${selection === null ? '' : `${selection}\n`}req-1\n203.0.113.9\n${input.method ?? (isEvent ? 'POST' : 'GET')}\n${url}${headers.length === 0 ? '' : `\n${flat(headers)}`}`
    const number = callNumber(isEvent ? 1 : 0, input.method ?? (isEvent ? 'POST' : 'GET'), input.chunks !== undefined ? 2 : input.body !== undefined ? 1 : 0) | (selection === null ? 0 : CALL_SELECTED)
    const promise = this.vm.callFunction(this.#entries.getProp('dispatch'), this.vm.undefined, this.#toGuest(number), this.#toGuest(head))
    // Waiting at once is allowed; the executor's way, `settled`, is under test with the executor.
    if (!promise.isUndefined) this.vm.callFunction(this.#entries.getProp('follow'), this.vm.undefined, promise).dispose()
    this.#run(input.abortAfter ?? -1)
    return finish(this.#out)
  }

  #run(abortAfter: number): void {
    let settledCount = 0
    let idleTold = false
    for (;;) {
      this.#drainJobs()
      if (settledCount === abortAfter) {
        this.call('abort')
        this.#drainJobs()
        abortAfter = -1
      }
      if (this.#out.doneCount > 0) return
      const next = this.#takeNext()
      if (next === null && !idleTold) {
        idleTold = true
        this.call('idle')
        continue
      }
      if (next === null) {
        this.#out.hung = true
        return
      }
      this.#clockMs = Math.max(this.#clockMs, next.dueMs)
      const result = next.settle()
      if (result === null) continue
      this.call('settle', next.id, result.ok, result.value)
      settledCount++
    }
  }

  #drainJobs(): void {
    this.vm.executePendingJobs()
    for (const reason of this.#rejections.values()) this.vm.callFunction(this.#entries.getProp('unhandled'), this.vm.undefined, reason).dispose()
    this.#rejections.clear()
  }

  #takeNext(): Pending | null {
    const at = this.#pending.findIndex((pending) => pending.op !== OPERATIONS.TIMER)
    if (at >= 0) return this.#pending.splice(at, 1)[0] ?? null
    let first = 0
    for (const [i, pending] of this.#pending.entries()) if (pending.dueMs < (this.#pending[first]?.dueMs ?? 0)) first = i
    return this.#pending.splice(first, 1)[0] ?? null
  }

  trackRejection(promise: JSValueHandle, reason: JSValueHandle, handled: boolean): void {
    if (handled) this.#rejections.delete(promise.identity)
    else this.#rejections.set(promise.identity, reason.dup())
  }

  #toGuest(value: unknown): JSValueHandle {
    const vm = this.vm
    if (value instanceof Uint8Array) return vm.newArrayBuffer(value)
    if (value === undefined) return vm.undefined
    if (value === null) return vm.null
    if (typeof value === 'string') return vm.newString(value)
    if (typeof value === 'number') return vm.newNumber(value)
    return value === true ? vm.true : vm.false
  }

  /** One of HOST_CALLS. */
  hostCall(name: keyof typeof HOST_CALLS, rest: readonly JSValueHandle[]): unknown {
    const out = this.#out
    const text = (index: number): string => rest[index]?.toString() ?? ''
    const value = (index: number): IntlValue => (rest[index]?.isNumber === true ? rest[index].toNumber() : rest[index]?.isUndefined === false ? this.#textWithMark(rest[index]) : '')
    switch (name) {
      case 'respond': {
        const what = rest[0]?.toNumber() ?? 0
        if ((what & RESPOND_DONE) !== 0) out.doneCount++
        if (out.respondCount++ > 0) return undefined
        out.status = what & RESPOND_STATUS
        const wire = what >> RESPOND_WIRE_SHIFT
        const headers = wire === 0 ? text(2) : (RESPOND_WIRES[wire] ?? '')
        out.headers = headers === '' ? [] : pairs(headers.split('\n'))
        out.streamed = (what & RESPOND_MORE) !== 0
        if (rest[1]?.isNull === false) out.chunks.push(bytesOf(rest[1]))
        out.ended = !out.streamed
        return undefined
      }
      case 'write':
        out.chunks.push(bytesOf(rest[0]))
        return !(this.#options.fullAtWrites ?? []).includes(out.writes++)
      case 'end':
        out.ended = true
        return undefined
      case 'fail':
        out.failure ??= { name: text(0), message: text(1), stack: text(2) }
        return undefined
      case 'done':
        out.doneCount++
        return undefined
      case 'bodyText':
        return new TextDecoder().decode(this.#requestBody)
      case 'bodyBytes':
        return this.#requestBody
      case 'log':
        out.logs.push(`${rest[0]?.toNumber() ?? 0} ${text(1)}`)
        return undefined
      case 'random':
        this.#refuseWhileBuilding('ERR_BUNDLE_ENTROPY')
        return new Uint8Array(randomBytes(rest[0]?.toNumber() ?? 0))
      case 'digest':
        return new Uint8Array(createHash(text(0).replace('-', '')).update(bytesOf(rest[1])).digest())
      case 'compute':
        return compute(text(0), bytesOf(rest[1]))
      case 'secret':
        this.#refuseWhileBuilding('ERR_BUNDLE_SECRET')
        return this.#options.secrets?.[text(0)] ?? null
      case 'remainingMs':
        return 30_000 - this.#clockMs
      case 'start':
        this.#refuseWhileBuilding('ERR_BUNDLE_HANDLE')
        return this.#start(rest[0]?.toNumber() ?? 0, rest)
      case 'cancel':
        out.canceled++
        this.#pending = this.#pending.filter((pending) => pending.id !== rest[0]?.toNumber())
        return undefined
      case 'utf8Encode':
        return utf8.encode(this.#textWithMark(rest[0]))
      case 'utf8Decode':
        try {
          return new TextDecoder('utf-8', { fatal: rest[1]?.toBoolean() ?? false, ignoreBOM: rest[2]?.toBoolean() ?? false }).decode(bytesOf(rest[0]))
        } catch {
          return null // Fatal and not UTF-8.
        }
      case 'legacyDecode':
        return rest[1]?.isNull === true ? legacyName(text(0)) : legacyDecode(text(0), bytesOf(rest[1]), rest[2]?.toNumber() ?? 0)
      case 'site':
        this.#refuseWhileBuilding('ERR_BUNDLE_HANDLE')
        return 'test-site'
      case 'warn':
        this.warnings.push(text(0))
        return undefined
      case 'intl':
        return this.#intl.perform('test', text(0), text(1), value(2), value(3))
    }
  }

  /** The stock class drops a leading BOM when it reads a string, so the guest puts a letter before it. */
  #textWithMark(handle: JSValueHandle | undefined): string {
    this.#prefix ??= this.vm.evalCode('(text) => "x" + text')
    return handle === undefined ? '' : this.vm.callFunction(this.#prefix, this.vm.undefined, handle).toString().slice(1)
  }

  #refuseWhileBuilding(code: string): void {
    if (this.#building) throw new TypeError(code)
  }

  #start(op: number, rest: readonly JSValueHandle[]): number {
    const id = this.#nextId++
    const add = (settle: Pending['settle'], dueMs = 0): void => {
      this.#pending.push({ id, op, dueMs, settle })
    }
    if (op === OPERATIONS.TIMER) add(() => ({ ok: 1, value: undefined }), this.#clockMs + (rest[1]?.toNumber() ?? 0))
    else if (op === OPERATIONS.DRAIN) {
      this.#out.drains++
      add(() => ({ ok: 1, value: undefined }))
    } else if (op === OPERATIONS.BODY) add(() => ({ ok: 1, value: this.#requestChunks.shift() ?? null }))
    else if (op === OPERATIONS.READ) {
      const chunks = this.#bodies.get(rest[1]?.toNumber() ?? 0) ?? []
      add(() => ({ ok: 1, value: chunks.shift() ?? null }))
    } else if (op === OPERATIONS.FETCH) {
      const lines = (rest[1]?.toString() ?? '').split('\n')
      const request = { method: lines[0] ?? '', url: lines[1] ?? '', redirect: lines[2] ?? '', headers: pairs(lines.slice(3)), body: rest[2] === undefined || rest[2].isNull ? null : bytesOf(rest[2]) }
      add(() => this.#answerFetch(id, request))
    } else if (op === OPERATIONS.SUBTLE) {
      const request = rest[1]?.toString() ?? ''
      const data = bytesOf(rest[2])
      add(() => {
        const answer = subtleNow(request, data)
        if (answer.kind === 'failed') return { ok: 0, value: `${answer.name}\n${answer.message}` }
        return { ok: 1, value: answer.kind === 'bytes' ? answer.bytes : answer.text }
      })
    }
    return id
  }

  #answerFetch(id: number, request: FetchedRequest): ReturnType<Pending['settle']> {
    const answer = this.#options.fetch?.(request) ?? { error: 'TypeError\nfetch failed\nERR_FETCH_FAILED' }
    if (answer.hangs === true) return null
    if (answer.error !== undefined) return { ok: 0, value: answer.error }
    this.#bodies.set(id, (answer.chunks ?? []).map(toBytes))
    const headers = answer.headers ?? []
    return { ok: 1, value: `${answer.status ?? 200}\n${answer.statusText ?? 'OK'}\n${answer.url ?? request.url}\n${answer.url === undefined ? '0' : '1'}${headers.length === 0 ? '' : `\n${flat(headers)}`}` }
  }
}

function bytesOf(handle: JSValueHandle | undefined): Uint8Array {
  if (handle === undefined) return new Uint8Array(0)
  return handle.isString ? utf8.encode(handle.toString()) : handle.toUint8Array()
}

interface Collected {
  status: number
  headers: [string, string][]
  chunks: Uint8Array[]
  streamed: boolean
  ended: boolean
  failure: Output['failure']
  respondCount: number
  doneCount: number
  writes: number
  logs: string[]
  hung: boolean
  drains: number
  canceled: number
}

function emptyOutput(): Collected {
  return { status: 0, headers: [], chunks: [], streamed: false, ended: false, failure: null, respondCount: 0, doneCount: 0, writes: 0, logs: [], hung: false, drains: 0, canceled: 0 }
}

function finish(out: Collected): Output {
  const body = new Uint8Array(Buffer.concat(out.chunks))
  return { ...out, body, text: new TextDecoder().decode(body) }
}

/** The machine of a module and one invocation of it. */
export async function run(source: string, input: Input = {}, options: MachineOptions = {}): Promise<Output> {
  const machine = await Machine.create(source, options)
  return machine.invoke(input)
}
