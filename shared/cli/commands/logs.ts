/** `outpost logs NAME`: what a function's latest runs have logged, kept by the POP and the region that ran them. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { ApiClient, resolveCredentials, type LogPage } from '../api-client.ts'
import type { CliContext } from '../context.ts'
import { functionName, resolveEndpoint } from '../options.ts'

/** A new line is seen this much later at most; each poll is one small signed call. */
const FOLLOW_PERIOD_MS = 500

interface LogsOptions {
  readonly follow?: boolean
  readonly endpoint?: string
  readonly json?: boolean
}

export function addLogs(program: Command, context: CliContext): void {
  program
    .command('logs')
    .description("print what a function's latest runs have logged")
    .argument('<name>', "the function's name")
    .option('-f, --follow', 'keep printing until stopped')
    .option('--endpoint <url>', 'a POP or a region (default: OUTPOST_ENDPOINT, else http://127.0.0.1:8787)')
    .option('--json', 'print one JSON object per line')
    .addHelpText('after', '\nEach POP and each region keeps the lines of what it ran itself. A POP prints its own and those of its region, a region its\nown only: for what ran at several POPs, ask each of them.\n')
    .action((name: string, options: LogsOptions) => runLogs(context, name, options))
}

async function runLogs(context: CliContext, name: string, options: LogsOptions): Promise<void> {
  const api = new ApiClient(resolveEndpoint(options.endpoint, context), resolveCredentials(context.env))
  const stop = options.follow === true ? context.stopSignal() : null
  let token: string | null = null
  do {
    const page: LogPage = await api.logs(functionName(name), token)
    token = page.NextToken
    for (const event of page.Events) context.out(options.json === true ? `${JSON.stringify(event)}\n` : renderEvent(event))
  } while (stop !== null && (await pause(stop)))
}

/** False once stopped. */
async function pause(stop: AbortSignal): Promise<boolean> {
  // Rejects only when stopped, which is how following ends.
  await sleep(FOLLOW_PERIOD_MS, undefined, { signal: stop }).catch(() => undefined)
  return !stop.aborted
}

function renderEvent(event: LogPage['Events'][number]): string {
  return `${new Date(event.Timestamp).toISOString()}  ${event.RequestId}  ${event.Level.toUpperCase().padEnd(5)}  ${event.Message}\n`
}
