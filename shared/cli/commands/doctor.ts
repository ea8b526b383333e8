/** `outpost doctor`: what this machine has, what it lacks, and how to mend it. */
import type { Command } from 'commander'
import type { CliContext } from '../context.ts'
import { examine } from '../doctor.ts'
import { QuietFailure, renderTable } from '../output.ts'

interface DoctorOptions {
  readonly json?: boolean
}

export function addDoctor(program: Command, context: CliContext): void {
  program
    .command('doctor')
    .description('check Node, native binaries, ports, memory maps, disk and optional tools, and say how to mend each')
    .option('--json', 'print as JSON')
    .action((options: DoctorOptions) => runDoctor(context, options))
}

async function runDoctor(context: CliContext, options: DoctorOptions): Promise<void> {
  const findings = await examine(context)
  const healthy = findings.every((finding) => finding.status !== 'fail')
  if (options.json === true) context.out(`${JSON.stringify({ healthy, findings })}\n`)
  else {
    const rows = findings.map(({ name, status, found, mend }) => [status, name, mend === null ? found : `${found}. ${mend}`])
    context.out(renderTable(['', 'CHECK', 'FOUND'], rows))
    context.err(healthy ? 'Outpost runs here\n' : 'Outpost does not run here until the lines that say `fail` are mended\n')
  }
  if (!healthy) throw new QuietFailure()
}
