/** `outpost delete NAME`: take a function out of service with all its versions and aliases. */
import type { Command } from 'commander'
import { ApiClient, resolveCredentials } from '../api-client.ts'
import type { CliContext } from '../context.ts'
import { functionName, resolveEndpoint } from '../options.ts'

interface DeleteOptions {
  readonly endpoint?: string
  readonly json?: boolean
}

export function addDelete(program: Command, context: CliContext): void {
  program
    .command('delete')
    .alias('rm')
    .description('delete a function with all its versions and aliases')
    .argument('<name>', "the function's name")
    .option('--endpoint <url>', 'a POP or a region (default: OUTPOST_ENDPOINT, else http://127.0.0.1:8787)')
    .option('--json', 'print as JSON')
    .action((name: string, options: DeleteOptions) => runDelete(context, name, options))
}

async function runDelete(context: CliContext, name: string, options: DeleteOptions): Promise<void> {
  const api = new ApiClient(resolveEndpoint(options.endpoint, context), resolveCredentials(context.env))
  await api.deleteFunction(functionName(name))
  if (options.json === true) context.out(`${JSON.stringify({ name, deleted: true })}\n`)
  else context.err(`deleted ${name}\n`)
}
