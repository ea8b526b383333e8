/**
 * Client, server and network in one thread from one seed: streams open, write, pause, resume, cancel; runs answer, fail,
 * end in the middle; messages are delayed, connections cut, time passes. Afterwards everything must have come to an end
 * exactly once and nothing be left. A failure names its seed: `SEED=n node test/shared/link/simulation.test.ts`.
 */
import assert from 'node:assert/strict'
import t from 'tap'
import { ManualClock } from '../../../shared/clock.ts'
import { TokenIdentity } from '../../../shared/link/identity.ts'
import { LinkClient } from '../../../shared/link/link-client.ts'
import { LinkServer } from '../../../shared/link/link-server.ts'
import type { LinkAnswer, LinkInvocation, LinkStream, OpenInvocation } from '../../../shared/link/types.ts'
import { silentLog } from '../../../shared/log.ts'
import { seededRandom } from '../../../shared/random.ts'
import type { Random } from '../../../shared/random.ts'
import { openFrame, PUBLIC_KEY, RecordingSink, RESULT, TestHandler, TOKEN } from './harness.ts'
import { MemoryNetwork } from './memory-network.ts'

const STEPS = 400
const SEEDS = process.env.SEED === undefined ? Array.from({ length: 60 }, (_, index) => index + 1) : [Number(process.env.SEED)]

/** Echoes its request, sometimes with pauses; the simulation may make it fail at any time. */
class SimRun implements LinkInvocation {
  readonly answer: LinkAnswer
  readonly requestId: string
  readonly #random: Random
  canceled = 0
  ended = false
  paused = false

  constructor(open: OpenInvocation, answer: LinkAnswer, random: Random) {
    this.requestId = open.requestId
    this.answer = answer
    this.#random = random
    if (random.next() < 0.9) answer.started()
    answer.head(200, 'a\nb', 'warm', '1', open.body, false)
  }

  write(chunk: Uint8Array): boolean {
    const ready = this.answer.data(chunk)
    this.paused = this.#random.next() < 0.1 || !ready
    return !this.paused
  }

  writeEnd(): void {
    this.ended = true
    this.answer.bodyEnd()
    this.answer.end(RESULT, '1')
  }

  resume(): void {
    this.paused = false
    this.answer.resumeBody()
  }

  cancel(): void {
    this.canceled += 1
    if (this.#random.next() < 0.8) this.end()
  }

  end(): void {
    this.ended = true
    this.answer.end({ ...RESULT, outcome: 'canceled' }, '1')
  }

  fail(): void {
    this.ended = true
    this.answer.error({ code: 'ERR_WORKER_LOST', params: ['sim'] })
  }
}

interface Job {
  readonly sink: RecordingSink
  readonly stream: LinkStream
  readonly sent: Buffer[]
  finished: boolean
  canceled: boolean
}

class Simulation {
  readonly #random: Random
  readonly #clock = new ManualClock()
  readonly #network = new MemoryNetwork()
  readonly #runs: SimRun[] = []
  readonly #jobs: Job[] = []
  readonly #server: LinkServer
  readonly #client: LinkClient
  snapshots = 0
  cuts = 0

  constructor(seed: number) {
    const random = seededRandom(seed)
    this.#random = random
    const handler = new TestHandler()
    handler.invoke = (_popId, open, _deadlineAtMs, answer) => {
      if (random.next() < 0.02) throw new Error('sim')
      const run = new SimRun(open, answer, random)
      this.#runs.push(run)
      return run
    }
    this.#server = new LinkServer({ regionId: 'r', identity: new TokenIdentity(TOKEN), handler, clock: this.#clock, log: silentLog, bufferedMaxBytes: 3_000_000 })
    this.#network.listen(this.#server)
    this.#client = new LinkClient({
      url: 'ws://sim/link', token: TOKEN, popId: 'pop', publicKey: PUBLIC_KEY, clock: this.#clock, random, log: silentLog, dial: this.#network.dial, bufferedMaxBytes: 3_000_000, streamsMax: 50, holds: () => [{ account: 'a', functionName: 'f' }],
    })
    this.#client.onVersions((event) => {
      if (event.kind === 'snapshot') this.snapshots += 1
    })
    this.#client.onState((state) => {
      if (state.kind === 'open') assert.ok(this.snapshots > 0, 'open before the snapshot')
    })
  }

  async run(): Promise<void> {
    this.#client.start()
    for (let step = 0; step < STEPS; step += 1) {
      this.#act()
      if (this.#random.next() < 0.5) await turn()
    }
    await this.#settle()
    this.#check()
    this.#client.close()
    this.#server.close()
    await turn()
    await turn()
    assert.equal(this.#network.alive.length, 0)
  }

  #act(): void {
    const random = this.#random
    const roll = random.next()
    if (roll < 0.12) this.#open()
    else if (roll < 0.34) this.#pick(this.#jobs, (job) => {
      if (job.finished || job.canceled) return
      const chunk = Buffer.alloc(1 + random.below(random.next() < 0.2 ? 300_000 : 2_000), random.below(256))
      job.sent.push(chunk)
      job.stream.write(chunk)
    })
    else if (roll < 0.42) this.#pick(this.#jobs, (job) => {
      if (!job.canceled) job.finished = true
      job.stream.writeEnd()
    })
    else if (roll < 0.45) this.#pick(this.#jobs, (job) => {
      job.canceled = true
      job.stream.cancel()
    })
    else if (roll < 0.5) this.#pick(this.#jobs, (job) => {
      job.sink.accepts = !job.sink.accepts
      if (job.sink.accepts) job.stream.resume()
    })
    else if (roll < 0.55) this.#pick(this.#runs, (run) => run.paused && run.resume())
    else if (roll < 0.57) this.#pick(this.#runs, (run) => (random.next() < 0.5 ? run.fail() : run.end()))
    else if (roll < 0.575) this.#pick(this.#network.alive, (connection) => {
      this.cuts += 1
      connection.cut()
    })
    else if (roll < 0.6) this.#clock.advance(random.below(3_000))
    else this.#pick(this.#network.alive, (connection) => {
      if (connection.state === 'dialled') connection.open()
      else connection.deliver(random.next() < 0.5 ? 'up' : 'down')
    })
  }

  #open(): void {
    const sink = new RecordingSink()
    const body = this.#random.next() < 0.3 ? Buffer.alloc(this.#random.below(100_000), 1) : null
    const stream = this.#client.open(openFrame({ requestId: String(this.#jobs.length), body, bodyMore: true, remainingMs: 500_000 }), sink)
    assert.equal(sink.events.length, 0, 'an event during open')
    this.#jobs.push({ sink, stream, sent: body === null ? [] : [body], finished: false, canceled: false })
  }

  #pick<T>(from: readonly T[], act: (item: T) => unknown): void {
    const item = from[this.#random.below(Math.max(1, from.length))]
    if (item !== undefined) act(item)
  }

  /** Everybody reads and finishes; the network delivers until nothing moves. */
  async #settle(): Promise<void> {
    for (let round = 0, quiet = 0; quiet < 5; round += 1) {
      assert.ok(round < 20_000, 'it never comes to rest')
      for (const job of this.#jobs) {
        job.sink.accepts = true
        job.finished = true
        job.stream.resume()
        job.stream.writeEnd()
      }
      for (const run of this.#runs) {
        if (run.paused) run.resume()
        // Some ignore their cancel; the server's clock would end them.
        if (run.canceled > 0 && !run.ended) run.end()
      }
      let moved = false
      for (const connection of this.#network.alive) {
        if (connection.state === 'dialled') connection.open()
        moved = connection.deliver('up') || moved
        moved = connection.deliver('down') || moved
      }
      if (this.#client.state.kind === 'backoff') {
        this.#clock.advance(10_000)
        moved = true
      }
      await turn()
      quiet = moved ? 0 : quiet + 1
    }
  }

  #check(): void {
    for (const { sink, sent, canceled } of this.#jobs) {
      assert.ok(sink.over, `a stream without an end: ${sink.kinds}`)
      assert.equal(sink.misuse, null)
      const wanted = Buffer.concat(sent)
      assert.ok(sink.bytes.equals(wanted.subarray(0, sink.bytes.length)), 'bytes out of order')
      if (sink.outcome === 'ok') assert.ok(canceled || sink.bytes.equals(wanted), 'bytes are missing')
      if (sink.errorCode === 'ERR_REGION_UNREACHABLE') assert.equal(sink.kinds, 'error', 'it did run')
    }
    // A code that says "did not run" is never told of a run that began.
    const begun = new Set(this.#runs.map((run) => run.requestId))
    this.#jobs.forEach(({ sink }, index) => {
      if (sink.errorCode === 'ERR_REGION_UNREACHABLE' || sink.errorCode === 'ERR_QUEUE_FULL') assert.ok(!begun.has(String(index)), 'told that it did not run')
    })
    for (const run of this.#runs) {
      assert.ok(run.canceled <= 1)
      assert.ok(run.ended || run.canceled === 1, 'a run that nobody waits for goes on')
    }
    assert.deepEqual(this.#client.state.kind, 'open')
    assert.equal(this.#client.stats().streams, 0)
    assert.equal(this.#client.stats().bufferedBytes, 0)
    const [pop] = this.#server.pops()
    assert.equal(this.#server.pops().length, 1)
    assert.equal(pop?.streams, 0)
    assert.equal(pop.bufferedBytes, 0)
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

t.test('whatever happens, every stream ends once and nothing is left', async (t) => {
  let cuts = 0
  for (const seed of SEEDS) {
    const simulation = new Simulation(seed)
    try {
      await simulation.run()
    } catch (error) {
      t.fail(`seed ${seed}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
    }
    cuts += simulation.cuts
  }
  t.ok(SEEDS.length === 1 || cuts > 20, `${SEEDS.length} seeds, ${cuts} connections cut`)
})
