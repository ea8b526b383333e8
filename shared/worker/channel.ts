/**
 * The shared memory between a front door's thread and one worker thread: invocations go in by a ring of entries that
 * the worker pulls from, answers come back by a ring of bytes. No structured clone, no garbage.
 *
 *   control   Int32 cells: wake-up counters, ring positions, what the worker is doing
 *   entries   ENTRY_COUNT records of ENTRY_BYTES: one invocation each, with head and body when they fit
 *   answers   one byte ring, records aligned to 8 bytes, never split: a skip record fills the end
 *
 * C1  An entry is FREE, READY (filled, unstarted) or CLAIMED. READY -> CLAIMED by the worker and READY -> FREE by the
 *     host are compare-and-sets, so an unstarted invocation is started or taken back, never both.
 * C2  Each ring position has one writer. Positions only grow (modulo 2^32); emptiness is equality.
 */
import { CodedError } from '../errors.ts'
import type { SessionInput } from './types.ts'

export const ENTRY_COUNT = 32
export const ENTRY_BYTES = 64 * 1024
/**
 * Unstarted invocations that may wait at a thread: some 500 us of work for usual functions, so that neither thread waits for
 * the other. What waits behind a slow one is taken back, if there is another thread; else few wait there.
 */
export const UNSTARTED_MAX = 28
export const UNSTARTED_ALONE_MAX = 6
/** Results (heads and ends each count) after which a sleeping front door is woken although the worker has more to do. */
const WAKE_BATCH = 6
const ANSWER_BYTES = 2 * 1024 * 1024
/** A record of the answer ring at most; longer bodies go in several. */
export const RECORD_MAX_BYTES = 256 * 1024
const CONTROL_CELLS = 64
const ENTRY_HEADER_BYTES = 64
export const ENTRY_PAYLOAD_BYTES = ENTRY_BYTES - ENTRY_HEADER_BYTES

/** Control cells. */
const WORKER_WAKE = 0
const WORKER_SLEEPS = 1
const HOST_SLEEPS = 2
const HOST_WAKE = 3
const TAIL = 4
const HEAD = 5
const ANSWER_WRITE = 6
const ANSWER_READ = 7
const MESSAGES_POSTED = 8
const CURRENT_RUN = 9
const CANCELED_RUN = 10
const TURNS = 11
const RING_FULL = 12

const FREE = 0
const READY = 1
const CLAIMED = 2

/**
 * Kinds of records, with their three numbers and their bytes.
 *   HEAD      status, start kind + flags, length of the headers: headers, body
 *   DATA      -: a chunk of the body
 *   BODY_END  -
 *   END       outcome, start kind, what was kept (KEPT): four float64 (CPU us, wall us, dirty pages, memory bytes), then JSON if there is more to say
 *   LOG       level: a line
 *   STARTED   -: the run of a streamed request body is here, its chunks may be posted
 *   STATE     bytes in all: the next part of a session's machine as the run left it
 *   SERVICE   call, length of the head, 1 if more of the body follows: a service call's head, body
 *   SERVICE_BODY   call, operation to settle (0: none), 1 at the end: a piece of its request body
 *   SERVICE_TAKEN  call, bytes of its answer that the guest has read
 *   SERVICE_CANCEL call: nobody wants its answer
 */
export const RECORD = { SKIP: 0, HEAD: 1, DATA: 2, BODY_END: 3, END: 4, LOG: 5, STARTED: 6, STATE: 7, SERVICE: 8, SERVICE_BODY: 9, SERVICE_TAKEN: 10, SERVICE_CANCEL: 11, TAKEN: 12 } as const
/** By number, what became of a session's machine. */
export const KEPT = ['lost', 'kept', 'tooLarge'] as const
export const HEAD_START_KIND_MASK = 0xff
export const HEAD_LAST = 0x100
export const HEAD_HAS_BODY = 0x200
export const END_NUMBERS_BYTES = 32
/** Bytes of a streamed response that may be on their way to a front door unacknowledged. */
export const RESPONSE_WINDOW_BYTES = 256 * 1024

export interface ChannelMemory {
  readonly control: SharedArrayBuffer
  readonly entries: SharedArrayBuffer
  readonly answers: SharedArrayBuffer
}

export function createChannelMemory(): ChannelMemory {
  return {
    control: new SharedArrayBuffer(CONTROL_CELLS * 4),
    entries: new SharedArrayBuffer(ENTRY_COUNT * ENTRY_BYTES),
    answers: new SharedArrayBuffer(ANSWER_BYTES),
  }
}

/** Wakes a worker that sleeps in `WorkerChannel.wait`; usable from any thread that has the control memory. */
export function wakeWorker(control: Int32Array): void {
  Atomics.add(control, WORKER_WAKE, 1)
  if (Atomics.load(control, WORKER_SLEEPS) !== 0) Atomics.notify(control, WORKER_WAKE)
}

/** Tells a worker that a message lies in one of its ports; usable from any thread that has the control memory. */
export function postedToWorker(control: Int32Array): void {
  Atomics.add(control, MESSAGES_POSTED, 1)
  wakeWorker(control)
}

/** Fields of an entry, as 32-bit cells. */
const ENTRY = { STATE: 0, RUN: 1, BUILD: 2, CALL: 3, FLAGS: 4, HEAD_BYTES: 5, BODY_BYTES: 6, KEEP_MAX_BYTES: 7, DEADLINE: 8, STATE_BYTES: 10 } as const
export const FLAG_BODY = 1
export const FLAG_BODY_MORE = 2
export const FLAG_LOGS = 4
/** A session's: two more cells say of what size, and its machine lies behind the body. */
export const FLAG_SESSION = 8

/** `bytes` is valid only during the call. */
export type OnRecord = (type: number, runId: number, a: number, b: number, c: number, bytes: Uint8Array) => void

/** The front door's end. */
export class HostChannel {
  readonly memory: ChannelMemory
  readonly control: Int32Array
  readonly unstartedMax: number
  readonly #entries: Buffer
  readonly #cells: Int32Array
  readonly #deadlines: Float64Array
  readonly #answers: Uint8Array
  readonly #records: Int32Array
  #tail = 0
  #read = 0

  /** At most UNSTARTED_MAX. */
  constructor(memory: ChannelMemory, unstartedMax: number) {
    this.memory = memory
    this.control = new Int32Array(memory.control)
    this.unstartedMax = unstartedMax
    this.#entries = Buffer.from(memory.entries)
    this.#cells = new Int32Array(memory.entries)
    this.#deadlines = new Float64Array(memory.entries)
    this.#answers = new Uint8Array(memory.answers)
    this.#records = new Int32Array(memory.answers)
  }

  /** Invocations handed over and not finished with their first turn: the one that runs, and the unstarted ones. */
  get pending(): number {
    return (this.#tail - Atomics.load(this.control, HEAD)) | 0
  }

  get currentRun(): number {
    return Atomics.load(this.control, CURRENT_RUN)
  }

  /** Grows by one with each turn: a worker whose count stands still while it has a current run is inside one guest. */
  get turns(): number {
    return Atomics.load(this.control, TURNS)
  }

  /**
   * Hands an invocation over. Returns 'full' when no more may wait there, 'large' when head and body do not fit
   * (`body` null then), else 'sent'.
   */
  send(runId: number, build: number, call: number, flags: number, deadlineAtMs: number, head: string, body: Uint8Array | null, session: SessionInput | null): 'sent' | 'full' | 'large' {
    if (this.pending > this.unstartedMax) return 'full'
    const index = this.#tail % ENTRY_COUNT
    const cell = index * (ENTRY_BYTES / 4)
    if (Atomics.load(this.#cells, cell) !== FREE) return 'full'
    const bodyBytes = (body?.length ?? 0) + (session?.state?.length ?? 0)
    const at = index * ENTRY_BYTES + ENTRY_HEADER_BYTES
    // Three bytes a character is UTF-8's most; the exact length is known after writing.
    if (head.length * 3 + bodyBytes > ENTRY_PAYLOAD_BYTES && Buffer.byteLength(head) + bodyBytes > ENTRY_PAYLOAD_BYTES) return 'large'
    const headBytes = this.#entries.write(head, at, ENTRY_PAYLOAD_BYTES, 'utf8')
    if (body !== null) this.#entries.set(body, at + headBytes)
    const cells = this.#cells
    if (session !== null) {
      if (session.state !== null) this.#entries.set(session.state, at + headBytes + (body?.length ?? 0))
      cells[cell + ENTRY.KEEP_MAX_BYTES] = session.keepMaxBytes
      cells[cell + ENTRY.STATE_BYTES] = session.state?.length ?? 0
      flags |= FLAG_SESSION
    }
    cells[cell + ENTRY.RUN] = runId
    cells[cell + ENTRY.BUILD] = build
    cells[cell + ENTRY.CALL] = call
    cells[cell + ENTRY.FLAGS] = flags | (body === null ? 0 : FLAG_BODY)
    cells[cell + ENTRY.HEAD_BYTES] = headBytes
    cells[cell + ENTRY.BODY_BYTES] = body?.length ?? 0
    this.#deadlines[(cell + ENTRY.DEADLINE) / 2] = deadlineAtMs
    Atomics.store(cells, cell, READY)
    this.#tail = (this.#tail + 1) >>> 0
    Atomics.store(this.control, TAIL, this.#tail | 0)
    wakeWorker(this.control)
    return 'sent'
  }

  /** Takes unstarted invocations back, newest first. */
  takeBack(): number[] {
    const taken: number[] = []
    for (let back = 1; back <= ENTRY_COUNT; back++) {
      const cell = ((this.#tail - back + 2 ** 32) % ENTRY_COUNT) * (ENTRY_BYTES / 4)
      if (Atomics.compareExchange(this.#cells, cell, READY, FREE) === READY) taken.push(this.#cells[cell + ENTRY.RUN] ?? 0)
    }
    return taken
  }

  /** Asks the run to stop if it is the one inside the guest now. */
  cancel(runId: number): void {
    if (this.currentRun === runId) Atomics.store(this.control, CANCELED_RUN, runId)
  }

  /** Tells the worker that a message lies in its port. */
  messagePosted(): void {
    postedToWorker(this.control)
  }

  /** Reads records until there are none or `max` were read. `bytes` is valid only during the call. Returns how many. */
  poll(max: number, onRecord: OnRecord): number {
    const write = Atomics.load(this.control, ANSWER_WRITE) >>> 0
    let count = 0
    while (this.#read !== write && count < max) {
      const at = this.#read % ANSWER_BYTES
      const cell = at / 4
      const records = this.#records
      const length = records[cell + 1] ?? 0
      const type = records[cell] ?? 0
      if (type !== RECORD.SKIP) {
        onRecord(type, records[cell + 2] ?? 0, records[cell + 3] ?? 0, records[cell + 4] ?? 0, records[cell + 5] ?? 0, this.#answers.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length))
        count++
      }
      this.#read = (this.#read + recordBytes(length)) >>> 0
      Atomics.store(this.control, ANSWER_READ, this.#read | 0)
    }
    if (count > 0 && Atomics.load(this.control, RING_FULL) !== 0) Atomics.notify(this.control, ANSWER_READ)
    return count
  }

  get hasRecords(): boolean {
    return Atomics.load(this.control, ANSWER_WRITE) >>> 0 !== this.#read
  }

  /** Resolves when the worker has written something. Null: something is there already. */
  sleep(): Promise<unknown> | null {
    const seen = Atomics.load(this.control, HOST_WAKE)
    Atomics.store(this.control, HOST_SLEEPS, 1)
    if (this.hasRecords) {
      Atomics.store(this.control, HOST_SLEEPS, 0)
      return null
    }
    const waiting = Atomics.waitAsync(this.control, HOST_WAKE, seen)
    return waiting.async ? waiting.value : null
  }

  awake(): void {
    Atomics.store(this.control, HOST_SLEEPS, 0)
  }
}

const RECORD_HEADER_BYTES = 24

function recordBytes(length: number): number {
  return (RECORD_HEADER_BYTES + length + 7) & ~7
}

/** An invocation as the worker reads it; views are valid until `release`. */
export interface Entry {
  runId: number
  build: number
  call: number
  flags: number
  deadlineAtMs: number
  head: Uint8Array
  body: Uint8Array | null
  session: SessionInput | null
}

/** The worker's end. */
export class WorkerChannel {
  readonly control: Int32Array
  readonly #cells: Int32Array
  readonly #deadlines: Float64Array
  readonly #entries: Uint8Array
  readonly #answers: Buffer
  readonly #records: Int32Array
  #head = 0
  #write = 0
  #messagesSeen = 0
  #unwoken = 0
  /** What the front door has been shown. */
  #shown = 0

  constructor(memory: ChannelMemory) {
    this.control = new Int32Array(memory.control)
    this.#cells = new Int32Array(memory.entries)
    this.#deadlines = new Float64Array(memory.entries)
    this.#entries = new Uint8Array(memory.entries)
    this.#answers = Buffer.from(memory.answers)
    this.#records = new Int32Array(memory.answers)
  }

  /** Claims the next invocation and runs `use` with it; false when none waits. */
  take(use: (entry: Entry) => void): boolean {
    for (; this.#head !== Atomics.load(this.control, TAIL) >>> 0; ) {
      const index = this.#head % ENTRY_COUNT
      const cell = index * (ENTRY_BYTES / 4)
      const claimed = Atomics.compareExchange(this.#cells, cell, READY, CLAIMED) === READY
      if (claimed) {
        const cells = this.#cells
        const at = index * ENTRY_BYTES + ENTRY_HEADER_BYTES
        const headBytes = cells[cell + ENTRY.HEAD_BYTES] ?? 0
        const bodyBytes = cells[cell + ENTRY.BODY_BYTES] ?? 0
        const flags = cells[cell + ENTRY.FLAGS] ?? 0
        use({
          runId: cells[cell + ENTRY.RUN] ?? 0, build: cells[cell + ENTRY.BUILD] ?? 0, call: cells[cell + ENTRY.CALL] ?? 0, flags,
          deadlineAtMs: this.#deadlines[(cell + ENTRY.DEADLINE) / 2] ?? 0,
          head: this.#entries.subarray(at, at + headBytes),
          body: (flags & FLAG_BODY) === 0 ? null : this.#entries.subarray(at + headBytes, at + headBytes + bodyBytes),
          session: (flags & FLAG_SESSION) === 0 ? null : this.#sessionOf(cell, at + headBytes + bodyBytes),
        })
        Atomics.store(this.#cells, cell, FREE)
      }
      this.#head = (this.#head + 1) >>> 0
      Atomics.store(this.control, HEAD, this.#head | 0)
      if (claimed) return true
    }
    return false
  }

  #sessionOf(cell: number, at: number): SessionInput {
    const stateBytes = this.#cells[cell + ENTRY.STATE_BYTES] ?? 0
    return { state: stateBytes === 0 ? null : this.#entries.subarray(at, at + stateBytes), keepMaxBytes: this.#cells[cell + ENTRY.KEEP_MAX_BYTES] ?? 0 }
  }

  get hasEntry(): boolean {
    return this.#head !== Atomics.load(this.control, TAIL) >>> 0
  }

  /** True once for each batch of posted messages. */
  takeMessageSignal(): boolean {
    const posted = Atomics.load(this.control, MESSAGES_POSTED)
    if (posted === this.#messagesSeen) return false
    this.#messagesSeen = posted
    return true
  }

  get hasMessages(): boolean {
    return Atomics.load(this.control, MESSAGES_POSTED) !== this.#messagesSeen
  }

  setCurrentRun(runId: number): void {
    Atomics.store(this.control, CURRENT_RUN, runId)
    Atomics.add(this.control, TURNS, 1)
  }

  isCanceled(runId: number): boolean {
    return Atomics.load(this.control, CANCELED_RUN) === runId
  }

  /** Writes a record; `first` and `second` are joined. Waits while the ring is full: the front door is slower than this thread. */
  write(type: number, runId: number, a: number, b: number, c: number, first: Uint8Array | null, second: Uint8Array | null): void {
    const length = (first?.length ?? 0) + (second?.length ?? 0)
    if (length > RECORD_MAX_BYTES) throw new CodedError('ERR_INTERNAL', ['a record is larger than the answer ring takes'])
    const needed = recordBytes(length)
    const untilEnd = ANSWER_BYTES - (this.#write % ANSWER_BYTES)
    if (needed > untilEnd) {
      this.#reserve(untilEnd)
      const cell = (this.#write % ANSWER_BYTES) / 4
      this.#records[cell] = RECORD.SKIP
      this.#records[cell + 1] = untilEnd - RECORD_HEADER_BYTES
      this.#write = (this.#write + untilEnd) >>> 0
    }
    this.#reserve(needed)
    const at = this.#write % ANSWER_BYTES
    const cell = at / 4
    const records = this.#records
    records[cell] = type
    records[cell + 1] = length
    records[cell + 2] = runId
    records[cell + 3] = a
    records[cell + 4] = b
    records[cell + 5] = c
    if (first !== null) this.#answers.set(first, at + RECORD_HEADER_BYTES)
    if (second !== null) this.#answers.set(second, at + RECORD_HEADER_BYTES + (first?.length ?? 0))
    this.#write = (this.#write + needed) >>> 0
  }

  /**
   * Shows what was written to the front door. If that sleeps it is woken, but for a few results not yet while the next
   * invocation is waiting here: waking costs both sides more than a record. `wakeHost` makes up for it before this
   * thread sleeps, and with each slice of a guest that takes long.
   */
  flush(): void {
    if (this.#shown === this.#write) return
    this.#shown = this.#write
    Atomics.store(this.control, ANSWER_WRITE, this.#write | 0)
    this.#unwoken++
    if (this.#unwoken >= WAKE_BATCH || !this.hasEntry) this.wakeHost()
  }

  wakeHost(): void {
    if (this.#unwoken === 0) return
    this.#unwoken = 0
    if (Atomics.load(this.control, HOST_SLEEPS) !== 0) {
      Atomics.store(this.control, HOST_SLEEPS, 0)
      Atomics.add(this.control, HOST_WAKE, 1)
      Atomics.notify(this.control, HOST_WAKE)
    }
  }

  /** Sleeps until something arrives or `timeoutMs` passed. */
  wait(timeoutMs: number): void {
    const seen = Atomics.load(this.control, WORKER_WAKE)
    Atomics.store(this.control, WORKER_SLEEPS, 1)
    if (!this.hasEntry && !this.hasMessages) Atomics.wait(this.control, WORKER_WAKE, seen, timeoutMs)
    Atomics.store(this.control, WORKER_SLEEPS, 0)
  }

  get wakeCount(): number {
    return Atomics.load(this.control, WORKER_WAKE)
  }

  #reserve(bytes: number): void {
    for (;;) {
      const read = Atomics.load(this.control, ANSWER_READ)
      if (ANSWER_BYTES - ((this.#write - (read >>> 0)) >>> 0) >= bytes) return
      this.flush()
      this.wakeHost()
      Atomics.store(this.control, RING_FULL, 1)
      Atomics.wait(this.control, ANSWER_READ, read, 100)
      Atomics.store(this.control, RING_FULL, 0)
    }
  }
}
