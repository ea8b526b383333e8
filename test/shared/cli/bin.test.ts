/** The package's bin as a real process: exit codes, where things are printed, and what an old Node gets. */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { BIN, runHere, runProcess, start } from '../../support/cli.ts'

// A dozen processes, some of them two deep.
t.setTimeout(300_000)

t.test('usage errors: exit code 2, explained on stderr, nothing on stdout', async (t) => {
  const wrong = [['deplo'], ['invoke'], ['dev', '--port', 'x'], ['pop', '--memory', '1'], ['list', '--what']]
  for (const ran of [await runProcess(['deplo']), ...(await Promise.all(wrong.map((argv) => runHere(argv))))]) {
    t.equal(ran.code, 2)
    t.match(ran.err, /^error: /)
    t.equal(ran.out, '')
  }
})

t.test('a failure: exit code 1 and one line', async (t) => {
  const ran = await runProcess(['list', '--endpoint', 'http://127.0.0.1:9'])
  t.match(ran, { code: 1, out: '', err: /^outpost: ERR_ENDPOINT_UNREACHABLE: [^\n]*\n$/ })
})

t.test('help everywhere, on stdout, exit code 0', async (t) => {
  t.match(await runProcess(['--help']), { code: 0, out: /^Usage: outpost/, err: '' })
  for (const argv of [['help', 'deploy'], ...['dev', 'region', 'pop', 'deploy', 'invoke', 'logs', 'list', 'delete', 'doctor', 'start'].map((command) => [command, '--help'])]) {
    t.match(await runHere(argv), { code: 0, out: /^Usage: outpost/, err: '' }, argv.join(' '))
  }
})

t.test('no warnings of Node, and the version of package.json', async (t) => {
  t.match(await runProcess(['--version']), { code: 0, out: /^\d+\.\d+\.\d+\n$/, err: '' })
})

t.test('a reader that goes away ends the command quietly', async (t) => {
  const process = start(globalThis.process.execPath, [BIN, '--help'])
  process.child.stdout?.destroy()
  t.match(await process.ended, { err: '' })
})

t.test('under an old Node', async (t) => {
  const old = findOldNode()
  if (old === null) {
    t.plan(0, 'no Node below 22.18 on PATH')
    return
  }
  await t.test('the bundled Node is used, and says so', async (t) => {
    const ran = await start(old, [BIN, 'doctor', '--json']).ended
    t.equal(ran.err, '')
    const { findings } = JSON.parse(ran.out) as { findings: { name: string; found: string }[] }
    t.match(findings.find((finding) => finding.name === 'node')?.found, /bundled with the install \(node-.*since .* is v/)
  })
  await t.test('exit codes come through', async (t) => {
    t.equal((await start(old, [BIN, 'nonsense']).ended).code, 2)
    t.equal((await start(old, [BIN, 'list', '--endpoint', 'http://127.0.0.1:9']).ended).code, 1)
  })
  await t.test('without the optional package it is told how to mend that', async (t) => {
    // Outside the checkout, whose node_modules has the package.
    const dir = mkdtempSync(join(tmpdir(), 'outpost-bin-'))
    t.teardown(() => rmSync(dir, { recursive: true }))
    mkdirSync(join(dir, 'shared/cli'), { recursive: true })
    cpSync(BIN, join(dir, 'shared/cli/bin.js'))
    cpSync(new URL('../../../package.json', import.meta.url), join(dir, 'package.json'))
    const ran = await start(old, [join(dir, 'shared/cli/bin.js'), '--version'], { cwd: dir }).ended
    t.match(ran, { code: 1, out: '', err: /^outpost: ERR_ENVIRONMENT: Node 22\.18 or newer is needed, this is v\d+.*npm ci.*\n$/ })
  })
})

t.test('dependencies that are not installed are named with what to run', async (t) => {
  const dir = t.testdir({ 'package.json': '{"type":"module"}', shared: { cli: { 'main.ts': `import 'no-such-package'\n` } } })
  cpSync(BIN, join(dir, 'shared/cli/bin.js'))
  const ran = await start(process.execPath, [join(dir, 'shared/cli/bin.js')]).ended
  t.match(ran, { code: 1, err: /no-such-package is not installed\. Run: npm ci/ })
})

/** tap puts the bundled Node first on PATH; the machine's own may be behind it. */
function findOldNode(): string | null {
  for (const dir of (process.env.PATH ?? '').split(delimiter)) {
    try {
      if (!readdirSync(dir).includes('node')) continue
      const version = execFileSync(join(dir, 'node'), ['--version'], { encoding: 'utf8' })
      const [major = 0, minor = 0] = version.replace('v', '').split('.').map(Number)
      if (major < 22 || (major === 22 && minor < 18)) return join(dir, 'node')
    } catch {
      // Not a directory, or no Node that starts.
    }
  }
  return null
}
