/** The command line as a whole: commands, the options all of them have, and the exit code of whatever happens. */
import { Command, CommanderError } from 'commander'
import { addDelete } from './commands/delete.ts'
import { addDeploy } from './commands/deploy.ts'
import { addDev } from './commands/dev.ts'
import { addDoctor } from './commands/doctor.ts'
import { addInvoke } from './commands/invoke.ts'
import { addList } from './commands/list.ts'
import { addLogs } from './commands/logs.ts'
import { addPop } from './commands/pop.ts'
import { addRegion } from './commands/region.ts'
import { addStart } from './commands/start.ts'
import { addStore } from './commands/store.ts'
import type { CliContext } from './context.ts'
import { errorLine, QuietFailure, renderError } from './output.ts'
import { packageVersion } from './version.ts'

/** 0: done. 1: failed. 2: the command line itself makes no sense. */
export type ExitCode = 0 | 1 | 2

/** Runs one command line (without node and script) to its end. Never rejects. */
export async function runCommandLine(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const program = createProgram(context)
  try {
    await program.parseAsync([...argv], { from: 'user' })
    return 0
  } catch (error) {
    if (error instanceof QuietFailure) return 1
    // Commander has printed help, version or the mistake already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    if (argv.includes('--json')) context.out(`${JSON.stringify({ error: errorLine(error) })}\n`)
    context.err(renderError(error))
    if (argv.includes('--debug') && error instanceof Error) context.err(renderStack(error))
    return errorLine(error).code === 'ERR_USAGE' ? 2 : 1
  }
}

function createProgram(context: CliContext): Command {
  const program = new Command('outpost')
    .description('Edge functions: hot at a POP, complete at a region, a fresh microVM for every request.')
    .version(packageVersion(), '-V, --version')
    .option('--debug', 'print stacks of errors')
    .exitOverride()
    .configureOutput({ writeOut: (text) => context.out(text), writeErr: (text) => context.err(text) })
    .showHelpAfterError('(--help shows what there is)')
    .addHelpText('after', HELP_TAIL)
  // Commands take over output and exit behaviour of the program, so these come after the lines above.
  for (const add of [addDev, addDeploy, addInvoke, addLogs, addList, addDelete, addDoctor, addRegion, addPop, addStart, addStore]) add(program, context)
  return program
}

const HELP_TAIL = `
Environment:
  OUTPOST_ENDPOINT                                     where deploy, invoke, logs, list and delete call (--endpoint)
  OUTPOST_ACCESS_KEY_ID, OUTPOST_SECRET_ACCESS_KEY     credentials; else AWS_*, else those of the dev server

Exit codes: 0 done, 1 failed, 2 wrong usage. Answers go to stdout, everything else to stderr.
`

function renderStack(error: Error): string {
  const cause = error.cause instanceof Error ? `caused by ${renderStack(error.cause)}` : ''
  return `${error.stack ?? error.message}\n${cause}`
}
