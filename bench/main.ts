/** `npm run bench`: every figure of the specification with its bar, taken in one run. See --help. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { BENCHMARKS } from './all.ts'
import type { Benchmark } from './harness/benchmark.ts'
import { environment } from './harness/environment.ts'
import { toJson, toText } from './harness/report.ts'
import { runAll } from './harness/run.ts'
import { Scope } from './harness/scope.ts'
import { startOutpost } from './servers/outpost.ts'

const ROUNDS_DEFAULT = 5
const ROUNDS_MAX = 99
const PLOTS_DEFAULT = 'bench/sim/plots'

const HELP = `Usage: npm run bench -- [--json] [--quick] [--rounds N] [--plots DIR] [NAME...]

  NAME      run these benchmarks, or those whose names begin with NAME-, instead of all; also --only NAME[,NAME]: ${BENCHMARKS.map((benchmark) => benchmark.name).join(', ')}
  --rounds  rounds per comparison, ${ROUNDS_DEFAULT} unless told (quick: 1)
  --quick   a tiny run that shows that everything works; its values mean nothing
  --plots   folder for the pictures of the simulations, ${PLOTS_DEFAULT} unless told
  --json    print JSON instead of the table

Exit code 1 when a benchmark broke: a server failed, or an answer was wrong. A missed bar does not change the exit code.
`

interface Options {
  readonly isJson: boolean
  readonly quick: boolean
  readonly rounds: number
  readonly plotsDir: string
  readonly benchmarks: readonly Benchmark[]
}

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2))
  if (typeof options === 'string') {
    const isHelp = options === HELP
    ;(isHelp ? process.stdout : process.stderr).write(options)
    return isHelp ? 0 : 2
  }

  let scope = new Scope()
  process.on('exit', () => scope.abandon())
  let isStopping = false
  const stop = (): void => {
    // Servers end first; a second signal ends this process at once, and `exit` then kills what is left.
    if (isStopping) process.exit(130)
    isStopping = true
    void scope.close().finally(() => process.exit(130))
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)

  const before = environment(new Date())
  const { quick, rounds } = options
  const result = await runAll(options.benchmarks, {
    rounds,
    quick,
    startOutpost,
    plot: (name, svg) => {
      mkdirSync(options.plotsDir, { recursive: true })
      writeFileSync(join(options.plotsDir, `${name}.svg`), svg)
    },
    progress: (line) => process.stderr.write(`${line}\n`),
    scopeChanged: (current) => {
      scope = current
    },
  })
  const results = { environment: before, quick, rounds, ...result }
  process.stdout.write(`${options.isJson ? toJson(results) : toText(results)}\n`)
  return result.failures.length > 0 ? 1 : 0
}

/** Or a text to print instead of running. */
function readOptions(args: readonly string[]): Options | string {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { json: { type: 'boolean' }, quick: { type: 'boolean' }, only: { type: 'string' }, rounds: { type: 'string' }, plots: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    })
    if (values.help === true) return HELP
    const quick = values.quick === true
    const rounds = values.rounds === undefined ? (quick ? 1 : ROUNDS_DEFAULT) : Number(values.rounds)
    if (!Number.isInteger(rounds) || rounds < 1 || rounds > ROUNDS_MAX) return `--rounds wants a whole number from 1 to ${ROUNDS_MAX}\n`
    const wanted = [...positionals, ...(values.only?.split(',') ?? [])]
    const names = wanted.length > 0 ? wanted : BENCHMARKS.map((benchmark) => benchmark.name)
    const isNamed = (benchmark: Benchmark, name: string): boolean => benchmark.name === name || benchmark.name.startsWith(`${name}-`)
    const unknown = names.find((name) => !BENCHMARKS.some((benchmark) => isNamed(benchmark, name)))
    if (unknown !== undefined) return `no benchmark ${unknown}; there are ${BENCHMARKS.map((benchmark) => benchmark.name).join(', ')}\n`
    return { isJson: values.json === true, quick, rounds, plotsDir: values.plots ?? PLOTS_DEFAULT, benchmarks: BENCHMARKS.filter((benchmark) => names.some((name) => isNamed(benchmark, name))) }
  } catch (error) {
    return `${error instanceof Error ? error.message : String(error)}\n\n${HELP}`
  }
}

process.exitCode = await main()
