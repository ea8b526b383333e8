/** The tool itself: lines do what they are told, so that what other tests see over them can be believed. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { start } from '../support/cli.ts'
import { eventually } from '../support/dev-server.ts'
import { needWan, type Wan } from '../support/wan.ts'

const PORT = 7000
/** Echoes what comes, and says how much has come. */
const ECHO = `require('net').createServer((socket) => { socket.setNoDelay(); socket.on('error', () => {}); socket.on('data', (bytes) => socket.write(bytes)) }).listen(${PORT}, '0.0.0.0', () => console.log('listening'))`

interface Line {
  readonly wan: Wan
  dial(): Promise<Socket>
}

async function startEcho(t: Parameters<typeof needWan>[0]): Promise<Line | null> {
  const wan = await needWan(t, ['here', 'far'])
  if (wan === null) return null
  const [file, ...argv] = wan.at('far', [process.execPath, '-e', ECHO])
  const echo = start(file, argv)
  t.teardown(async () => {
    echo.child.kill('SIGKILL')
    await echo.ended
  })
  await echo.untilOut('listening')
  return {
    wan,
    async dial() {
      const socket = connect(PORT, wan.address('far'))
      socket.setNoDelay(true)
      socket.on('error', () => undefined)
      t.teardown(() => socket.destroy())
      await once(socket, 'connect')
      return socket
    },
  }
}

/** Sends so many bytes and waits until they are back; how long it took, ms. */
function roundTrip(socket: Socket, bytes = 1): Promise<number> {
  const startedAtMs = performance.now()
  return new Promise((resolve) => {
    let missing = bytes
    const take = (chunk: Buffer): void => {
      missing -= chunk.length
      if (missing > 0) return
      socket.off('data', take)
      resolve(performance.now() - startedAtMs)
    }
    socket.on('data', take)
    socket.write(Buffer.alloc(bytes))
  })
}

async function lostOf(wan: Wan): Promise<number> {
  return (await wan.stats('here', 'far')).lost + (await wan.stats('far', 'here')).lost
}

await t.test('a line is as slow as it is told, each way by itself, and changes at once', async (t) => {
  const line = await startEcho(t)
  if (line === null) return
  const { wan } = line
  const socket = await line.dial()
  t.ok(await roundTrip(socket) < 30)
  await wan.between('here', 'far', { delayMs: 35 })
  const slowMs = await roundTrip(socket)
  t.ok(slowMs >= 70 && slowMs < 110, `${slowMs} ms`)
  await wan.set('here', 'far', { delayMs: 100 })
  const oneWayMs = await roundTrip(socket)
  t.ok(oneWayMs >= 135 && oneWayMs < 175, `${oneWayMs} ms`)
  await wan.between('here', 'far', { delayMs: 0 })
  t.ok(await roundTrip(socket) < 30)
})

await t.test('packets are lost, doubled and put out of order, and TCP brings every byte all the same', async (t) => {
  const line = await startEcho(t)
  if (line === null) return
  const { wan } = line
  const socket = await line.dial()
  await wan.between('here', 'far', { delayMs: 5, jitterMs: 5, loss: 0.05, doubled: 0.05, reordered: 0.05, seed: 7 })
  await roundTrip(socket, 1_000_000)
  const { packets, lost } = await wan.stats('here', 'far')
  t.ok(lost > packets * 0.02 && lost < packets * 0.1, `${lost} of ${packets}`)
})

await t.test('a line has the rate that it is told', async (t) => {
  const line = await startEcho(t)
  if (line === null) return
  const socket = await line.dial()
  await line.wan.set('here', 'far', { bytesPerSecond: 500_000 })
  const tookMs = await roundTrip(socket, 500_000)
  t.ok(tookMs > 800 && tookMs < 2_500, `${tookMs} ms`)
})

await t.test('what is partitioned hears nothing, no reset either, and goes on where it was after the heal', async (t) => {
  const line = await startEcho(t)
  if (line === null) return
  const { wan } = line
  const socket = await line.dial()
  await roundTrip(socket)
  for (const cut of [() => wan.partition('here', 'far'), () => wan.set('here', 'far', { blocked: true }), () => wan.set('far', 'here', { blocked: true })]) {
    await cut()
    const before = await lostOf(wan)
    let back = false
    const answer = roundTrip(socket).then(() => (back = true))
    await eventually(() => lostOf(wan), (lost) => lost > before)
    t.equal(back, false)
    t.equal(socket.destroyed, false)
    await wan.heal('here', 'far')
    await answer
    t.equal(back, true)
  }
})

await t.test('connections that are severed stay silent, new ones work', async (t) => {
  const line = await startEcho(t)
  if (line === null) return
  const { wan } = line
  const [old, other] = [await line.dial(), await line.dial()]
  await roundTrip(old)
  await roundTrip(other)
  t.equal(await wan.sever('here', 'far'), 2)
  let heard = false
  void roundTrip(old).then(() => (heard = true))
  await roundTrip(await line.dial())
  t.equal(heard, false)
  t.equal(old.destroyed, false)
})

await t.test('which packets are lost depends on the seed alone', async (t) => {
  const wan = await needWan(t, ['here', 'far'])
  if (wan === null) return
  const socket = createSocket('udp4')
  t.teardown(() => socket.close())
  // That nobody listens is none of its business.
  socket.on('error', () => undefined)
  const lostOf = async (seed: number): Promise<number> => {
    await wan.set('here', 'far', { loss: 0.5, seed })
    const before = await wan.stats('here', 'far')
    for (let packet = 0; packet < 400; packet += 1) socket.send('x', PORT, wan.address('far'))
    const after = await eventually(() => wan.stats('here', 'far'), ({ packets }) => packets === before.packets + 400)
    return after.lost - before.lost
  }
  const first = await lostOf(1)
  t.ok(first > 150 && first < 250, `${first} of 400`)
  t.equal(await lostOf(1), first)
  const others = [await lostOf(2), await lostOf(3), await lostOf(4)]
  t.ok(others.some((lost) => lost !== first), `${others.join(', ')} with other seeds`)
})
