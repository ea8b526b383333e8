/**
 * The slots of one worker thread and the runs in them. One guest turn at a time: a turn enters the guest, drains its
 * jobs, and leaves it either ended or waiting at an await with an empty wasm stack.
 *
 *   start ──> turn ──> ended ──> reset (after the answer has left)
 *               └────> waiting ──> (parked when slots run short) ──> settle ──> turn ...
 *
 * X1  Every run starts from its function's image and its slot is reset after it, whatever ended it.
 * X2  Between turns no slot runs, so any waiting machine may be parked and its slot given away.
 * X3  The host grants fuel in slices; between slices it looks at CPU time, deadline and the cancel cell. Nothing a
 *     guest does, native loops of the engine included, runs longer than a slice without that look.
 * X4  A host exception that crossed guest frames, or a slot that fails the oracle, destroys the slot.
 * X5  A session's machine is captured between its run's last turn and the reset, and only if the guest left that turn
 *     by itself. What is captured is restored into a clean slot, by which X1 holds for sessions too.
 * X6  A run that is stopped at a limit has one more slice, in which it is found out where it was (stopping.ts).
 */
import { randomFillSync } from 'node:crypto'
import { toCodedError } from '../errors.ts'
import { IdTable } from '../id-table.ts'
import { IntlHost } from '../intl/intl-host.ts'
import { MIB } from '../limits.ts'
import type { ResidentImage } from './arena.ts'
import { Binding, type GuestValue } from './binding.ts'
import type { ExecutorCounts, ExecutorOptions } from './executor-options.ts'
import { handleHostCall, type HostCallContext } from './host-calls.ts'
import { Rejections } from './rejections.ts'
import { Run, type RunSpec, type ServiceInflow } from './run.ts'
import { explainTrap, limitBackground, noteException, stopAtDeadline, stopAtLimit } from './run-faults.ts'
import type { MachineRuntime } from './runtime.ts'
import { InflowFeeder } from './inflow-feeder.ts'
import { nextSeed } from './seeds.ts'
import { captureSession, FIRST_COLLECT_BYTES } from './session-capture.ts'
import { parkedBytes, Slot } from './slot.ts'
import { describeWaiting } from './shown-exception.ts'
import { interrupt, lastSlice } from './stopping.ts'
import { TimerQueue } from './timer-queue.ts'
import { TurnClock } from './turn-clock.ts'

/** Fuel of one slice: about 1 ms of guest time, so that a look costs well below 1 %. */
const FUEL_SLICE = 200_000
/** A machine that wrote more than 8 MiB keeps its slot: taking that out would hold up everybody. */
const PARK_PAGES_MAX = 2_048
/** Waiting machines that are tried, longest waiting first, when a slot is needed. */
const PARK_TRIES = 4
/** A slot grown beyond this is kept for functions that need it, as long as they come and the budget allows. */
const LARGE_SLOT_BYTES = 16 * MIB
const LARGE_SLOT_IDLE_MS = 30_000

interface PooledSlot {
  readonly slot: Slot
  readonly binding: Binding
  run: Run | null
  lastUsedMs: number
  /** What of it is in `#slotBytes`. */
  countedBytes: number
}

export class Executor {
  readonly counts: ExecutorCounts = { starts: 0, warm: 0, reimaged: 0, resumed: 0, parked: 0, lateSettles: 0, slotsDestroyed: 0, scrubs: 0 }
  readonly #options: ExecutorOptions
  readonly #runtime: MachineRuntime
  readonly #pool: PooledSlot[] = []
  readonly #bySlot = new Map<Slot, PooledSlot>()
  readonly #runs = new IdTable<Run>()
  readonly #timers = new TimerQueue()
  readonly #rejections = new Rejections()
  #current: PooledSlot | null = null
  readonly #clock: TurnClock
  #nextOperationId = 1
  #parkedBytes = 0
  /** Physical bytes of all slots, kept up to date after each turn: a sum over all of them would cost every start. */
  #slotBytes = 0
  #missingSlots = 0
  readonly #context: HostCallContext
  readonly #inflows: InflowFeeder

  constructor(options: ExecutorOptions) {
    this.#options = options
    this.#runtime = options.runtime
    this.#clock = new TurnClock(options)
    this.#inflows = new InflowFeeder((...settled) => this.settle(...settled), options.output)
    this.#context = {
      run: () => this.#runInGuest(),
      runtime: options.runtime,
      output: options.output,
      policy: null, siteName: options.siteName ?? 'local',
      intl: new IntlHost(() => options.releaseMemory?.()), nextOperationId: () => this.#nextOperationId++,
      startTimer: (run, id, delayMs) => this.#timers.add(options.nowMs() + delayMs, run.spec.id, id),
      nowMs: () => options.nowMs(),
    }
    for (let index = 0; index < options.slotCount; index++) this.#createSlot()
  }

  get runCount(): number {
    return this.#runs.size
  }

  get slotCount(): number {
    return this.#pool.length
  }

  /** Slots that hold no run: clean, by S1. The scrubber and the tests of the oracle look at them. */
  get idleSlots(): readonly Slot[] {
    return this.#pool.filter(({ run }) => run === null).map(({ slot }) => slot)
  }

  get parkedCount(): number {
    let parked = 0
    for (const run of this.#runs.values()) if (run.residence.kind === 'parked') parked++
    return parked
  }

  get residentBytes(): number {
    return this.#slotBytes + this.#parkedBytes
  }

  /** When `runTimers` has work next, monotonic ms; Infinity for never. */
  get nextTimerAtMs(): number {
    return this.#timers.nextAtMs
  }

  /** Starts an invocation. `head` is copied into the guest during the call. */
  start(spec: RunSpec, head: Uint8Array): void {
    const run = new Run(spec, this.#options.nowMs())
    this.#runs.add(spec.id, run)
    this.counts.starts++
    // What is there of a streamed body is its first chunk.
    if (spec.bodyStreamed && spec.body !== null) run.bodyChunks.push(spec.body.slice())
    const pooled = this.#takeSlot(spec.image)
    if (pooled === null) {
      run.stop('loadShed', 'ERR_NO_CAPACITY', [Math.floor(this.#options.residentMaxBytes / MIB)])
      this.#end(run, null)
      return
    }
    if (pooled.slot.image.table === spec.image.table) this.counts.warm++
    else {
      pooled.slot.reimage(spec.image)
      this.#account(pooled)
      run.startKind = 'reimaged'
      this.counts.reimaged++
    }
    this.#occupy(pooled, run)
    const limitPages = this.#limitPages(run, pooled.slot)
    pooled.slot.arm(limitPages)
    if (spec.keepMaxBytes > 0 && !this.#restore(pooled, run, limitPages)) return
    this.#reseed(pooled)
    this.#turn(pooled, run, (binding) => {
      if (spec.state !== null) this.#renew(run, binding)
      return binding.call(this.#runtime.entries.dispatch, [binding.newNumber(spec.call), binding.newStringFrom(head)])
    })
    if (run.ended) return
    // Most runs end in their first turn and need no timer. The caller's buffer is used again after this call.
    this.#timers.add(spec.deadlineAtMs, spec.id, 0)
    if (run.body !== null) run.body = run.body.slice()
  }

  /** Settles an operation. `make` builds the value inside the guest. Late settles are dropped and counted (R1). */
  settle(runId: number, id: number, ok: boolean, make: (binding: Binding) => GuestValue): void {
    const run = this.#runs.get(runId)
    if (run === undefined || !run.forget(id)) {
      this.counts.lateSettles++
      return
    }
    const pooled = this.#resume(run)
    if (pooled === null) return
    this.#turn(pooled, run, (binding) => binding.hand(this.#runtime.entries.settle, [binding.newNumber(id), binding.newNumber(ok ? 1 : 0), make(binding)]))
  }

  /** Settles the guest's pending read of an outbound response's body. */
  settleRead(runId: number, fetchId: number, chunk: Uint8Array | null): void {
    const run = this.#runs.get(runId)
    if (chunk === null) run?.forgetFetch(fetchId)
    for (const [id, operation] of run?.operations ?? []) {
      if (operation.kind !== 'read' || operation.fetchId !== fetchId) continue
      this.settle(runId, id, true, (binding) => (chunk === null ? binding.newNull() : binding.newArrayBuffer(chunk)))
      return
    }
    this.counts.lateSettles++
  }

  /** An outbound request or a compression stream failed: rejects it, or what is read of it or written to it. `reason`: `name\nmessage\ncode`. */
  failFetch(runId: number, fetchId: number, reason: string): void {
    const run = this.#runs.get(runId)
    run?.forgetFetch(fetchId)
    const failed = [...(run?.operations ?? [])].filter(([id, operation]) => id === fetchId || ((operation.kind === 'read' || operation.kind === 'write') && operation.fetchId === fetchId))
    if (failed.length === 0) this.counts.lateSettles++
    for (const [id] of failed) this.settle(runId, id, false, (binding) => binding.newString(reason))
  }

  /** A piece of a service's answer, or what ended it. */
  serviceData(runId: number, serviceId: number, data: Uint8Array | NonNullable<ServiceInflow['end']>): void {
    const run = this.#runs.get(runId)
    if (run !== undefined) this.#inflows.take(run, serviceId, data)
  }

  /** A chunk of a streamed request body, or its end (null). */
  body(runId: number, chunk: Uint8Array | null): void {
    const run = this.#runs.get(runId)
    if (run === undefined) return
    if (chunk === null) run.bodyEnded = true
    else run.bodyChunks.push(chunk)
    this.#inflows.feedBody(run)
  }

  /** The reader has taken `bytes` of the response body; below `windowBytes` the guest may go on writing. */
  acknowledge(runId: number, bytes: number, windowBytes: number): void {
    const run = this.#runs.get(runId)
    if (run === undefined) return
    run.unacknowledgedBytes -= bytes
    if (!run.paused || run.unacknowledgedBytes >= windowBytes) return
    run.paused = false
    for (const [id, operation] of run.operations) if (operation.kind === 'drain') this.settle(runId, id, true, (binding) => binding.newUndefined())
  }

  /** Ends a waiting run from outside; a running one sees it at its next slice. False: there is no such run. */
  cancel(runId: number): boolean {
    const run = this.#runs.get(runId)
    if (run === undefined) return false
    run.stop('canceled', 'ERR_CANCELED', [])
    this.#end(run, this.#pooledOf(run))
    return true
  }

  /** Settles due timers and ends runs past their deadline. */
  runTimers(): void {
    for (let due = this.#timers.takeDue(this.#options.nowMs()); due !== null; due = this.#timers.takeDue(this.#options.nowMs())) {
      const run = this.#runs.get(due.runId)
      if (run === undefined) continue
      if (due.id !== 0) {
        if (run.operations.has(due.id)) this.settle(due.runId, due.id, true, (binding) => binding.newUndefined())
        continue
      }
      run.where ??= describeWaiting(run)
      stopAtDeadline(run, this.#options.nowMs(), this.#options.output)
      this.#end(run, this.#pooledOf(run))
    }
  }

  /** No slot holds `image` any more when this returns: idle ones become blank; false if a run still uses it. */
  forgetImage(image: ResidentImage): boolean {
    for (const run of this.#runs.values()) if (run.spec.image.table === image.table) return false
    for (const { slot } of this.#pool) if (slot.image.table === image.table) slot.reimage(this.#runtime.prelude)
    return true
  }

  /** Work for an idle moment: replaces destroyed slots, checks one clean slot by the oracle. Returns whether more is left. */
  idle(scrub: boolean): boolean {
    if (this.#missingSlots > 0 && this.residentBytes < this.#options.residentMaxBytes) {
      this.#missingSlots--
      this.#createSlot()
      return this.#missingSlots > 0
    }
    if (scrub) {
      this.#retireLarge(null, LARGE_SLOT_IDLE_MS)
      this.#scrub()
    }
    return false
  }

  // -- slots

  #createSlot(): void {
    const { engine, arena, bases, prelude, scratch, undefinedValue } = this.#runtime
    const slot: Slot = new Slot(engine, arena, bases, prelude, {
      hostCall: (namePtr, _nameLength, _thisPtr, argc, argvPtr) => {
        const { binding } = pooled
        const result = handleHostCall(binding, this.#context, pooled.slot.bytes[namePtr >>> 0] ?? 0, argc, argvPtr)
        return binding.holdings === null ? result : binding.handOut(result)
      },
      refuel: () => this.#refuel(),
      interrupt: () => interrupt(this.#current?.run, pooled.binding, this.#runtime),
      promiseRejection: (promisePtr, reasonPtr, isHandled) => this.#rejections.note(pooled.binding, promisePtr, reasonPtr, isHandled !== 0),
      clock: (_clockId, resultPtr) => {
        pooled.binding.writeU64(resultPtr, BigInt(Math.round((pooled.run?.clockMs ?? 0) * 1000)) * 1000n)
        return 0
      },
      random: (pointer, length) => {
        pooled.binding.writeBytes(pointer, randomFillSync(new Uint8Array(Math.min(length >>> 0, 65_536))))
        return 0
      },
    })
    const pooled: PooledSlot = { slot, binding: new Binding(slot, scratch, undefinedValue), run: null, lastUsedMs: 0, countedBytes: 0 }
    this.#pool.push(pooled)
    this.#bySlot.set(slot, pooled)
    this.#account(pooled)
  }

  /** A clean slot: one that holds the image, else the one idle longest, else one whose waiting machine is parked. */
  #takeSlot(image: ResidentImage): PooledSlot | null {
    let idle: PooledSlot | null = null
    for (const pooled of this.#pool) {
      if (pooled.run !== null) continue
      if (pooled.slot.image.table === image.table) return pooled
      if (idle === null || pooled.lastUsedMs < idle.lastUsedMs) idle = pooled
    }
    if (idle !== null) return idle
    const waiting = this.#pool.toSorted((a, b) => a.lastUsedMs - b.lastUsedMs).slice(0, PARK_TRIES)
    return waiting.find((pooled) => this.#park(pooled)) ?? null
  }

  #park(pooled: PooledSlot): boolean {
    const { run, slot } = pooled
    if (run === null) return true
    if (slot.dirtyPages > PARK_PAGES_MAX) return false
    const state = slot.park()
    if (this.residentBytes + parkedBytes(state) > this.#options.residentMaxBytes) return false
    this.#parkedBytes += parkedBytes(state)
    run.residence = { kind: 'parked', state }
    pooled.run = null
    this.counts.parked++
    slot.reset()
    return true
  }

  /** Brings a waiting run back into a slot. Null when there is no room: the run has ended then. */
  #resume(run: Run): PooledSlot | null {
    const { residence } = run
    if (residence.kind === 'slot') return this.#pooledOf(run)
    if (residence.kind === 'nowhere') return null
    const pooled = this.#takeSlot(run.spec.image)
    if (pooled === null) {
      run.stop('loadShed', 'ERR_NO_CAPACITY', [Math.floor(this.#options.residentMaxBytes / MIB)])
      this.#end(run, null)
      return null
    }
    pooled.slot.reimage(run.spec.image)
    this.#parkedBytes -= parkedBytes(residence.state)
    this.#occupy(pooled, run)
    pooled.slot.arm(this.#limitPages(run, pooled.slot))
    pooled.slot.unpark(residence.state)
    this.#account(pooled)
    run.startKind = 'resumed'
    this.counts.resumed++
    return pooled
  }

  #account(pooled: PooledSlot): void {
    const { physicalBytes } = pooled.slot
    this.#slotBytes += physicalBytes - pooled.countedBytes
    pooled.countedBytes = physicalBytes
  }

  #occupy(pooled: PooledSlot, run: Run): void {
    pooled.run = run
    pooled.lastUsedMs = this.#options.nowMs()
    pooled.binding.holdings = run.holdings
    run.residence = { kind: 'slot', slot: pooled.slot }
  }

  /** Makes the slot's clean machine the session's. False: the run has ended. */
  #restore(pooled: PooledSlot, run: Run, limitPages: number): boolean {
    run.collectAboveBytes = FIRST_COLLECT_BYTES
    if (run.spec.state === null) return true
    try {
      run.collectAboveBytes = pooled.slot.restore(run.spec.state, limitPages).collectAboveBytes
    } catch (error) {
      const { code, params } = toCodedError(error)
      run.stop('platformFault', code, params)
      this.#end(run, pooled)
      return false
    }
    this.#account(pooled)
    run.startKind = 'resumed'
    this.counts.resumed++
    return true
  }

  /** Ends inside the guest what the session's last request left under way, before anything of the next one runs. */
  #renew(run: Run, binding: Binding): void {
    if (binding.isException(binding.call(this.#runtime.entries.renew, []))) noteException(run, binding)
    this.#runJobs(run, binding)
    // Whoever gave up on a promise that is rejected now need not be told.
    this.#rejections.clear()
  }

  #pooledOf(run: Run): PooledSlot | null {
    return run.residence.kind === 'slot' ? (this.#bySlot.get(run.residence.slot) ?? null) : null
  }

  /**
   * memory.grow's bound: the function's limit, and what the thread's budget has left beside this slot. Idle slots that
   * once grew give way first: touched memory does not go back to the system while its slot lives.
   */
  #limitPages(run: Run, slot: Slot): number {
    const wantedBytes = run.spec.limits.memoryMib * MIB
    const leftBytes = (): number => this.#options.residentMaxBytes - this.residentBytes + slot.physicalBytes
    if (leftBytes() < wantedBytes) this.#retireLarge(slot, 0)
    const budgetBytes = leftBytes()
    return Math.max(slot.image.virtualPages, Math.min(run.spec.limits.memoryMib * 16, Math.floor(budgetBytes / 65_536)))
  }

  /** Destroys idle slots above their class that were not used for `idleMs`. */
  #retireLarge(except: Slot | null, idleMs: number): void {
    const nowMs = this.#options.nowMs()
    const large = this.#pool.filter(({ run, slot, lastUsedMs }) => run === null && slot !== except && slot.physicalBytes > LARGE_SLOT_BYTES && nowMs - lastUsedMs >= idleMs)
    for (const pooled of large) this.#destroy(pooled)
    if (large.length > 0) this.#options.releaseMemory?.()
  }

  #destroy(pooled: PooledSlot): void {
    this.#pool.splice(this.#pool.indexOf(pooled), 1)
    this.#bySlot.delete(pooled.slot)
    this.#slotBytes -= pooled.countedBytes
    this.#missingSlots++
    this.counts.slotsDestroyed++
  }

  #scrub(): void {
    const idle = this.#pool.filter((pooled) => pooled.run === null)
    const pooled = idle[this.counts.scrubs++ % Math.max(1, idle.length)]
    if (pooled === undefined) return
    const difference = pooled.slot.verify()
    if (difference === null) return
    this.#options.incident(difference.what, pooled.slot.image)
    this.#destroy(pooled)
  }

  /** Fresh randomness for a restored machine: the 8 bytes of Math.random's state. */
  #reseed(pooled: PooledSlot): void {
    const seed = nextSeed()
    pooled.binding.writeU64(this.#runtime.randomState, seed === 0n ? 1n : seed)
  }

  // -- turns

  #turn(pooled: PooledSlot, run: Run, enter: (binding: Binding) => GuestValue): void {
    const { slot, binding } = pooled
    run.clockMs = this.#options.epochMs()
    this.#enterTurn(pooled, run)
    let hostFault: unknown = null
    try {
      const result = enter(binding)
      if (binding.isException(result)) noteException(run, binding)
      this.#runJobs(run, binding)
      if (binding.isObject(result) && run.kill === null) this.#settleHandler(run, binding, result)
      if (this.#rejections.size > 0) this.#reportRejections(run, binding)
    } catch (error) {
      hostFault = this.#noteTrap(run, slot, error)
    }
    this.#leaveTurn(pooled, run)
    if (hostFault !== null) {
      run.stop('platformFault', 'ERR_SANDBOX_FAULT', [hostFault instanceof Error ? hostFault.message : 'unknown'])
      this.#end(run, pooled)
      this.#destroyAfter(pooled)
      return
    }
    this.#afterTurn(pooled, run)
  }

  #enterTurn(pooled: PooledSlot, run: Run): void {
    this.#current = pooled
    pooled.lastUsedMs = this.#clock.begin(run.cpuUs === 0 ? 'first' : 'later')
    pooled.slot.grantFuel(FUEL_SLICE)
  }

  #leaveTurn(pooled: PooledSlot, run: Run): void {
    this.#rejections.clear()
    this.#current = null
    this.#account(pooled)
    run.cpuUs += this.#clock.usedMs() * 1000
  }

  #afterTurn(pooled: PooledSlot, run: Run): void {
    if (run.kill !== null || (run.done && (!run.responded || run.bodySent || run.failure !== null))) {
      this.#end(run, pooled)
      return
    }
    if (run.operations.size > 0) {
      limitBackground(run, this.#options.nowMs(), this.#timers)
      this.#inflows.feedBody(run)
      if (run.hasServices) this.#inflows.feed(run)
      return
    }
    if (!run.idleTold && !run.done) {
      run.idleTold = true
      this.#turn(pooled, run, (binding) => binding.call(this.#runtime.entries.idle, []))
      return
    }
    if (run.failure === null && !run.responded) run.stop('hung', 'ERR_FUNCTION_HUNG', [])
    this.#end(run, pooled)
  }

  /** R2: the one place where a run ends. The answer leaves first, then the slot is reset. */
  #end(run: Run, pooled: PooledSlot | null): void {
    if (run.ended) return
    run.ended = true
    this.#runs.delete(run.spec.id)
    for (const id of run.fetches) this.#options.output.fetchAbort(run, id)
    run.forgetAll()
    if (run.residence.kind === 'parked') this.#parkedBytes -= parkedBytes(run.residence.state)
    run.residence = { kind: 'nowhere' }
    if (pooled !== null) run.memoryBytes = pooled.slot.virtualBytes
    this.#options.output.flush()
    if (pooled !== null) {
      const unsound = run.holdings !== null && this.#keep(pooled, run) === 'faulted'
      pooled.run = null
      const { tableWritten } = pooled.slot
      run.dirtyPages = pooled.slot.reset()
      if (tableWritten || unsound) this.#destroy(pooled)
    }
    this.#options.output.end(run)
  }

  /** X5. Freeing and collecting run inside the guest, so they count as a turn of it, with its limits. */
  #keep(pooled: PooledSlot, run: Run): 'sound' | 'faulted' {
    const { slot, binding } = pooled
    // One that waits for what cannot come has left its turns by itself; all else that stops a run does so in their midst.
    const resting = (run.kill === null || run.kill.outcome === 'hung') && !run.trapped && !slot.tableWritten
    let hostFault: unknown = null
    if (resting) {
      this.#enterTurn(pooled, run)
      try {
        run.kept = captureSession(slot, binding, run.spec.keepMaxBytes, run.collectAboveBytes)
      } catch (error) {
        hostFault = this.#noteTrap(run, slot, error)
        if (hostFault !== null) run.stop('platformFault', 'ERR_SANDBOX_FAULT', [hostFault instanceof Error ? hostFault.message : 'unknown'])
      }
      this.#leaveTurn(pooled, run)
    }
    binding.holdings = null
    return hostFault === null ? 'sound' : 'faulted'
  }

  #destroyAfter(pooled: PooledSlot): void {
    if (this.#bySlot.has(pooled.slot)) this.#destroy(pooled)
  }

  /** X3. Returns 0 to go on with a new slice, 1 to stop. */
  #refuel(): number {
    const pooled = this.#current
    const run = pooled?.run
    if (pooled === null || run === null || run === undefined) return 1
    if (run.kill !== null) return lastSlice(run, pooled.binding, this.#runtime, FUEL_SLICE)
    const nowMs = this.#options.nowMs()
    if (this.#options.isCanceled(run.spec.id)) run.stop('canceled', 'ERR_CANCELED', [])
    else if (!stopAtLimit(run, nowMs, this.#clock.cpuMs(nowMs) + run.cpuUs / 1000)) {
      pooled.slot.grantFuel(FUEL_SLICE)
      return 0
    }
    return lastSlice(run, pooled.binding, this.#runtime, FUEL_SLICE)
  }

  /** What a trap means for the run; returns the error when it is a fault of the platform, else null. */
  #noteTrap(run: Run, slot: Slot, error: unknown): unknown {
    slot.clearStrayFlags()
    run.trapped = true
    return explainTrap(run, slot, error)
  }

  /** Promises that were rejected and have no handler though all jobs ran: the prelude logs them. */
  #reportRejections(run: Run, binding: Binding): void {
    for (const reason of this.#rejections.take()) {
      binding.call(this.#runtime.entries.unhandled, [reason])
      this.#runJobs(run, binding)
    }
  }

  #settleHandler(run: Run, binding: Binding, promise: GuestValue): void {
    const { settled, follow } = this.#runtime.entries
    // Rejected, it has a handler: us.
    if (this.#rejections.size > 0 && binding.isRejected(promise)) this.#rejections.forgive(binding, promise)
    if (binding.isException(binding.settleHandler(promise, settled, follow))) noteException(run, binding)
    this.#runJobs(run, binding)
  }

  #runJobs(run: Run, binding: Binding): void {
    while (run.kill === null) {
      const ran = binding.runJob()
      if (ran === 0) return
      if (ran < 0) noteException(run, binding)
    }
  }

  #runInGuest(): Run {
    const run = this.#current?.run
    if (run === null || run === undefined) throw new Error('a host call outside a turn')
    return run
  }
}
