import t from 'tap'
import { runHere } from '../../support/cli.ts'

interface Report {
  readonly healthy: boolean
  readonly findings: readonly { readonly name: string; readonly status: string; readonly found: string; readonly mend: string | null }[]
}

t.test('optional tools that are missing are named with their Debian package and fail nothing', async (t) => {
  const ran = await runHere(['doctor', '--json'], { env: { PATH: t.testdir({}) } })
  const { healthy, findings } = JSON.parse(ran.out) as Report
  t.ok(healthy, ran.out)
  t.equal(ran.code, 0)
  const mends = new Map(findings.map(({ name, mend }) => [name, mend]))
  t.equal(mends.get('wrk'), 'apt-get install wrk')
  t.equal(mends.get('qemu-system-x86_64'), 'apt-get install qemu-system-x86')
  t.equal(mends.get('nats-server'), 'apt-get install nats-server')
  t.equal(mends.get('chromium'), 'apt-get install chromium')
})

t.test('what is required is tried, and what is found is said', async (t) => {
  const { findings } = JSON.parse((await runHere(['doctor', '--json'])).out) as Report
  const found = new Map(findings.map((finding) => [finding.name, finding]))
  for (const name of ['node', 'multi-memory', 'icu', 'uWebSockets.js', 'lmdb', 'esbuild']) t.match(found.get(name), { status: 'ok', mend: null }, name)
  t.match(found.get('node')?.found, `${process.version}; the one of the test`)
  if (process.platform === 'linux') t.match(found.get('slots')?.found, /^about \d+ slots a process \(vm\.max_map_count \d+ allows \d+, address space \d+\)$/)
  for (const { name, status, mend } of findings) t.equal(mend === null, status === 'ok', `${name} says how to mend exactly what is not ok`)
})

t.test('for people: a table on stdout, the verdict on stderr', async (t) => {
  const ran = await runHere(['doctor'])
  t.match(ran.out, /^ +CHECK +FOUND\n/)
  t.match(ran.out, /^ok +multi-memory +/m)
  t.match(ran.err, /^Outpost runs here\n$/)
})
