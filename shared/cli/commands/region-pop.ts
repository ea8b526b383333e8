/**
 * `outpost region pop`: which keys may link up with a region, under which names, and which functions they may have.
 * Works on what the region's nodes share, beside them or while none runs; those that run hear of it at once.
 */
import { resolve } from 'node:path'
import { Command } from 'commander'
import { isAccountId, isFunctionName } from '../../api/names.ts'
import { systemClock } from '../../clock.ts'
import { regionSchema, resolveConfig } from '../../config.ts'
import { openCoordination } from '../../coordination/open.ts'
import { CodedError } from '../../errors.ts'
import { parseFingerprint } from '../../identity/fingerprint.ts'
import { ANY, describeGrants, PEER_ROLES, POPS_BUCKET, PopRecords, type Grant, type PopRecord } from '../../identity/pop-records.ts'
import type { CliContext } from '../context.ts'
import { renderTable } from '../output.ts'
import { configInput } from '../tier-options.ts'

interface PopOptions {
  readonly data?: string
  readonly nats?: string
  readonly natsCredentials?: string
  readonly natsCa?: string
  readonly natsReplicas?: number
  readonly json?: boolean
  readonly fingerprint?: string
  readonly role?: string
  readonly account?: string
  readonly function?: string
}

type Action = (records: PopRecords, name: string, options: PopOptions) => Promise<readonly PopRecord[]>

export function regionPopCommand(context: CliContext): Command {
  const pop = new Command('pop').description('register POPs by their keys, and say which functions each may have')
  const add = (name: string, description: string, action: Action, done: ((record: PopRecord) => string) | null): Command => {
    const command = pop.command(name).description(description)
    if (done !== null) command.argument('<name>', 'of the POP: letters, digits, - and _')
    return command
      .option('--data <dir>', "the region's data (OUTPOST_REGION_DATA; .outpost/region)")
      .option('--nats <url>', 'where the nodes of the region share what they know, and --nats-credentials, --nats-ca, --nats-replicas as they have them (OUTPOST_NATS_URL; none)')
      .option('--json', 'print as JSON')
      .action(async (first: unknown, ...rest: readonly unknown[]) => {
        const popName = typeof first === 'string' ? first : ''
        // `outpost region` has options of these names too, and commander gives it what is written here.
        const options = (rest.at(-1) as Command).optsWithGlobals<PopOptions>()
        const records = await withRecords(context, options, (each) => action(each, popName, options))
        if (options.json === true) context.out(`${JSON.stringify(done === null ? { pops: records } : records[0])}\n`)
        else if (done === null) context.out(renderTable(['NAME', 'ROLE', 'FINGERPRINT', 'GRANTS'], records.map(row)))
        else for (const record of records) context.err(`${done(record)}\n`)
      })
  }
  add('add', 'let in whoever holds a key', async (records, name, options) => [await records.add(name, fingerprintOf(options), roleOf(options))], ({ name, role }) => role === 'pop' ? `${name} may link up. Grant it functions: outpost region pop grant ${name} --account ACCOUNT --function NAME` : `${name} may link up`)
    .requiredOption('--fingerprint <fingerprint>', 'what `outpost pop key` prints at the POP')
    .option('--role <role>', 'pop, or region: one that asks for what it lost', 'pop')
  add('list', 'who is registered', (records) => records.list(), null)
  add('revoke', 'take a key out of use: its links end within two seconds, and it is not let in again', async (records, name) => [await records.revoke(name)], ({ name }) => `the key of ${name} is revoked`)
  for (const [name, description, done] of [['grant', 'give a function to a POP', 'has now'], ['ungrant', 'take a function back: the POP forgets it within two seconds', 'has left']] as const) {
    add(name, description, async (records, popName, options) => [await records[name](popName, grantOf(options))], (record) => `${record.name} ${done}: ${describeGrants(record.grants)}`)
      .requiredOption('--account <account>', `twelve digits, or '${ANY}' with the function '${ANY}'`)
      .requiredOption('--function <name>', `its name, or '${ANY}' for all of the account`)
  }
  return pop
}

async function withRecords<T>(context: CliContext, options: PopOptions, action: (records: PopRecords) => Promise<T>): Promise<T> {
  const settings = resolveConfig(regionSchema, configInput({ dataDir: options.data, natsUrl: options.nats, natsCredentialsFile: options.natsCredentials, natsCaFile: options.natsCa, natsReplicas: options.natsReplicas }, undefined, context))
  const coordination = await openCoordination({ ...settings, dataDir: resolve(context.cwd, settings.dataDir) }, { clock: systemClock, log: context.makeLog('region', true) })
  try {
    return await action(new PopRecords(await coordination.documents(POPS_BUCKET)))
  } finally {
    await coordination.close()
  }
}

function row({ name, role, fingerprint, grants }: PopRecord): string[] {
  return [name, role, fingerprint ?? 'revoked', role === 'pop' ? describeGrants(grants) : '']
}

function fingerprintOf({ fingerprint = '' }: PopOptions): ReturnType<typeof parseFingerprint> & string {
  const parsed = parseFingerprint(fingerprint)
  if (parsed === null) throw new CodedError('ERR_USAGE', [`${JSON.stringify(fingerprint)} is no fingerprint: 64 hex digits, as \`outpost pop key\` prints them`])
  return parsed
}

function roleOf({ role = 'pop' }: PopOptions): PopRecord['role'] {
  const found = PEER_ROLES.find((each) => each === role)
  if (found === undefined) throw new CodedError('ERR_USAGE', [`--role takes ${PEER_ROLES.join(' or ')}`])
  return found
}

function grantOf({ account = '', function: functionName = '' }: PopOptions): Grant {
  if (account !== ANY && !isAccountId(account)) throw new CodedError('ERR_USAGE', [`${JSON.stringify(account)} is no account: twelve digits, or '${ANY}'`])
  if (functionName !== ANY && !isFunctionName(functionName)) throw new CodedError('ERR_USAGE', [`${JSON.stringify(functionName)} is no name for a function: 1 to 64 letters, digits, - and _, or '${ANY}'`])
  return { account, functionName }
}
