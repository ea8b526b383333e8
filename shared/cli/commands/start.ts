/** `outpost start`: the dev server with the example function, for a first look; what `npm start` runs. */
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import type { CliContext } from '../context.ts'
import { DEFAULT_PORT, portNumber } from '../options.ts'
import { runDev } from './dev.ts'

const EXAMPLES = fileURLToPath(new URL('../example', import.meta.url))

interface StartOptions {
  readonly port: number
  readonly data: string
  readonly json?: boolean
}

export function addStart(program: Command, context: CliContext): void {
  program
    .command('start')
    .description('the dev server with an example function, for a first look')
    .option('--port <port>', 'port of the POP; 0 takes a free one', portNumber, DEFAULT_PORT)
    .option('--data <dir>', 'where functions and images are kept', '.outpost')
    .option('--json', 'print one JSON line once it is ready')
    .action((options: StartOptions) => runDev(context, [EXAMPLES], { ...options, host: '127.0.0.1', hotMinRequests: 1, drainTimeout: 10_000, log: 'pretty' }))
}
