import { existsSync } from 'node:fs'
import t from 'tap'
import { Child } from '../../bench/harness/child.ts'
import { cpuSeconds, parseStat, processTree, residentBytes } from '../../bench/harness/proc.ts'
import { fixture } from '../../bench/harness/fixtures.ts'
import { Scope } from '../../bench/harness/scope.ts'

const isLinux = process.platform === 'linux'

void t.test('a scope undoes everything, last first, and reports the first failure', async (t) => {
  const undone: number[] = []
  const scope = new Scope()
  scope.defer(() => void undone.push(1))
  scope.defer(() => Promise.reject(new Error('stuck')))
  scope.defer(() => void undone.push(3))
  await t.rejects(scope.close(), { message: 'stuck' })
  t.same(undone, [3, 1])
  await scope.close()
  t.same(undone, [3, 1])
})

void t.test('CPU time and memory are those of a process and its descendants', { skip: isLinux ? false : 'needs /proc' }, async (t) => {
  const scope = new Scope()
  t.teardown(() => scope.close())
  const child = await Child.start(scope, {
    command: process.execPath,
    args: ['-e', `
      const { spawnSync } = require('node:child_process')
      spawnSync(process.execPath, ['-e', 'const end = Date.now() + 300; while (Date.now() < end);'])
      console.log('spent')
      setInterval(() => {}, 1000)`],
  })
  t.equal(await child.firstLine(1, 20_000), 'spent')
  t.ok(cpuSeconds([child.pid]) >= 0.2, 'the ended grandchild counts')
  t.ok(residentBytes([child.pid]) > 1e6)
  t.same(processTree(child.pid), [child.pid])
  await child.stop()
  t.same(processTree(child.pid), [])
})

void t.test('a program\'s name may hold spaces and parentheses', (t) => {
  const fields = ['7', '(a b) (c)', 'S', '3', ...Array.from({ length: 9 }, () => '0'), '10', '20', '30', '40', '0']
  t.same(parseStat(fields.join(' ')), { parentPid: 3, cpuTicks: 100 })
  t.end()
})

void t.test('a child that fails says what it printed, and one that is slow is stopped', async (t) => {
  const scope = new Scope()
  t.teardown(() => scope.close())
  const failing = await Child.start(scope, { command: process.execPath, args: ['-e', 'console.error("no luck"); process.exit(3)'] })
  await t.rejects(failing.result(20_000), { message: /ended with 3:\nno luck/ })
  const slow = await Child.start(scope, { command: process.execPath, args: ['-e', 'setInterval(() => {}, 1000)'] })
  await t.rejects(slow.result(300), { message: /ended with SIGKILL/ })
  await t.rejects(Child.start(scope, { command: '/nonexistent/program', args: [] }))
})

void t.test('copies of an application differ, and no placeholder is left', (t) => {
  for (const name of ['json-fetch', 'text-fetch', 'event-handler', 'hono-app', 'slow-upstream', 'memory', 'cpu', 'numbered'] as const) {
    t.notMatch(fixture(name, 3), '__INDEX__')
  }
  t.not(fixture('hono-app', 1), fixture('hono-app', 2))
  t.not(fixture('numbered', 1), fixture('numbered', 2))
  t.end()
})

void t.test('a closed scope starts nothing, and its directories are gone', async (t) => {
  const scope = new Scope()
  const directory = scope.temporaryDirectory('outpost-bench-test-')
  t.ok(existsSync(directory))
  await scope.close()
  t.notOk(existsSync(directory))
  await t.rejects(Child.start(scope, { command: process.execPath, args: ['-e', ''] }), { message: /not started/ })
  const abandoned = new Scope()
  const left = abandoned.temporaryDirectory('outpost-bench-test-')
  abandoned.abandon()
  t.notOk(existsSync(left))
})
