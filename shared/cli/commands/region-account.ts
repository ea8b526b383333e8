/**
 * `outpost region account`: how many invocations an account may run at once. Works on what the region's nodes share,
 * beside them or while none runs; those that run go by it within two seconds.
 */
import { resolve } from 'node:path'
import { Command } from 'commander'
import { isAccountId } from '../../api/names.ts'
import { systemClock } from '../../clock.ts'
import { AccountBook, ACCOUNTS_BUCKET } from '../../concurrency/account-book.ts'
import { regionSchema, resolveConfig } from '../../config.ts'
import { openCoordination } from '../../coordination/open.ts'
import { CodedError } from '../../errors.ts'
import { ACCOUNT_CONCURRENCY_MAX } from '../../limits.ts'
import { unreserved } from '../../place/slot-line.ts'
import type { CliContext } from '../context.ts'
import { wholeNumber } from '../options.ts'
import { renderTable } from '../output.ts'
import { configInput } from '../tier-options.ts'

interface AccountOptions {
  readonly data?: string
  readonly nats?: string
  readonly natsCredentials?: string
  readonly natsCa?: string
  readonly json?: boolean
  readonly concurrency?: number
  readonly default?: boolean
}

export function regionAccountCommand(context: CliContext): Command {
  const account = new Command('account').description('say how many invocations an account may run at once')
  const add = (name: string, description: string, action: (book: AccountBook, account: string, options: AccountOptions) => Promise<void>): Command =>
    account.command(name)
      .description(description)
      .argument('<account>', 'twelve digits')
      .option('--data <dir>', "the region's data (OUTPOST_REGION_DATA; .outpost/region)")
      .option('--nats <url>', 'NATS server of a region with several nodes (OUTPOST_NATS_URL; none)')
      .option('--nats-credentials <file>', 'credentials file for NATS (OUTPOST_NATS_CREDENTIALS; none)')
      .option('--nats-ca <file>', "PEM file of the authority behind the NATS servers' certificates (OUTPOST_NATS_CA; the system's)")
      .option('--json', 'print as JSON')
      .action(async (id: string, ...rest: readonly unknown[]) => {
        if (!isAccountId(id)) throw new CodedError('ERR_USAGE', [`${JSON.stringify(id)} is no account: twelve digits`])
        // `outpost region` has a `--data` too, and commander gives it what is written behind the name.
        const options = (rest.at(-1) as Command).optsWithGlobals<AccountOptions>()
        await withBook(context, options, async (book) => {
          await action(book, id, options)
          show(context, book, id, options)
        })
      })
  add('set', 'change the number; what runs beyond a lower one may end', async (book, id, { concurrency, default: toDefault }) => {
    if ((concurrency === undefined) === (toDefault !== true)) throw new CodedError('ERR_USAGE', ['give --concurrency, or --default'])
    await book.setConcurrency(id, concurrency ?? null)
  })
    .option('--concurrency <count>', 'invocations that may run at once', wholeNumber(0, ACCOUNT_CONCURRENCY_MAX))
    .option('--default', 'go by the keys file and --account-concurrency again')
  add('show', 'the number, and what of it is reserved', () => Promise.resolve())
  return account
}

/** What a keys file says is not known here. */
async function withBook(context: CliContext, options: AccountOptions, action: (book: AccountBook) => Promise<void>): Promise<void> {
  const settings = resolveConfig(regionSchema, configInput({ dataDir: options.data, natsUrl: options.nats, natsCredentialsFile: options.natsCredentials, natsCaFile: options.natsCa }, undefined, context))
  const log = context.makeLog('region', true)
  const coordination = await openCoordination({ ...settings, dataDir: resolve(context.cwd, settings.dataDir) }, { clock: systemClock, log })
  try {
    const book = await AccountBook.open({ documents: await coordination.documents(ACCOUNTS_BUCKET), defaultConcurrency: settings.accountConcurrency, concurrencyOf: () => null, log })
    await action(book)
    book.close()
  } finally {
    await coordination.close()
  }
}

function show(context: CliContext, book: AccountBook, account: string, { json }: AccountOptions): void {
  const limits = book.limitsOf(account)
  const isSet = book.isSet(account)
  const reserved = [...limits.reserved].map(([name, concurrency]) => ({ function: name, concurrency }))
  if (json === true) {
    context.out(`${JSON.stringify({ account, concurrency: isSet ? limits.maximum : null, reserved })}\n`)
    return
  }
  context.out(renderTable(['ACCOUNT', 'CONCURRENCY', 'UNRESERVED'], [[account, isSet ? String(limits.maximum) : 'default', isSet ? String(unreserved(limits)) : '-']]))
  if (reserved.length > 0) context.out(`\n${renderTable(['FUNCTION', 'RESERVED'], reserved.map(({ function: name, concurrency }) => [name, String(concurrency)]))}`)
}
