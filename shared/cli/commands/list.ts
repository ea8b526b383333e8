/** `outpost list`: the functions an account has. */
import type { Command } from 'commander'
import { ApiClient, resolveCredentials } from '../api-client.ts'
import type { CliContext } from '../context.ts'
import { resolveEndpoint } from '../options.ts'
import { renderBytes, renderTable } from '../output.ts'

interface ListOptions {
  readonly endpoint?: string
  readonly json?: boolean
}

export function addList(program: Command, context: CliContext): void {
  program
    .command('list')
    .alias('ls')
    .description('list deployed functions')
    .option('--endpoint <url>', 'a POP or a region (default: OUTPOST_ENDPOINT, else http://127.0.0.1:8787)')
    .option('--json', 'print as JSON')
    .action((options: ListOptions) => runList(context, options))
}

async function runList(context: CliContext, options: ListOptions): Promise<void> {
  const api = new ApiClient(resolveEndpoint(options.endpoint, context), resolveCredentials(context.env))
  const functions = await api.listFunctions()
  if (options.json === true) {
    context.out(`${JSON.stringify(functions)}\n`)
    return
  }
  if (functions.length === 0) context.err('no functions yet; deploy one with: outpost deploy ENTRY --name NAME\n')
  else {
    const rows = functions.map((record) => [
      record.FunctionName,
      record.CodeSize === undefined ? '-' : renderBytes(record.CodeSize),
      record.MemorySize === undefined ? '-' : `${record.MemorySize} MiB`,
      record.Timeout === undefined ? '-' : `${record.Timeout} s`,
      record.LastModified ?? '-',
    ])
    context.out(renderTable(['NAME', 'CODE', 'MEMORY', 'TIMEOUT', 'MODIFIED'], rows))
  }
}
