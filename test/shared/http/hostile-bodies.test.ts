/** Request bodies of clients that want to hold as much as they can, on real sockets. */
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { ManualClock } from '../../../shared/clock.ts'
import { CodedError } from '../../../shared/errors.ts'
import { TrustedProxies } from '../../../shared/http/forwarded.ts'
import { STREAMED_BODY_HELD_MAX_BYTES } from '../../../shared/limits.ts'
import { LOCAL, OK, errorOf, openDoor, type Run } from './harness.ts'

const MIB = 1024 * 1024
const WINDOW_BYTES = 256 * 1024
const PIECE = Buffer.alloc(16_000, 'a')

/** Gives an answer as a guest does: as long as it may, and a window's worth that is on its way then. */
function answer(run: Run): { bytes: number } {
  const given = { bytes: 0 }
  const more = (): void => {
    for (let left = WINDOW_BYTES; left > 0; left -= PIECE.byteLength) {
      given.bytes += PIECE.byteLength
      if (run.sink.data(PIECE)) left = WINDOW_BYTES
    }
  }
  run.resume = () => {
    run.resumes += 1
    more()
  }
  run.sink.head(200, '', LOCAL, null, false)
  more()
  return given
}

/** Sends zeros for as long as they are taken. */
function pump(socket: Socket): void {
  while (!socket.destroyed && socket.write(Buffer.alloc(500_000)));
  socket.once('drain', () => pump(socket))
}

await t.test('a client that uploads as fast as it can and reads nothing has two windows of its answer, little of its body, and an end', async (t) => {
  const clock = new ManualClock()
  const { door, dispatcher, port } = await openDoor(t, { clock, requestTimeoutMs: 900_000 })
  const socket = connect(port, '127.0.0.1').pause()
  t.teardown(() => socket.destroy())
  socket.on('error', () => undefined)
  socket.write('POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nContent-Length: 90000000\r\n\r\n' + 'b'.repeat(100_000))
  const run = await dispatcher.run()
  const given = answer(run)
  // Until the kernel takes no more.
  for (let resumes = -1; run.resumes > resumes;) {
    resumes = run.resumes
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate)
  }
  run.sink.pauseBody?.()
  const before = given.bytes
  pump(socket)
  let mostBytes = 0
  for (let passedMs = 0; passedMs < 59_000; passedMs += 250) {
    clock.advance(250)
    for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate)
    mostBytes = Math.max(mostBytes, door.metrics.bodies.used)
  }
  t.equal(run.cancels, 0)
  t.ok(given.bytes - before <= 2 * WINDOW_BYTES, `${given.bytes - before} bytes more of the answer`)
  t.ok(mostBytes <= STREAMED_BODY_HELD_MAX_BYTES + 4 * MIB, `${mostBytes} bytes of the body`)
  clock.advance(2_000)
  clock.advance(2_000)
  t.equal(run.cancels, 1, 'nobody who reads nothing for a minute is waited for')
  run.sink.end(OK, LOCAL)
  t.equal(door.metrics.bodies.used, 0)
})

await t.test('a client that uploads faster than it reads gets all of its answer, without long pauses', async (t) => {
  const { dispatcher, port } = await openDoor(t)
  const total = 24 * MIB
  const socket = connect(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  socket.write(`POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nContent-Length: ${total}\r\n\r\n`)
  const body = Buffer.alloc(total)
  for (let at = 0; at < total; at += 4) body.writeUInt32LE(at, at)
  socket.write(body)
  let received = 0
  let wrong = 0
  const reading = new Promise<void>((resolve) => {
    let head = true
    let text = Buffer.alloc(0)
    socket.on('data', (chunk: Buffer) => {
      text = Buffer.concat([text, chunk])
      if (head) {
        const end = text.indexOf('\r\n\r\n')
        if (end === -1) return
        text = text.subarray(end + 4)
        head = false
      }
      for (let lineEnd = text.indexOf('\r\n'); lineEnd !== -1; lineEnd = text.indexOf('\r\n')) {
        const size = Number.parseInt(text.subarray(0, lineEnd).toString(), 16)
        if (text.byteLength < lineEnd + 2 + size + 2) break
        if (size === 0) return resolve()
        const piece = text.subarray(lineEnd + 2, lineEnd + 2 + size)
        if (!piece.equals(body.subarray(received, received + size))) wrong += 1
        received += size
        text = text.subarray(lineEnd + 2 + size + 2)
      }
      // 128 KiB and more in 10 ms.
      socket.pause()
      setTimeout(() => socket.resume(), 10)
    })
  })
  const run = await dispatcher.run()
  // As a guest that pipes: it takes more of the body when its answer may go on.
  run.write = (chunk) => {
    if (run.sink.data(chunk)) return
    run.sink.pauseBody?.()
  }
  run.resume = () => run.sink.resumeBody?.()
  run.writeEnd = () => {
    run.sink.bodyEnd()
    run.sink.end(OK, LOCAL)
  }
  run.sink.head(200, '', LOCAL, run.call.body, false)
  await reading
  t.equal(received, total)
  t.equal(wrong, 0)
})

await t.test('one client that holds as many bodies as it may leaves others theirs', async (t) => {
  const { door, dispatcher, client } = await openDoor(t, { bodiesMaxBytes: 16 * MIB, trustedProxies: new TrustedProxies(['127.0.0.1/32'], 'x-forwarded') })
  const upload = (address: string): ReturnType<typeof client> => {
    const connection = client()
    connection.send(`POST /fn/hello/ HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: ${address}\r\nContent-Length: 9000000\r\n\r\n` + 'b'.repeat(3_000_000))
    return connection
  }
  const uploaded = async (address: string): Promise<Run> => {
    const before = dispatcher.runs.length
    upload(address)
    const run = await dispatcher.run(before)
    await run.until(() => run.bodyText().length === 3_000_000)
    return run
  }
  // Of one subscriber, who has many addresses.
  for (let index = 0; index < 4; index += 1) await uploaded(`2001:db8:1:2:${index}::1`)
  t.equal(door.metrics.bodies.used, 8 * MIB)
  dispatcher.onInvoke = (run) => {
    run.onCancel = () => run.sink.fail(new CodedError('ERR_CANCELED'), null)
  }
  const refused = await upload('2001:db8:1:2:ffff::1').response()
  t.equal(refused.status, 503)
  t.equal(errorOf(refused).code, 'ERR_QUEUE_FULL')
  t.equal(door.metrics.bodies.used, 8 * MIB)
  for (const address of ['2001:db8:1:3::1', '192.0.2.1']) await uploaded(address)
  t.equal(door.metrics.bodies.used, 12 * MIB)
  for (const run of dispatcher.runs) run.sink.fail(new CodedError('ERR_CANCELED'), null)
  t.equal(door.metrics.bodies.used, 0)
})
