/** What every command file exports: a function that adds itself to the program. */
import type { Command } from 'commander'
import type { CliContext } from './context.ts'

export type AddCommand = (program: Command, context: CliContext) => void
