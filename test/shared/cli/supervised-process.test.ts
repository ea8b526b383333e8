import t, { type Test } from 'tap'
import { ManualClock, systemClock, type Clock } from '../../../shared/clock.ts'
import { SupervisedProcess } from '../../../shared/cli/supervised-process.ts'

/** A child as one line of JavaScript; `say` reports ready. */
const SAY = `const say = (port) => process.send({ kind: 'ready', port, adminPort: null });`

interface Supervised {
  readonly process: SupervisedProcess
  readonly lines: string[]
  readonly restarts: { readonly reason: string; readonly delayMs: number }[]
  readonly untilRestarts: (count: number) => Promise<void>
  readonly untilLines: (count: number) => Promise<void>
}

function supervise(t: Test, script: string, clock: Clock, more: (before: number | null) => readonly string[] = () => []): Supervised {
  const lines: string[] = []
  const restarts: { reason: string; delayMs: number }[] = []
  const waiting: (() => void)[] = []
  const child = new SupervisedProcess({
    name: 'child',
    file: process.execPath,
    argv: (before) => ['-e', SAY + script, ...more(before?.port ?? null)],
    env: {},
    cwd: process.cwd(),
    clock,
    onLine: (line) => {
      lines.push(line)
      for (const look of waiting) look()
    },
    onRestart: (reason, delayMs) => {
      restarts.push({ reason, delayMs })
      for (const look of waiting) look()
    },
  })
  t.teardown(() => child.stop(1000))
  const until = (list: readonly unknown[], count: number): Promise<void> =>
    new Promise((done) => {
      const look = (): void => {
        if (list.length >= count) done()
      }
      waiting.push(look)
      look()
    })
  return { process: child, lines, restarts, untilRestarts: (count) => until(restarts, count), untilLines: (count) => until(lines, count) }
}

t.test('a child that ends before it is ready fails the start with its own last words', async (t) => {
  const { process: child, restarts } = supervise(t, `console.error('noise'); console.error('outpost: ERR_X: because'); process.exit(3)`, systemClock)
  await t.rejects(child.start(), { code: 'ERR_PROCESS_FAILED', params: ['child', 'ERR_X: because'] })
  t.same(restarts, [])
  t.equal(child.pid, null)
})

t.test('a program that cannot be started fails the start', async (t) => {
  const child = new SupervisedProcess({ name: 'child', file: '/no/such/program', argv: () => [], env: {}, cwd: process.cwd(), clock: systemClock, onLine: () => undefined, onRestart: () => undefined })
  await t.rejects(child.start(), { code: 'ERR_PROCESS_FAILED', message: /ENOENT/ })
  await child.stop(1000)
})

t.test('a child that ends is started again, with growing pauses and told what it said before', async (t) => {
  const clock = new ManualClock()
  const { process: child, restarts, untilRestarts, lines } = supervise(t, `console.log('before ' + process.argv[1]); say(7); setImmediate(() => process.exit(1))`, clock, (before) => [String(before)])
  t.match(await child.start(), { port: 7 })
  await untilRestarts(1)
  clock.advance(100)
  await untilRestarts(2)
  clock.advance(200)
  await untilRestarts(3)
  t.same(restarts.map(({ delayMs }) => delayMs), [100, 200, 400])
  t.same(lines, ['before null', 'before 7', 'before 7'])
  t.equal(child.restarts, 2)
})

t.test('after real uptime the pauses begin anew', async (t) => {
  const clock = new ManualClock()
  const { process: child, restarts, untilRestarts, untilLines } = supervise(t, `say(1); process.on('SIGUSR2', () => process.exit(1)); setInterval(() => {}, 1000); console.log('up')`, clock)
  const crash = async (count: number): Promise<void> => {
    process.kill(child.pid ?? 0, 'SIGUSR2')
    await untilRestarts(count)
  }
  await child.start()
  await untilLines(1)
  await crash(1)
  clock.advance(100)
  clock.advance(60_000)
  await untilLines(2)
  await crash(2)
  t.same(restarts.map(({ delayMs }) => delayMs), [100, 100])
})

t.test('stop during a pause starts no further child', async (t) => {
  const clock = new ManualClock()
  const { process: child, untilRestarts } = supervise(t, `say(1); setImmediate(() => process.exit(1))`, clock)
  await child.start()
  await untilRestarts(1)
  await child.stop(1000)
  clock.advance(60_000)
  t.equal(child.restarts, 0)
  t.equal(child.pid, null)
})

t.test('stop asks first and kills at the deadline', async (t) => {
  const polite = supervise(t, `say(1); process.on('SIGTERM', () => { console.log('bye'); process.exit(0) }); setInterval(() => {}, 1000)`, systemClock)
  await polite.process.start()
  await polite.process.stop(10_000)
  t.same(polite.lines, ['bye'])
  t.same(polite.restarts, [])
  const deaf = supervise(t, `process.on('SIGTERM', () => {}); say(1); setInterval(() => {}, 1000)`, systemClock)
  await deaf.process.start()
  await deaf.process.stop(50)
  t.equal(deaf.process.pid, null)
})
