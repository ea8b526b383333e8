/** `outpost pop key` and `outpost region key`: by what the other end of a link knows this tier. Made if it is not there. */
import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { CodedError } from '../../errors.ts'
import { LINK_KEY_FILE, loadLinkKeyPair } from '../../identity/key-pair.ts'
import type { CliContext } from '../context.ts'

interface KeyOptions {
  readonly data?: string
  readonly json?: boolean
}

/** `dataDirOf` finds the folder as the tier itself does; `use` says what the fingerprint is for. */
export function addLinkKey(tier: Command, context: CliContext, dataDirOf: (data: string | undefined) => string | null, use: (fingerprint: string) => string): void {
  tier
    .command('key')
    .description('print the fingerprint of the key that is kept with the data, and make the key if there is none')
    .option('--data <dir>', 'the data of the tier')
    .option('--json', 'print as JSON, with the certificate')
    .action((_options: unknown, command: Command) => {
      // The tier has an option of this name too, and commander gives it what is written behind `key`.
      const options = command.optsWithGlobals<KeyOptions>()
      const dataDir = dataDirOf(options.data)
      if (dataDir === null) throw new CodedError('ERR_USAGE', ['--data must be given: the key is kept there'])
      const folder = resolve(context.cwd, dataDir)
      mkdirSync(folder, { recursive: true })
      const { fingerprint, certificate } = loadLinkKeyPair(join(folder, LINK_KEY_FILE))
      if (options.json === true) context.out(`${JSON.stringify({ fingerprint, certificate })}\n`)
      else {
        context.out(`${fingerprint}\n`)
        context.err(`${use(fingerprint)}\n`)
      }
    })
}
