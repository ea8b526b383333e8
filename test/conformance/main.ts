/** `npm run conformance`: web-platform-tests inside microVMs, compared with what is expected. See --help. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { BARS, DIRECTORIES, type Bar } from './directories.ts'
import { apartFrom, differences, type Expectations, readExpectations, tallyOf, updated, writeExpectations } from './expectations.ts'
import { createGuestRunner } from './guest-runner.ts'
import { createNodeRunner } from './node-runner.ts'
import { runFiles } from './run-directory.ts'
import { serveSuite } from './suite-server.ts'
import { hasTests, listTests, type SuiteFiles } from './suite.ts'
import type { FileReport, Runner } from './types.ts'

const EXPECTED = fileURLToPath(new URL('expected', import.meta.url))

const HELP = `Usage: npm run conformance -- --wpt DIR [--wpt DIR...] [--native] [--update] [--timeout MS] [--json FILE] [DIRECTORY...]

  --wpt DIR    a checkout of web-platform-tests, or a folder shaped like one; of several the first that has a directory's tests is used for it
  --native     run Node as well, in the same harness, and hold what must not be below it
  --only-native  run Node alone: a table, nothing is compared
  --update     write what was found into test/conformance/expected; what has no reason yet gets "?"
  --expected DIR  expectation files of your own
  --timeout MS for each file instead of 20 s, or 90 s for those that call themselves long
  --json FILE  results of every subtest
  DIRECTORY    run these directories of the suite instead of all: ${DIRECTORIES.join(', ')}

Where to get the suite: the expectations are of two parts that need no checkout of all of it.
  apt-get source --download-only nodejs   # Debian 12, deb-src; test/fixtures/wpt in its .orig.tar.xz
  git clone https://github.com/nodejs/undici && git -C undici checkout 5fa63f1b7^   # test/fixtures/wpt has fetch

Exit code 1 when anything differs from what is expected, in either direction, or a bar is missed; 2 for a wrong call.
`

interface DirectoryResult {
  readonly directory: string
  readonly files: SuiteFiles
  readonly guest: ReadonlyMap<string, FileReport>
  readonly node: ReadonlyMap<string, FileReport>
  readonly expected: Expectations
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { wpt: { type: 'string', multiple: true }, native: { type: 'boolean' }, 'only-native': { type: 'boolean' }, update: { type: 'boolean' }, expected: { type: 'string' }, json: { type: 'string' }, timeout: { type: 'string' }, help: { type: 'boolean' } },
  })
  const roots = (values.wpt ?? []).map((root) => resolve(root))
  if (values.help === true || roots.length === 0) return say(HELP, values.help === true ? 0 : 2)
  for (const root of roots) if (!existsSync(join(root, 'resources/testharness.js'))) return say(`${root} has no resources/testharness.js: --wpt names a checkout of web-platform-tests\n`, 2)
  const expectedFolder = values.expected ?? EXPECTED
  if (!(Number(values.timeout ?? 1) > 0)) return say('--timeout is a number of milliseconds\n', 2)
  mkdirSync(expectedFolder, { recursive: true })
  const withGuest = values['only-native'] !== true
  const withNode = values.native === true || !withGuest
  const results: DirectoryResult[] = []
  const problems: string[] = []
  for (const directory of positionals.length > 0 ? positionals : DIRECTORIES) {
    const root = roots.find((candidate) => hasTests(candidate, directory))
    if (root === undefined) {
      problems.push(`${directory}: no --wpt has tests of it`)
      continue
    }
    const files = listTests(root, directory, values.timeout === undefined ? null : Number(values.timeout))
    const server = await serveSuite(root)
    const by = async (runner: Runner): Promise<ReadonlyMap<string, FileReport>> => {
      try {
        return await runFiles(files, runner)
      } finally {
        await runner.close()
      }
    }
    try {
      const guest = withGuest ? await by(await createGuestRunner(server)) : new Map<string, FileReport>()
      const node = withNode ? await by(createNodeRunner(root, server)) : new Map<string, FileReport>()
      const before = readExpectations(expectedFolder, directory)
      results.push({ directory, files, guest, node, expected: before })
      process.stdout.write(row(results.at(-1) as DirectoryResult))
      if (!withGuest) continue
      if (values.update === true) writeExpectations(expectedFolder, directory, updated(before, guest, files.notRun))
      else problems.push(...differences(before, guest, files.notRun))
    } finally {
      await server.close()
    }
  }
  if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(results.map(({ directory, files, guest, node }) => ({ directory, notRun: files.notRun, guest: Object.fromEntries(guest), node: Object.fromEntries(node) })), null, 1))
  if (withGuest) problems.push(...BARS.flatMap((bar) => missed(bar, results)))
  for (const problem of problems) process.stdout.write(`${problem}\n`)
  process.stdout.write(problems.length === 0 ? 'as expected\n' : `${problems.length} differences\n`)
  return problems.length === 0 ? 0 : 1
}

function say(text: string, code: number): number {
  ;(code === 0 ? process.stdout : process.stderr).write(text)
  return code
}

function row({ directory, files, guest, node }: DirectoryResult): string {
  const figure = (reports: ReadonlyMap<string, FileReport>): string => {
    if (reports.size === 0) return ''
    const { passed, total, inapplicable } = tallyOf(reports.values())
    return `${passed} of ${total}${inapplicable === 0 ? '' : `, ${inapplicable} do not apply`}`
  }
  return `${directory.padEnd(36)} ${figure(guest).padEnd(34)} ${node.size === 0 ? '' : `Node ${figure(node).padEnd(30)}`} ${files.tests.length} files run, ${files.notRun.length} not run\n`
}

/** In words; none if the bar is held or nothing of it was run. */
function missed({ name, of, shareMin, apartFrom: reason, notBelowNode }: Bar, results: readonly DirectoryResult[]): readonly string[] {
  const select = (side: 'guest' | 'node'): readonly FileReport[] => results.flatMap((result) => [...(reason === undefined ? result[side] : apartFrom(result.expected, reason, result[side]))].filter(([id]) => of.some((prefix) => id.startsWith(prefix))).map(([, report]) => report))
  const { passed, total } = tallyOf(select('guest'))
  if (total === 0) return []
  const lines: string[] = []
  if (shareMin !== undefined && passed < total * shareMin) lines.push(`bar ${name}: ${passed} of ${total} pass, less than ${(shareMin * 100).toFixed(1)} %`)
  const native = tallyOf(select('node'))
  if (notBelowNode === true && native.total > 0 && passed < native.passed) lines.push(`bar ${name}: ${passed} of ${total} pass, in Node ${native.passed}`)
  return lines
}

process.exitCode = await main()
