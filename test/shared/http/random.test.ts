/** Whatever a dispatcher does, and whenever a client leaves: one well-formed answer or a closed connection, and nothing left over. */
import t, { type Test } from 'tap'
import { CodedError } from '../../../shared/errors.ts'
import { seededRandom, type Random } from '../../../shared/random.ts'
import { LOCAL, OK, get, openDoor, post, type Harness, type Run } from './harness.ts'

type Step = (run: Run, random: Random) => void

const STEPS: readonly Step[] = [
  (run, random) => run.sink.head(200, 'x\ny', LOCAL, random.below(2) === 0 ? null : Buffer.from('first'), random.below(2) === 0),
  (run, random) => run.sink.head(random.below(700), 'x\ny', LOCAL, Buffer.from('first'), true),
  (run) => run.sink.head(200, 'bad\r\nx', LOCAL, null, false),
  (run, random) => run.sink.data(Buffer.alloc(random.below(300_000), 'd')),
  (run) => run.sink.data(new Uint8Array(0)),
  (run) => run.sink.bodyEnd(),
  (run) => run.sink.end(OK, LOCAL),
  (run) => run.sink.end({ ...OK, outcome: 'hung', error: { code: 'ERR_FUNCTION_HUNG', params: [] } }, LOCAL),
  (run) => run.sink.fail(new CodedError('ERR_WORKER_LOST', ['x']), LOCAL),
  (run) => run.sink.pauseBody?.(),
  (run) => run.sink.resumeBody?.(),
]

async function round(t: Test, harness: Harness, random: Random, seed: number): Promise<void> {
  const { dispatcher, door, client } = harness
  const index = dispatcher.runs.length
  const invoke = 'POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\nContent-Length: 2\r\n\r\n{}'
  const requests = [get('/fn/f/'), post('/fn/f/', 'x'), post('/fn/f/', 'y'.repeat(100_000)), 'HEAD /fn/f/ HTTP/1.1\r\nHost: a\r\n\r\n', invoke]
  const act = (run: Run): void => {
    for (let steps = random.below(4); steps > 0; steps--) STEPS[random.below(STEPS.length)]?.(run, random)
  }
  dispatcher.onInvoke = random.below(2) === 0 ? act : () => {}
  const connection = client()
  connection.send(requests[random.below(requests.length)] ?? '')
  const run = await dispatcher.run(index)
  if (random.below(4) === 0) connection.destroy()
  for (let turns = random.below(4); turns > 0; turns--) {
    act(run)
    await new Promise(setImmediate)
  }
  // However it stood: the dispatcher's last word.
  run.sink.end(OK, LOCAL)
  run.sink.end(OK, LOCAL)
  const answer = await Promise.race([connection.response().then(({ status }) => status, () => 'closed' as const)])
  if (answer !== 'closed' && !(answer >= 200 && answer <= 599)) t.fail(`seed ${seed}: status ${answer}`)
  connection.destroy()
  while (door.inFlight > 0) await new Promise(setImmediate)
  if (run.cancels > 1) t.fail(`seed ${seed}: cancelled ${run.cancels} times`)
  if (door.metrics.bodies.used !== 0) t.fail(`seed ${seed}: ${door.metrics.bodies.used} bytes are still held`)
}

t.test('any order of events ends well', async (t) => {
  const harness = await openDoor(t, { mode: 'dev' })
  for (let seed = 1; seed <= 400; seed++) await round(t, harness, seededRandom(seed), seed)
  t.equal(harness.door.metrics.inFlight, 0)
  t.same(harness.logged.filter(({ level }) => level === 'error'), [])
})

t.test('bodies in shared memory go out whole: at once, larger than the socket takes, and streamed', async (t) => {
  const { dispatcher, client } = await openDoor(t)
  const shared = new Uint8Array(new SharedArrayBuffer(6_000_000))
  const connection = client()
  for (const bytes of [5, 200_000, 6_000_000]) {
    for (const last of [true, false]) {
      dispatcher.onInvoke = (run) => {
        shared.fill(0x61)
        run.sink.head(200, '', LOCAL, shared.subarray(0, bytes), last)
        shared.fill(0x62)
        run.sink.bodyEnd()
        run.sink.end(OK, LOCAL)
      }
      connection.send(get('/fn/f/'))
      const { body } = await connection.response()
      t.ok(body === 'a'.repeat(bytes), `${bytes} ${last}`)
    }
  }
})
