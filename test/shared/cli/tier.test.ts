import t from 'tap'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { CliContext } from '../../../shared/cli/context.ts'
import { runTier, type RunningTier } from '../../../shared/cli/tier.ts'
import { CodedError } from '../../../shared/errors.ts'
import { silentLog } from '../../../shared/log.ts'
import { runHere } from '../../support/cli.ts'

interface Fake {
  readonly context: CliContext
  readonly stop: AbortController
  readonly told: unknown[]
}

function fake(cwd: string): Fake {
  const stop = new AbortController()
  const told: unknown[] = []
  const context: CliContext = {
    env: {}, cwd, out: () => undefined, err: () => undefined, readStdin: () => Promise.resolve(new Uint8Array(0)), stdinIsTerminal: false, stderrIsTerminal: false,
    makeLog: () => silentLog, onHangup: () => undefined, stopSignal: () => stop.signal, self: { file: '', argv: [] }, tellParent: (message) => void told.push(message), nodeChoice: '',
  }
  return { context, stop, told }
}

const settings = { dataDir: 'data', workers: null, drainTimeoutMs: 77 }

t.test('a start that fails gives the data directory back', async (t) => {
  const dir = t.testdir({})
  const { context, told } = fake(dir)
  await t.rejects(runTier(context, 'pop', settings, () => Promise.reject(new CodedError('ERR_PORT_IN_USE', [1, '--port']))), { code: 'ERR_PORT_IN_USE' })
  t.notOk(existsSync(join(dir, 'data/outpost.pid')))
  t.same(told, [])
})

t.test('a second process on the same data is refused while the first runs', async (t) => {
  const dir = t.testdir({ data: { 'outpost.pid': String(process.ppid) } })
  await t.rejects(runTier(fake(dir).context, 'region', settings, () => t.fail('must not start') as never), { code: 'ERR_DATA_LOCKED' })
})

t.test('it tells its ports, holds the lock, and stops with the drain it was given', async (t) => {
  const dir = t.testdir({})
  const { context, stop, told } = fake(dir)
  const stopped: number[] = []
  const tier: RunningTier = {
    port: 1234,
    adminPort: null,
    stop: (drainTimeoutMs) => {
      t.ok(existsSync(join(dir, 'data/outpost.pid')), 'locked until it has stopped')
      stopped.push(drainTimeoutMs)
      return Promise.resolve()
    },
  }
  const running = runTier(context, 'region', settings, (given, { workers }) => {
    t.equal(given.dataDir, join(dir, 'data'), 'relative to where the command was started')
    t.ok(workers >= 1 && workers <= 4)
    return Promise.resolve(tier)
  })
  await new Promise((done) => setImmediate(done))
  t.same(told, [{ kind: 'ready', port: 1234, adminPort: null }])
  stop.abort()
  await running
  t.same(stopped, [77])
  t.notOk(existsSync(join(dir, 'data/outpost.pid')))
})

t.test('region and pop refuse settings that cannot be before anything starts', async (t) => {
  const dir = t.testdir({ 'bad.json': '{"prot":1}', 'broken.json': '{' })
  t.match(await runHere(['pop'], { cwd: dir }), { code: 1, err: /ERR_CONFIG: regionUrls \(--region or OUTPOST_POP_REGION\): must be given/ })
  t.match(await runHere(['pop', '--region', 'nonsense'], { cwd: dir }), { code: 1, err: /ERR_CONFIG: regionUrls .*set by --region/ })
  t.match(await runHere(['region', '--config', 'bad.json'], { cwd: dir }), { code: 1, err: /ERR_CONFIG: bad\.json: there is no setting "prot"/ })
  t.match(await runHere(['region', '--config', 'broken.json'], { cwd: dir }), { code: 1, err: /ERR_CONFIG: broken\.json: / })
  t.match(await runHere(['region', '--config', 'none.json'], { cwd: dir }), { code: 1, err: /ERR_CONFIG: none\.json: / })
  t.match(await runHere(['region'], { cwd: dir, env: { OUTPOST_REGION_MEMORY_MIB: 'much' } }), { code: 1, err: /ERR_CONFIG: memoryMib .*OUTPOST_REGION_MEMORY_MIB/ })
  t.match(await runHere(['region', '--data', 'd'], { cwd: dir }), { code: 1, err: /ERR_CONFIG: keysFile \(--keys or OUTPOST_REGION_KEYS\)/ }, 'no keys, no region')
})

t.test('a region with a policy of copies that cannot be says so and does not start', async (t) => {
  const run = (...options: string[]): ReturnType<typeof runHere> => runHere(['region', '--dev', '--port', '0', '--data', t.testdir({}), ...options])
  t.match(await run('--copies-by', 'location', '--copies-zones', 'north,south', '--copies-zone', 'west'), { code: 1, err: /ERR_CONFIG.*zone west is not among north, south/ })
  t.match(await run('--copies-by', 'location'), { code: 1, err: /ERR_CONFIG/ })
  t.match(await run('--copies-by', 'chance'), { code: 1, err: /ERR_CONFIG.*--copies-by/ })
})
