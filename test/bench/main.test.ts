import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { BENCHMARKS } from '../../bench/all.ts'

const MAIN = fileURLToPath(new URL('../../bench/main.ts', import.meta.url))

function bench(...args: string[]): { readonly status: number | null; readonly stdout: string; readonly stderr: string } {
  return spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN, ...args], { encoding: 'utf8', timeout: 100_000 })
}

void t.test('help names every benchmark, a wrong option says what there is', (t) => {
  const help = bench('--help')
  t.equal(help.status, 0)
  for (const { name } of BENCHMARKS) t.match(help.stdout, name)
  t.match(bench('--only', 'nonsense'), { status: 2, stderr: /no benchmark nonsense; there are http-json/ })
  t.match(bench('--rounds', '0'), { status: 2, stderr: /whole number/ })
  t.match(bench('--colour'), { status: 2, stderr: /colour/ })
  t.end()
})

void t.test('keys of figures are unique', (t) => {
  const keys = BENCHMARKS.flatMap((benchmark) => benchmark.figures.map((figure) => figure.key))
  t.equal(new Set(keys).size, keys.length)
  t.end()
})

void t.test('--json prints figures and where they were taken, --quick gives no verdict', (t) => {
  const { status, stdout } = bench('--json', '--quick', '--only', 'reset-cost')
  t.equal(status, 0)
  const results = JSON.parse(stdout) as { environment: Record<string, string>; figures: { key: string; value: number; met: boolean | null; bar: { value: number } }[] }
  for (const name of ['date', 'machine', 'node', 'commit', 'engine', 'peers', 'generator', 'notMeasured']) t.ok(results.environment[name], name)
  t.same(results.figures.map((figure) => figure.key), ['reset-32-p50', 'reset-128-p50', 'reset-512-p50', 'reset-32-vs-copy'])
  for (const { value, met, bar } of results.figures) t.ok(value > 0 && met === null && bar.value > 0)
  t.end()
})
