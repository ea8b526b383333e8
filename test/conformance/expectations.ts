/**
 * What is known not to pass, one file for each directory of the suite. A run differs from it in either way or not at
 * all: something else fails, or what is written down here passes (or is gone).
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type FileReport, HARNESS, PASS, PRECONDITION_FAILED } from './types.ts'

export interface Expectations {
  /** Paths that are not run, by reason. */
  readonly notRun: Readonly<Record<string, readonly string[]>>
  readonly fails: readonly { readonly file: string; readonly reason: string; readonly subtests: readonly string[] }[]
}

export const NO_EXPECTATIONS: Expectations = { notRun: {}, fails: [] }
const UNEXPLAINED = '?'

export interface Tally {
  readonly passed: number
  readonly total: number
  /** Subtests that say themselves that they do not apply. */
  readonly inapplicable: number
}

/** Names of a file's subtests that do not pass, the harness itself among them when it did not come to its end. */
export function failuresOf(report: FileReport): readonly { readonly name: string; readonly message: string | null }[] {
  const failures: { name: string; message: string | null }[] = report.subtests.filter(({ status }) => status !== PASS && status !== PRECONDITION_FAILED)
  return report.status === PASS || report.status === PRECONDITION_FAILED ? failures : [...failures, { name: HARNESS, message: report.message }]
}

export function tallyOf(reports: Iterable<FileReport>): Tally {
  let passed = 0
  let total = 0
  let inapplicable = 0
  for (const report of reports) {
    const skipped = report.subtests.filter(({ status }) => status === PRECONDITION_FAILED).length
    const failed = failuresOf(report).length
    const counted = report.subtests.length - skipped + (failuresOf(report).some(({ name }) => name === HARNESS) ? 1 : 0)
    inapplicable += skipped
    total += counted
    passed += counted - failed
  }
  return { passed, total, inapplicable }
}

/** Each line is one difference; none: the run is as expected. */
export function differences(expected: Expectations, reports: ReadonlyMap<string, FileReport>, notRun: readonly { readonly path: string; readonly reason: string }[]): readonly string[] {
  const lines: string[] = []
  const known = new Map<string, Set<string>>()
  for (const { file, subtests } of expected.fails) {
    const names = known.get(file) ?? new Set()
    for (const name of subtests) names.add(name)
    known.set(file, names)
  }
  for (const [file, report] of reports) {
    const names = known.get(file) ?? new Set()
    const failures = failuresOf(report)
    for (const { name, message } of failures) if (!names.has(name)) lines.push(`${file}: fails: ${name}: ${message ?? ''}`)
    const failed = new Set(failures.map(({ name }) => name))
    for (const name of names) if (!failed.has(name)) lines.push(`${file}: does not fail as expected: ${name}`)
  }
  for (const file of known.keys()) if (!reports.has(file)) lines.push(`${file}: is expected to fail and was not run`)
  const knownNotRun = new Set(Object.values(expected.notRun).flat())
  for (const { path, reason } of notRun) if (!knownNotRun.delete(path)) lines.push(`${path}: is not run, ${reason}, and is not written down`)
  for (const path of knownNotRun) lines.push(`${path}: is written down as not run and is run or gone`)
  return lines
}

/** The file that would make a run as expected; reasons that are known are kept. */
export function updated(before: Expectations, reports: ReadonlyMap<string, FileReport>, notRun: readonly { readonly path: string; readonly reason: string }[]): Expectations {
  const reasons = new Map(before.fails.flatMap(({ file, reason, subtests }) => subtests.map((name) => [`${file}\n${name}`, reason] as const)))
  const fails: Expectations['fails'][number][] = []
  for (const [file, report] of reports) {
    const byReason = new Map<string, string[]>()
    for (const { name } of failuresOf(report)) {
      const reason = reasons.get(`${file}\n${name}`) ?? UNEXPLAINED
      const names = byReason.get(reason) ?? []
      // Some files have several subtests of one name.
      if (!names.includes(name)) names.push(name)
      byReason.set(reason, names)
    }
    for (const [reason, subtests] of byReason) fails.push({ file, reason, subtests })
  }
  const grouped: Record<string, string[]> = {}
  for (const { path, reason } of notRun) (grouped[reason] ??= []).push(path)
  return { notRun: grouped, fails }
}

/** Reports without the subtests that are expected to fail for `reason`. */
export function apartFrom(expected: Expectations, reason: string, reports: ReadonlyMap<string, FileReport>): ReadonlyMap<string, FileReport> {
  const names = new Set(expected.fails.filter((each) => each.reason === reason).flatMap(({ file, subtests }) => subtests.map((name) => `${file}\n${name}`)))
  return new Map([...reports].map(([file, report]) => [file, { ...report, subtests: report.subtests.filter(({ name }) => !names.has(`${file}\n${name}`)) }] as const))
}

export function readExpectations(folder: string, directory: string): Expectations {
  const path = pathOf(folder, directory)
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Expectations) : NO_EXPECTATIONS
}

export function writeExpectations(folder: string, directory: string, expectations: Expectations): void {
  writeFileSync(pathOf(folder, directory), `${JSON.stringify(expectations, null, 1)}\n`)
}

function pathOf(folder: string, directory: string): string {
  return join(folder, `${directory.replaceAll('/', '-')}.json`)
}
