/** Functions that call one another by service bindings, on real workers. */
import t from 'tap'
import type { AnswerSink } from '../../../shared/http/types.ts'
import { REQUEST_BODY_MAX_BYTES, SERVICE_BUFFERED_MAX_BYTES, SERVICE_CALLS_OPEN_MAX, SERVICE_DEPTH_MAX, SERVICE_WINDOW_BYTES } from '../../../shared/limits.ts'
import type { ActiveRun } from '../../../shared/worker/active-run.ts'
import { RECORD } from '../../../shared/worker/channel.ts'
import type { ToWorker } from '../../../shared/worker/messages.ts'
import { ServiceCalls } from '../../../shared/worker/service-calls.ts'
import { eventually } from '../../support/dev-server.ts'
import { linkedFunctions } from '../../support/linked-functions.ts'

/** Says how the call failed. */
const caught = (call: string): string => `export default { async fetch(request, env) {
  try { return await ${call} } catch (error) { return Response.json({ name: error.name, message: error.message, code: error.code, remote: error.remote, type: error instanceof TypeError }) }
} }`
const FAR = { cpuMs: 5_000, wallMs: 30_000 }

await t.test('what goes wrong in the other function reaches its caller as an exception', async (t) => {
  const linked = await linkedFunctions(t, {
    calls: { source: caught('env.OTHER.fetch(request)'), services: { OTHER: 'throws' } },
    throws: { source: 'export default { fetch() { throw new TypeError("no\\nsuch thing") } }' },
    lonely: { source: caught('env.NOBODY.fetch("http://x/")'), services: { NOBODY: 'nobody' } },
    patient: { source: caught('env.SPIN.fetch("http://x/")'), services: { SPIN: 'spins' }, limits: FAR },
    spins: { source: 'export default { fetch() { for (;;); } }', limits: { cpuMs: 20 } },
    broken: { source: caught('env.HALF.fetch("http://x/").then((response) => response.text())'), services: { HALF: 'half' } },
    half: { source: 'export default { fetch() { let n = 0; return new Response(new ReadableStream({ pull(c) { if (n++ < 2) c.enqueue(new Uint8Array(10)); else throw new RangeError("half way") } })) } }' },
    wrong: { source: caught('env.OTHER.fetch("/relative")'), services: { OTHER: 'throws' } },
    odd: { source: caught('env.NOTHING.fetch("http://x/")'), services: { NOTHING: 'nothing' } },
    nothing: { source: 'export default { fetch() { return 7 } }' },
  })
  t.same(JSON.parse((await linked.call('calls')).body), { name: 'TypeError', message: 'no\nsuch thing', code: 'ERR_FUNCTION_EXCEPTION', remote: true, type: true })
  t.match(JSON.parse((await linked.call('lonely')).body), { name: 'Error', code: 'ERR_FUNCTION_NOT_FOUND', message: /^Service binding NOBODY failed: No function named nobody is deployed/ })
  t.match(JSON.parse((await linked.call('patient')).body), { code: 'ERR_LIMIT_CPU', message: /^Service binding SPIN failed: Exceeded the CPU limit of 20 ms/ })
  t.match(JSON.parse((await linked.call('broken')).body), { name: 'RangeError', message: 'half way', remote: undefined })
  t.match(JSON.parse((await linked.call('wrong')).body), { type: true, message: /URL/ })
  t.match(JSON.parse((await linked.call('odd')).body), { name: 'TypeError', message: /did not resolve to 'Response'/ })
})

await t.test('a response as from anywhere: status, headers, body; redirects are not followed; the request arrives as it was made', async (t) => {
  const linked = await linkedFunctions(t, {
    asks: {
      services: { OTHER: 'answers' },
      source: `export default { async fetch(request, env) {
        const response = await env.OTHER.fetch('https://any.host/a?b=c#d', { method: 'PUT', headers: { 'x-a': 'b', 'x-outpost-place': 'forged', connection: 'close', cookie: 'c=d' }, body: 'text of it' })
        const { status, statusText, url, redirected } = response
        return Response.json({ status, statusText, url, redirected, location: response.headers.get('location'), seen: await response.json(), kind: String(env.OTHER), keys: Object.keys(env.OTHER), twice: await Promise.all([1, 2, 3].map(async (n) => (await (await env.OTHER.fetch('http://x/' + n)).json()).url)) })
      } }`,
    },
    answers: { source: `let n = 0; export default { async fetch(request) { return Response.json({ n: ++n, method: request.method, url: request.url, headers: Object.fromEntries(request.headers), body: await request.text() }, { status: 302, headers: { location: 'http://elsewhere/', 'x-outpost-own': 'no' } }) } }` },
  })
  const { body, result } = await linked.call('asks', { requestId: 'from-outside' as never, clientIp: '192.0.2.7' })
  t.equal(result.outcome, 'ok')
  t.same(JSON.parse(body), {
    status: 302, statusText: 'Found', url: 'https://any.host/a?b=c', redirected: false, location: 'http://elsewhere/', kind: '[object Fetcher]', keys: [],
    seen: { n: 1, method: 'PUT', url: 'https://any.host/a?b=c', headers: { host: 'any.host', 'x-a': 'b', cookie: 'c=d', 'content-type': 'text/plain;charset=UTF-8', 'content-length': '10' }, body: 'text of it' },
    twice: ['http://x/1', 'http://x/2', 'http://x/3'],
  })
  t.match(linked.calls[0], { requestId: 'from-outside', clientIp: '192.0.2.7', account: 'a', functionName: 'answers', chain: { depth: 1 } })
})

await t.test('bodies stream both ways, larger than what is held of them', async (t) => {
  const total = 3 * 1024 * 1024
  const linked = await linkedFunctions(t, {
    sends: {
      services: { OTHER: 'turns' }, limits: FAR,
      source: `export default { async fetch(request, env) {
        let left = ${total}
        const body = new ReadableStream({ pull(c) { const size = Math.min(left, 50_000); if (size === 0) c.close(); else { left -= size; c.enqueue(new Uint8Array(size).fill(7)) } } })
        const response = await env.OTHER.fetch('http://x/', { method: 'POST', body, duplex: 'half' })
        let bytes = 0, sum = 0
        for await (const chunk of response.body) { bytes += chunk.length; for (let i = 0; i < chunk.length; i += 1000) sum += chunk[i] }
        return Response.json({ bytes, wrong: sum % 7 })
      } }`,
    },
    turns: { source: 'export default { fetch: (request) => new Response(request.body) }', limits: FAR },
    passes: { source: 'export default { fetch: (request, env) => env.OTHER.fetch(request) }', services: { OTHER: 'turns' }, limits: FAR },
    large: { source: 'export default { async fetch(request, env) { const text = "x".repeat(1_500_000); return Response.json((await (await env.OTHER.fetch("http://x/", { method: "POST", body: text })).text()) === text) } }', services: { OTHER: 'turns' }, limits: FAR },
    toolarge: { source: caught(`env.OTHER.fetch("http://x/", { method: "POST", body: new Uint8Array(${REQUEST_BODY_MAX_BYTES + 1}) })`), services: { OTHER: 'turns' }, limits: FAR },
    endless: { source: caught('env.OTHER.fetch("http://x/", { method: "POST", body: new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(100_000)) } }) }).then((r) => r.arrayBuffer())'), services: { OTHER: 'waits' }, limits: FAR },
    waits: { source: 'export default { async fetch(request) { return Response.json((await request.arrayBuffer()).byteLength) } }', limits: FAR },
  })
  t.same(JSON.parse((await linked.call('sends')).body), { bytes: total, wrong: 0 })
  t.equal((await linked.call('passes', { body: Buffer.from('through') })).body, 'through')
  t.equal((await linked.call('large')).body, 'true')
  t.match(JSON.parse((await linked.call('toolarge')).body), { code: 'ERR_BODY_TOO_LARGE' })
  t.match(JSON.parse((await linked.call('endless')).body), { code: 'ERR_BODY_TOO_LARGE' })
  await eventually(() => Promise.resolve(linked.host.services.heldBytes), (bytes) => bytes === 0)
})

await t.test('what is not read is not made: the other function waits, within a window, and nothing of it stays', async (t) => {
  const linked = await linkedFunctions(t, {
    ignores: {
      services: { OTHER: 'floods' }, limits: { ...FAR, subrequestMax: 1_000 },
      source: `export default { async fetch(request, env) {
        const open = []
        for (let n = 0; n < 8; n++) open.push(await env.OTHER.fetch('http://x/'))
        await new Promise((done) => setTimeout(done, 500))
        return Response.json(open.length)
      } }`,
    },
    floods: { source: 'export default { fetch: () => new Response(new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(20_000)) } })) }', limits: { ...FAR, responseMaxBytes: 100 * 1024 * 1024 } },
    many: {
      services: { OTHER: 'floods' }, limits: { ...FAR, subrequestMax: 1_000 },
      source: `export default { async fetch(request, env) {
        const results = await Promise.allSettled(Array.from({ length: ${SERVICE_CALLS_OPEN_MAX + 5} }, () => env.OTHER.fetch('http://x/')))
        return Response.json({ ok: results.filter((each) => each.status === 'fulfilled').length, code: results.find((each) => each.status === 'rejected').reason.code })
      } }`,
    },
  }, { slotsPerWorker: 80, memoryBudgetBytes: 1024 ** 3 })
  let most = 0
  const watch = setInterval(() => (most = Math.max(most, linked.host.services.heldBytes)), 5)
  t.equal((await linked.call('ignores')).body, '8')
  t.ok(most > 8 * 20_000 && most <= 8 * (SERVICE_WINDOW_BYTES + 256 * 1024), `${most} bytes were held at most`)
  t.same(JSON.parse((await linked.call('many')).body), { ok: SERVICE_CALLS_OPEN_MAX, code: 'ERR_SERVICE_FAILED' })
  clearInterval(watch)
  await eventually(() => Promise.resolve(linked.outcomes.length), (count) => count === 8 + SERVICE_CALLS_OPEN_MAX)
  t.same(new Set(linked.outcomes), new Set(['floods canceled']))
  t.equal(linked.host.services.heldBytes, 0)
})

await t.test('a caller that is gone, stopped or has aborted cancels what it called; waitUntil of what has answered goes on', async (t) => {
  const linked = await linkedFunctions(t, {
    waits: { source: 'export default { fetch: (request, env) => env.OTHER.fetch(request) }', services: { OTHER: 'sleeps' }, limits: FAR },
    hurries: { source: 'export default { fetch: (request, env) => env.OTHER.fetch(request) }', services: { OTHER: 'sleeps' }, limits: { wallMs: 100 } },
    aborts: { source: 'export default { async fetch(request, env) { try { return await env.OTHER.fetch("http://x/", { signal: AbortSignal.timeout(50) }) } catch (error) { return new Response(error.name) } } }', services: { OTHER: 'sleeps' }, limits: FAR },
    sleeps: { source: 'export default { async fetch() { await new Promise((done) => setTimeout(done, 20_000)); return new Response("slept") } }', limits: FAR },
    quick: { source: 'export default { async fetch(request, env) { return new Response(await (await env.OTHER.fetch("http://x/")).text()) } }', services: { OTHER: 'lingers' } },
    lingers: { source: 'export default { async fetch(request, env, ctx) { ctx.waitUntil(new Promise((done) => setTimeout(done, 300))); return new Response("early") } }' },
  })
  const gone = linked.start('waits', {})
  await eventually(() => Promise.resolve(linked.host.services.counts.started), (count) => count === 1)
  gone.invocation.cancel()
  t.equal((await gone.answer).result.outcome, 'canceled')
  t.equal((await linked.call('hurries')).result.outcome, 'exceededWall')
  t.equal((await linked.call('aborts')).body, 'TimeoutError')
  await eventually(() => Promise.resolve(linked.outcomes.length), (count) => count === 3)
  t.same(linked.outcomes, ['sleeps canceled', 'sleeps canceled', 'sleeps canceled'])
  t.equal((await linked.call('quick')).body, 'early')
  await eventually(() => Promise.resolve(linked.outcomes.at(-1)), (last) => last === 'lingers ok')
})

await t.test('functions that call themselves are stopped by depth and by number, and count as subrequests', async (t) => {
  const linked = await linkedFunctions(t, {
    deep: { source: caught('env.SELF.fetch(request)'), services: { SELF: 'deep' }, limits: FAR },
    bomb: { source: 'export default { async fetch(request, env) { const all = await Promise.allSettled([1, 2, 3].map(() => env.SELF.fetch("http://x/").then((r) => r.json()))); return Response.json(all.reduce((sum, each) => sum + (each.value ?? 0), 1)) } }', services: { SELF: 'bomb' }, limits: FAR },
    greedy: { source: caught('Promise.all(Array.from({ length: 6 }, () => env.OTHER.fetch("http://x/").then((r) => r.text())))'), services: { OTHER: 'plain' }, limits: { subrequestMax: 5 } },
    plain: { source: 'export default { fetch: () => new Response("x") }' },
  }, { slotsPerWorker: 8 })
  const deep = await linked.call('deep')
  t.match(JSON.parse(deep.body), { code: 'ERR_SERVICE_DEPTH', message: new RegExp(`more than ${SERVICE_DEPTH_MAX} deep`) })
  t.equal(linked.calls.length, SERVICE_DEPTH_MAX)
  const bomb = await linked.call('bomb')
  t.ok(Number(bomb.body) <= 1_001, `${bomb.body} runs`)
  t.equal(linked.calls.length, SERVICE_DEPTH_MAX + 1_000)
  t.match(JSON.parse((await linked.call('greedy')).body), { code: 'ERR_LIMIT_SUBREQUESTS' })
})

await t.test('a guest that forges its records reaches nobody but those it is bound to', (t) => {
  const posted: ToWorker[] = []
  const calls = new ServiceCalls()
  let invoked = 0
  calls.attach({ invoke: () => ({ write() { invoked++ }, writeEnd() {}, resume() {}, cancel() {} }) })
  const run = { id: 1, input: { build: { account: 'a', services: [{ binding: 'OTHER', service: 'waits', qualifier: null, entrypoint: null, props: null }] } }, services: null, chainCalls: null } as unknown as ActiveRun
  const record = (type: number, id: number, b: number, c: number, text: string): void => calls.onRecord(run, type, id, b, c, Buffer.from(text), (message) => posted.push(message))
  for (const [at, index] of ['1', '-1', '__proto__', ''].entries()) record(RECORD.SERVICE, at, index.length + 16, 0, `${index}\n0\nGET\nhttp://x/`)
  t.same(posted.map((message) => message.kind), Array.from({ length: 4 }, () => 'serviceFailed'))
  t.match(posted[0], { reason: /there is no such binding\nERR_SERVICE_FAILED$/ })
  // Of calls that are not under way, or are another run's.
  record(RECORD.SERVICE_BODY, 77, 5, 0, 'x')
  record(RECORD.SERVICE_TAKEN, 77, 1_000_000, 0, '')
  record(RECORD.SERVICE_CANCEL, 77, 0, 0, '')
  t.same(posted.at(-1), { kind: 'serviceWritten', runId: 1, operation: 5 })
  t.equal(invoked, 0)
  t.equal(calls.heldBytes, 0)
  t.end()
})

await t.test('an account whose calls hold as much as they may begins no more of them, and leaves others theirs', (t) => {
  const calls = new ServiceCalls()
  const sinks: AnswerSink[] = []
  const bodies: number[] = []
  calls.attach({
    invoke: (call, sink) => {
      sinks.push(sink)
      bodies.push(call.body?.length ?? 0)
      return { write() {}, writeEnd() {}, resume() {}, cancel() {} }
    },
  })
  const posted: ToWorker[] = []
  let runs = 0
  const runOf = (account: string): ActiveRun => ({ id: ++runs, input: { build: { account, services: [{ binding: 'OTHER', service: 's', qualifier: null, entrypoint: null, props: null }] } }, services: null, chainCalls: null }) as unknown as ActiveRun
  const head = Buffer.from('0\n0\nPOST\nhttp://x/')
  const begin = (run: ActiveRun, id: number, body = Buffer.alloc(0)): void => calls.onRecord(run, RECORD.SERVICE, id, head.length, 0, Buffer.concat([head, body]), (message) => posted.push(message))
  const placement = { place: 'pop', reason: null, version: null, startKind: null, stale: false } as const
  // Answers that nobody reads, of many callers of one account.
  const greedy: ActiveRun[] = []
  for (let begun = -1; sinks.length > begun && runs < 2_000;) {
    begun = sinks.length
    const run = runOf('greedy')
    greedy.push(run)
    for (let id = 1; id <= 8; id++) {
      begin(run, id)
      const sink = sinks[begun + id - 1]
      sink?.head(200, '', placement, null, false)
      while (sink?.data(Buffer.alloc(60_000)) === true);
    }
  }
  t.ok(calls.heldBytes <= SERVICE_BUFFERED_MAX_BYTES / 2 + 256 * 1024, `${calls.heldBytes} bytes are held`)
  t.match(posted.at(-1), { kind: 'serviceFailed', reason: /calls hold too much on this host already. Try again\nERR_SERVICE_FAILED$/ })
  const other = runOf('other')
  begin(other, 1, Buffer.alloc(REQUEST_BODY_MAX_BYTES))
  t.equal(bodies.at(-1), REQUEST_BODY_MAX_BYTES)
  for (const run of [...greedy, other]) calls.endAll(run)
  t.equal(calls.heldBytes, 0)
  t.end()
})

await t.test('one worker with few slots finishes a hundred callers that each wait for others, eight deep', async (t) => {
  const chain = Object.fromEntries(Array.from({ length: 8 }, (_, step) => [`step${step}`, {
    source: step === 7 ? 'export default { async fetch(request) { await new Promise((done) => setTimeout(done, 20)); return new Response(await request.text() + "!") } }' : 'export default { fetch: (request, env) => env.NEXT.fetch(request) }',
    ...(step === 7 ? {} : { services: { NEXT: `step${step + 1}` } }), limits: FAR,
  }]))
  const linked = await linkedFunctions(t, chain, { slotsPerWorker: 3, memoryBudgetBytes: 256 * 1024 * 1024 })
  const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => linked.call('step0', { body: Buffer.from(String(n)) })))
  t.same(answers.map(({ body }) => body), Array.from({ length: 100 }, (_, n) => `${n}!`))
  t.equal(linked.host.services.heldBytes, 0)
})

await t.test('a thread that does not come back: its calls fail with a code, also for callers at another one', async (t) => {
  let enter = (): void => undefined
  const inside = new Promise<void>((resolve) => (enter = resolve))
  const linked = await linkedFunctions(t, {
    asks: { source: caught('env.OTHER.fetch(request)'), services: { OTHER: 'spins' }, limits: { cpuMs: 60_000, wallMs: 60_000 } },
    spins: { source: 'export default { fetch: () => { console.log("inside"); for (;;); } }', limits: { cpuMs: 60_000, wallMs: 60_000 } },
    quick: { source: 'export default { fetch: (request, env) => env.OTHER.fetch(request) }', services: { OTHER: 'answers' } },
    answers: { source: 'export default { fetch: () => new Response("here") }' },
  }, { workers: 2, watchdogGraceMs: -59_700, onLogLine: () => enter() })
  const asked = linked.start('asks', {})
  await inside
  const { body, result } = await asked.answer
  // Both ran at one worker, or at two.
  if (result.outcome === 'ok') t.match(JSON.parse(body), { code: 'ERR_WORKER_LOST' })
  else t.equal(result.error?.code, 'ERR_WORKER_LOST')
  t.same(linked.outcomes, ['spins platformFault'])
  t.equal((await linked.call('quick')).body, 'here')
  t.equal(linked.host.services.heldBytes, 0)
})

await t.test('what is in flight while the host drains may still call others', async (t) => {
  const linked = await linkedFunctions(t, {
    late: { source: 'export default { async fetch(request, env) { await new Promise((done) => setTimeout(done, 300)); return env.OTHER.fetch(request) } }', services: { OTHER: 'answers' } },
    answers: { source: 'export default { fetch: () => new Response("here") }' },
  })
  const { answer } = linked.start('late', {})
  await eventually(() => linked.host.refreshStats(), (stats) => stats.some(({ running }) => running > 0))
  const drained = linked.host.drain(10_000)
  t.equal((await linked.call('answers')).result.error?.code, 'ERR_DRAINING')
  t.equal((await answer).body, 'here')
  await drained
})
