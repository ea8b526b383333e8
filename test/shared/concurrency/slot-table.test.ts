/** Slots of a process that stands still for longer than its leases: a real one, stopped and continued by signals. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { start } from '../../support/cli.ts'
import { eventually } from '../../support/dev-server.ts'

const LEASE_MS = 3_000

t.test('a process that was frozen lets nothing in when it goes on, before any of its timers, and stops what ran', { skip: process.platform === 'linux' ? false : 'looks at /proc' }, async (t) => {
  const lessee = start(process.execPath, [fileURLToPath(new URL('../../support/frozen-lessee.ts', import.meta.url)), String(LEASE_MS)])
  t.teardown(() => lessee.child.kill('SIGKILL'))
  await eventually(() => Promise.resolve(stateOf(lessee.child.pid ?? 0)), (state) => state === 'T', 30_000)
  const stoppedAtMs = performance.now()
  await eventually(() => Promise.resolve(performance.now() - stoppedAtMs), (ms) => ms > LEASE_MS + 100)
  lessee.child.kill('SIGCONT')
  const { out, err, code } = await lessee.ended
  t.equal(code, 0, err)
  t.same(JSON.parse(out), { before: [true, true, true], after: [false, false], isOver: true, stopped: 3, inUse: 0 })
})

/** One letter, `T` for stopped. */
function stateOf(pid: number): string {
  return /\) (\w)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1] ?? ''
}
