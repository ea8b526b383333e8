import { MessageChannel } from 'node:worker_threads'
import t from 'tap'
import type { BuildKey, ImageId, RequestId } from '../../../shared/brand.ts'
import { systemClock } from '../../../shared/clock.ts'
import { bundlePrelude } from '../../../shared/guest/bundle.ts'
import { DEFAULT_FUNCTION_LIMITS, type FunctionLimits, MIB, REQUEST_WINDOW_BYTES } from '../../../shared/limits.ts'
import { silentLog } from '../../../shared/log.ts'
import { decodeManifest } from '../../../shared/microvm/manifest.ts'
import { ProcessImageBuilder } from '../../../shared/microvm/process-builder.ts'
import { blockOf } from '../../../shared/microvm/runtime.ts'
import { UNSTARTED_MAX } from '../../../shared/worker/channel.ts'
import type { SandboxHostOptions } from '../../../shared/worker/host-options.ts'
import { WorkerThreadHost } from '../../../shared/worker/host.ts'
import { DEFAULT_FUNCTION_TRAITS, type BodyFlow, type BuildSpec, type Invocation, type InvocationInput, type InvocationResult } from '../../../shared/worker/types.ts'
import { buildRequest } from '../../support/engine.ts'

const builder = new ProcessImageBuilder({ clock: systemClock, log: silentLog })
t.teardown(() => builder.close())
const preludeSource = await bundlePrelude()

async function startHost(options: Partial<SandboxHostOptions> = {}): Promise<WorkerThreadHost> {
  const host = new WorkerThreadHost({
    workers: 1, slotsPerWorker: 4, memoryBudgetBytes: 256 * MIB, queueMax: 1_000, preludeSource, clock: systemClock, log: silentLog,
    egressPort: () => new MessageChannel().port1, ...options,
  })
  await host.start()
  return host
}

async function publish(host: WorkerThreadHost, source: string, limits: Partial<FunctionLimits> = {}): Promise<BuildSpec> {
  const built = await builder.build(buildRequest(source, { prime: [] }))
  if (built.kind === 'refused') throw new Error(`${built.error.code} ${built.error.params.join(' ')}`)
  for (const image of built.images) if (!host.hasImage(image.imageId)) host.addImage(image.imageId, decodeManifest(image.encodedManifest, image.imageId), blockOf(image))
  const imageId = built.images.at(-1)?.imageId as ImageId
  return {
    key: `a/f@${imageId}` as BuildKey, imageId, handlerKind: built.handlerKind, account: 'a', functionName: 'f', version: '$LATEST',
    limits: { ...DEFAULT_FUNCTION_LIMITS, ...limits }, traits: DEFAULT_FUNCTION_TRAITS, secrets: { TOKEN: 'the secret' },
  }
}

interface Answer {
  readonly status: number | null
  readonly headers: string
  readonly body: Buffer
  readonly result: InvocationResult
}

function invoke(host: WorkerThreadHost, build: BuildSpec, input: Partial<InvocationInput> = {}, onData: (chunk: Uint8Array, invocation: () => Invocation) => boolean = () => true, flow: BodyFlow = {}): { readonly invocation: Invocation; readonly answer: Promise<Answer> } {
  let invocation: Invocation | undefined
  const answer = new Promise<Answer>((resolve) => {
    let status: number | null = null
    let headers = ''
    const chunks: Buffer[] = []
    const current = (): Invocation => {
      if (invocation === undefined) throw new Error('not yet')
      return invocation
    }
    invocation = host.invoke({
      requestId: 'request' as RequestId, build, kind: 'http', method: 'POST', url: 'http://localhost/', headers: '', body: null, bodyMore: false,
      clientIp: '127.0.0.1', deadlineAtMs: Date.now() + 20_000, wantLogs: false, ...input,
    }, {
      head(code, lines, _startKind, body) {
        status = code
        headers = lines
        if (body !== null) chunks.push(Buffer.from(body))
      },
      data(chunk) {
        chunks.push(Buffer.from(chunk))
        return onData(chunk, current)
      },
      bodyEnd: () => undefined,
      ...flow,
      end: (result) => resolve({ status, headers, body: Buffer.concat(chunks), result }),
    })
  })
  if (invocation === undefined) throw new Error('invoke is synchronous')
  return { invocation, answer }
}

await t.test('invocations over two workers: every one starts from the image', async (t) => {
  const host = await startHost({ workers: 2 })
  const build = await publish(host, 'let n = 0; export default { fetch: async (r) => Response.json({ id: (await r.json()).id, n: ++n }) }')
  const answers = await Promise.all(Array.from({ length: 300 }, (_, id) => invoke(host, build, { body: Buffer.from(JSON.stringify({ id })) }).answer))
  answers.forEach(({ body, result }, id) => {
    t.same(JSON.parse(body.toString()), { id, n: 1 })
    t.equal(result.outcome, 'ok')
    t.ok(result.dirtyPages > 0)
  })
  const stats = await host.refreshStats()
  t.equal(stats.reduce((sum, each) => sum + (each.counts['starts'] ?? 0), 0), 300)
  await host.close()
})

await t.test('cancel reaches a busy thread, which then serves the next', async (t) => {
  const host = await startHost()
  const spin = await publish(host, 'export default { fetch: () => { for (;;); } }', { cpuMs: 60_000, wallMs: 60_000 })
  const quick = await publish(host, 'export default { fetch: () => new Response("quick") }')
  const { invocation, answer } = invoke(host, spin)
  const second = invoke(host, quick)
  setTimeout(() => invocation.cancel(), 50)
  t.equal((await answer).result.outcome, 'canceled')
  t.equal((await second.answer).body.toString(), 'quick')
  await host.close()
})

await t.test('what no worker has yet can be taken back, once; what one has stays', async (t) => {
  const host = await startHost({ workers: 1 })
  const spin = await publish(host, 'export default { fetch: () => { for (;;); } }', { cpuMs: 60_000, wallMs: 60_000 })
  const running = invoke(host, spin)
  const waiting = Array.from({ length: 20 }, () => invoke(host, spin))
  t.ok(host.queued > 0)
  const last = waiting.at(-1)
  const before = host.queued
  t.equal(last?.invocation.withdraw(), true)
  t.equal(host.queued, before - 1)
  t.match((await last?.answer)?.result, { outcome: 'loadShed', error: { code: 'ERR_QUEUE_FULL' } })
  t.equal(last?.invocation.withdraw(), false)
  t.equal(running.invocation.withdraw(), false)
  for (const { invocation } of [running, ...waiting]) invocation.cancel()
  t.equal((await running.answer).result.outcome, 'canceled')
  await host.close()
})

await t.test('what has passed through a run takes none of its memory, nor do cycles that it left', async (t) => {
  const host = await startHost({ workers: 1 })
  t.teardown(() => host.close())
  const pipe = await publish(host, 'export default { fetch: (request) => new Response(request.body.pipeThrough(new TransformStream())) }', { memoryMib: 16, cpuMs: 20_000, wallMs: 20_000 })
  const PIECES = 800
  const sender = { isPaused: false, goOn: (): void => undefined }
  const { invocation, answer } = invoke(host, pipe, { bodyMore: true }, undefined, {
    pauseBody: () => void (sender.isPaused = true),
    resumeBody: () => {
      sender.isPaused = false
      sender.goOn()
    },
  })
  for (let piece = 0; piece < PIECES; piece++) {
    invocation.write(new Uint8Array(65_536))
    if (sender.isPaused) await new Promise<void>((resolve) => (sender.goOn = resolve))
  }
  invocation.writeEnd()
  const { result, body } = await answer
  t.match(result, { outcome: 'ok', error: null })
  t.equal(body.length, PIECES * 65_536)
  t.ok(result.memoryBytes < 8 * 2 ** 20, `${result.memoryBytes} bytes`)

  const cycles = await publish(host, 'export default { fetch() { for (let i = 0; i < 3000; i++) { const one = { bytes: new Uint8Array(65536).fill(i) }; one.itself = one } return new Response("done") } }', { memoryMib: 64, cpuMs: 20_000, wallMs: 20_000 })
  const left = await invoke(host, cycles).answer
  t.equal(left.body.toString(), 'done')
  t.ok(left.result.memoryBytes < 48 * 2 ** 20, `${left.result.memoryBytes} bytes`)
})

await t.test('a thread that does not come back is replaced; its invocation fails with a code, the waiting ones run', async (t) => {
  let enter = (): void => undefined
  const inside = new Promise<void>((resolve) => (enter = resolve))
  const host = await startHost({ watchdogGraceMs: -59_700, onLogLine: () => enter() })
  const spin = await publish(host, 'export default { fetch: () => { console.log("inside"); for (;;); } }', { cpuMs: 60_000, wallMs: 60_000 })
  const quick = await publish(host, 'export default { fetch: () => new Response("quick") }', { wallMs: 60_000 })
  const unused = await publish(host, 'export default { fetch: () => new Response("unused") }')
  const stuck = invoke(host, spin, { deadlineAtMs: Date.now() + 60_000 })
  await inside
  // Asked while it cannot answer: the questions must not outlive it.
  host.dropImage(unused.imageId)
  const stats = host.refreshStats()
  const waiting = [1, 2, 3, 4, 5, 6].map(() => invoke(host, quick, { deadlineAtMs: Date.now() + 60_000 }))
  t.equal((await stuck.answer).result.error?.code, 'ERR_WORKER_LOST')
  for (const { answer } of waiting) t.equal((await answer).body.toString(), 'quick')
  t.equal(host.counts.workersLost, 1)
  t.same(await stats, [])
  t.notOk(host.hasImage(unused.imageId))
  await host.close()
})

await t.test('bodies stream both ways with backpressure, whole and in order', async (t) => {
  const host = await startHost()
  const echo = await publish(host, 'export default { fetch: (r) => new Response(r.body) }', { cpuMs: 10_000, responseMaxBytes: 8 * MIB })
  let received = 0
  const { invocation, answer } = invoke(host, echo, { body: Buffer.from('the first part '), bodyMore: true }, (chunk, current) => {
    received += chunk.length
    // A slow reader: asks for a pause at every chunk and takes the next a moment later.
    setImmediate(() => current().resume())
    return false
  })
  const rest = Buffer.alloc(3 * MIB, Uint8Array.from({ length: 251 }, (_, at) => at))
  const expected = Buffer.concat([Buffer.from('the first part '), rest])
  for (let at = 0; at < rest.length; at += 48_000) invocation.write(rest.subarray(at, at + 48_000))
  invocation.writeEnd()
  const { body, result } = await answer
  t.equal(result.outcome, 'ok')
  t.equal(received, expected.length)
  t.ok(body.equals(expected))
  await host.close()
})

await t.test('a body beyond the bound is refused with a code', async (t) => {
  const host = await startHost()
  const echo = await publish(host, 'export default { fetch: async (r) => new Response((await r.text()).length) }')
  const { invocation, answer } = invoke(host, echo, { bodyMore: true })
  t.throws(() => {
    for (;;) invocation.write(new Uint8Array(MIB))
  }, { code: 'ERR_BODY_TOO_LARGE' })
  invocation.cancel()
  t.equal((await answer).result.outcome, 'canceled')
  await host.close()
})

await t.test('a guest that does not read has the sender pause; when it reads, the body goes on', async (t) => {
  const host = await startHost()
  const patient = await publish(host, `export default { async fetch(request) {
    const reader = request.body.getReader()
    await new Promise((go) => setTimeout(go, 50))
    let bytes = 0
    for (;;) { const { done, value } = await reader.read(); if (done) return new Response(String(bytes)); bytes += value.length }
  } }`, { cpuMs: 5_000 })
  const waits: string[] = []
  let sentBytes = 0
  let paused = false
  let mostBytes = 0
  const totalBytes = 20 * MIB
  const send = (): void => {
    while (!paused && sentBytes < totalBytes) {
      sentBytes += 64 * 1024
      invocation.write(new Uint8Array(64 * 1024))
    }
    if (sentBytes === totalBytes) invocation.writeEnd()
  }
  const flow: BodyFlow = {
    pauseBody() {
      paused = true
      if (waits.length === 0) mostBytes = sentBytes
      waits.push('pause')
    },
    resumeBody() {
      paused = false
      waits.push('resume')
      send()
    },
  }
  const { invocation, answer } = invoke(host, patient, { bodyMore: true }, undefined, flow)
  send()
  t.ok(mostBytes > REQUEST_WINDOW_BYTES && mostBytes <= REQUEST_WINDOW_BYTES + 64 * 1024, `${mostBytes} bytes before the first pause`)
  const { body, result } = await answer
  t.equal(result.outcome, 'ok')
  t.equal(body.toString(), String(totalBytes))
  t.same(waits.filter((_, at) => at % 2 === 1), waits.filter((_, at) => at % 2 === 1).map(() => 'resume'), 'in turn')
  await host.close()
})

await t.test('an event handler gets its body whole, so it is bounded as an Invoke is', async (t) => {
  const host = await startHost()
  const event = await publish(host, 'export const handler = async (event) => event.body.length')
  const { invocation, answer } = invoke(host, event, { bodyMore: true })
  for (let mib = 0; mib < 6; mib++) invocation.write(new Uint8Array(MIB))
  t.throws(() => invocation.write(new Uint8Array(1)), { code: 'ERR_BODY_TOO_LARGE' })
  invocation.cancel()
  t.equal((await answer).result.outcome, 'canceled')
  await host.close()
})

await t.test('a run that is cancelled at once never runs on, wherever the two words cross', async (t) => {
  const host = await startHost()
  const waiting = 'export default { fetch: async (r) => { for await (const chunk of r.body); return new Response("all of it") } }'
  const outcomes: string[] = []
  for (let build = 0; build < 4; build++) {
    const fresh = await publish(host, `${waiting} // ${build}`)
    for (let time = 0; time < 50; time++) {
      const { invocation, answer } = invoke(host, fresh, { bodyMore: true, deadlineAtMs: Date.now() + 5_000 })
      if (time % 2 === 1) await new Promise(setImmediate)
      invocation.cancel()
      outcomes.push((await answer).result.outcome)
    }
  }
  t.same(new Set(outcomes), new Set(['canceled']))
  await host.close()
})

await t.test('secrets and logs reach only where they belong', async (t) => {
  const lines: string[] = []
  const host = await startHost({ onLogLine: (_build, _id, level, line) => lines.push(`${level} ${line}`) })
  const build = await publish(host, 'export default { fetch: (r, env) => { console.log("line one"); console.error("line two"); return new Response(String(env.TOKEN)) } }')
  const { result } = await invoke(host, build, { wantLogs: true }).answer
  t.same(result.logs, ['1\tline one', '3\tline two'])
  t.same(lines, ['1 line one', '3 line two'])
  await host.close()
})

await t.test('when the queue is full an invocation is refused at once', async (t) => {
  const host = await startHost({ queueMax: 2 })
  const spin = await publish(host, 'export default { fetch: () => { for (;;); } }', { cpuMs: 60 })
  const all = await Promise.all(Array.from({ length: UNSTARTED_MAX + 8 }, () => invoke(host, spin).answer))
  const refused = all.filter(({ result }) => result.error?.code === 'ERR_QUEUE_FULL')
  t.ok(refused.length >= 4, `${refused.length} refused`)
  t.ok(all.every(({ result }) => ['loadShed', 'exceededCpu'].includes(result.outcome)))
  await host.close()
})

await t.test('an invocation that waited past its deadline is not started', async (t) => {
  const host = await startHost()
  const spin = await publish(host, 'export default { fetch: () => { for (;;); } }', { cpuMs: 400 })
  const first = Array.from({ length: 6 }, () => invoke(host, spin))
  const late = invoke(host, spin, { deadlineAtMs: Date.now() + 100 })
  const { result } = await late.answer
  t.match(result.error?.code, /ERR_QUEUE_DEADLINE|ERR_LIMIT_WALL/)
  await Promise.all(first.map(({ answer }) => answer))
  await host.close()
})

await t.test('drain lets what is in flight finish, waitUntil work included, and refuses new work', async (t) => {
  const host = await startHost()
  const slow = await publish(host, 'export default { fetch: (r, e, ctx) => { ctx.waitUntil(new Promise((f) => setTimeout(f, 300)).then(() => console.log("after"))); return new Response("early") } }')
  const lines: string[] = []
  const { answer } = invoke(host, slow, { wantLogs: true })
  const drained = host.drain(5_000)
  const refused = await invoke(host, slow).answer
  t.equal(refused.result.error?.code, 'ERR_DRAINING')
  await drained
  const { body, result } = await answer
  t.equal(body.toString(), 'early')
  t.same(result.logs, ['1\tafter'])
  t.same(lines, [])
  await host.close()
})

await t.test('a dropped image is gone from every slot and its memory is used again', async (t) => {
  const host = await startHost()
  const kept = await publish(host, 'export default { fetch: () => new Response("kept") }')
  const before = host.stats().residentBytes
  for (let round = 0; round < 5; round++) {
    const build = await publish(host, `export default { fetch: () => new Response("round ${round}") }`)
    t.equal((await invoke(host, build).answer).body.toString(), `round ${round}`)
    host.dropImage(build.imageId)
    await host.refreshStats()
    await host.refreshStats()
    t.notOk(host.hasImage(build.imageId))
  }
  t.equal((await invoke(host, kept).answer).body.toString(), 'kept')
  t.ok(host.stats().residentBytes - before < 64 * MIB)
  await host.close()
})

for (const workersAtOnce of [1, 2]) await t.test(`what waits behind a guest that computes for long is run by another worker, ${workersAtOnce} serving at once`, async (t) => {
  const host = await startHost({ workers: 2, workersAtOnce })
  const quick = await publish(host, 'export default { fetch: () => new Response("quick") }')
  const slow = await publish(host, 'export default { fetch: () => { const until = 60_000_000; for (let i = 0; i < until; i++); return new Response("slow") } }', { cpuMs: 20_000 })
  for (let times = 0; times < 20; times++) await invoke(host, quick).answer
  const long = invoke(host, slow)
  let longEnded = false
  void long.answer.then(() => (longEnded = true))
  const answers = await Promise.all(Array.from({ length: 40 }, () => invoke(host, quick).answer))
  t.ok(answers.every(({ body }) => body.toString() === 'quick'))
  t.notOk(longEnded, 'they did not wait for it')
  long.invocation.cancel()
  await long.answer
  await host.close()
})

await t.test("a session's machine travels from request to request over all workers, small or large", async (t) => {
  const host = await startHost({ workers: 2 })
  const build = await publish(host, `let n = 0; const kept = []; export default { async fetch(r) {
    const bytes = Number(await r.text()); if (bytes > 0) kept.push(new Uint8Array(bytes).map((_, at) => at * 7 + n)); n++
    return Response.json([n, kept.map((each) => each.reduce((a, b) => (a * 31 + b) % 65521, 0))]) } }`, { cpuMs: 10_000 })
  const plain = await invoke(host, build, { body: Buffer.from('0') }).answer
  t.equal(plain.result.machine, undefined)
  // Below an entry, above it, above a record of the answer ring.
  const sizes = [0, 0, 20_000, 0, 60_000, 300_000, 0, 700_000, 0]
  let state: Uint8Array | null = null
  const sums: number[] = []
  for (const [index, bytes] of sizes.entries()) {
    const others = Array.from({ length: 3 }, () => invoke(host, build, { body: Buffer.from('0') }).answer)
    const { body, result }: Answer = await invoke(host, build, { body: Buffer.from(String(bytes)), session: { state, keepMaxBytes: 4 * MIB } }).answer
    if (bytes > 0) sums.push(Uint8Array.from({ length: bytes }, (_, at) => at * 7 + index).reduce((a, b) => (a * 31 + b) % 65521, 0))
    t.same(JSON.parse(body.toString()), [index + 1, sums])
    t.equal(result.machine?.kind, 'kept')
    if (result.machine?.kind === 'kept') state = result.machine.state
    for (const other of others) t.same(JSON.parse((await other).body.toString()), [1, []])
  }
  const tooLarge = await invoke(host, build, { body: Buffer.from('0'), session: { state, keepMaxBytes: 1_000_000 } }).answer
  t.equal(tooLarge.result.outcome, 'ok')
  t.same(tooLarge.result.machine, { kind: 'tooLarge' })
  const altered = Uint8Array.from(state ?? [])
  altered[0] = (altered[0] ?? 0) ^ 1
  const refused = await invoke(host, build, { body: Buffer.from('0'), session: { state: altered, keepMaxBytes: MIB } }).answer
  t.equal(refused.result.error?.code, 'ERR_SESSION_STATE')
  t.equal(host.counts.incidents, 0)
  await host.close()
})
