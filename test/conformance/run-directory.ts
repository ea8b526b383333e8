/** One directory of the suite: its files by one runner, several at a time, each with all its variants. */
import { availableParallelism } from 'node:os'
import type { SuiteFiles } from './suite.ts'
import type { FileReport, Runner } from './types.ts'

/** Reports by the id of the file, in the suite's order. */
export async function runFiles({ tests }: SuiteFiles, runner: Runner): Promise<ReadonlyMap<string, FileReport>> {
  const reports = new Map<string, FileReport | null>(tests.map(({ id }) => [id, null]))
  const waiting = tests.values()
  const work = async (): Promise<void> => {
    for (const file of waiting) reports.set(file.id, await runner.run(file))
  }
  await Promise.all(Array.from({ length: availableParallelism() }, work))
  return reports as ReadonlyMap<string, FileReport>
}
