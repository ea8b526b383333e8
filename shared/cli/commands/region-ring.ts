/**
 * `outpost region ring`: which nodes serve which functions and sessions, and by which attributes. Works on what the region's nodes
 * share; they hear of a change at once.
 */
import { Command } from 'commander'
import { systemClock } from '../../clock.ts'
import { RingAdmin } from '../../cluster/ring-admin.ts'
import { regionSchema, resolveConfig } from '../../config.ts'
import { openNats } from '../../coordination/open.ts'
import { CodedError } from '../../errors.ts'
import type { RingDocument, RingVersion } from '../../place/ring.ts'
import type { CliContext } from '../context.ts'
import { renderTable } from '../output.ts'
import { configInput } from '../tier-options.ts'

interface RingOptions {
  readonly nats?: string
  readonly natsCredentials?: string
  readonly natsCa?: string
  readonly regionName?: string
  readonly json?: boolean
}

export function regionRingCommand(context: CliContext): Command {
  const ring = new Command('ring').description('which nodes of a region serve what, and by which attributes')
  const add = (name: string, description: string, argument: readonly [string, string] | null, action: (admin: RingAdmin, given: string) => Promise<RingDocument>): void => {
    const command = ring.command(name).description(description)
    if (argument !== null) command.argument(...argument)
    command
      .option('--nats <url>', 'where the nodes share what they know; --nats-credentials and --nats-ca as they have them (OUTPOST_NATS_URL)')
      .option('--region-name <name>', 'whose ring (OUTPOST_REGION_NAME; us-east-1)')
      .option('--json', 'print as JSON')
      .action(async (first: unknown, ...rest: readonly unknown[]) => {
        // `outpost region` has options of these names too, and commander gives it what is written here.
        const options = ((argument === null ? rest[0] : rest.at(-1)) as Command).optsWithGlobals<RingOptions>()
        const document = await withAdmin(context, options, (admin) => action(admin, typeof first === 'string' ? first : ''))
        context.out(options.json === true ? `${JSON.stringify(document)}\n` : render(document))
      })
  }
  add('show', 'the newest version, and those that state may still lie by', null, (admin) => admin.show())
  add('set', 'publish a version with another value: managersPerKey, perManagerShare or maxLive', ['<attribute=value>', 'for example managersPerKey=2'], (admin, given) => admin.set(attributeOf(given)))
  add('rollback', 'publish a version like the one before the newest', null, (admin) => admin.rollback())
  return ring
}

async function withAdmin<T>(context: CliContext, options: RingOptions, action: (admin: RingAdmin) => Promise<T>): Promise<T> {
  const { nats: natsUrl, natsCredentials: natsCredentialsFile, natsCa: natsCaFile, regionName } = options
  const settings = resolveConfig(regionSchema, configInput({ natsUrl, natsCredentialsFile, natsCaFile, regionName }, undefined, context))
  const log = context.makeLog('region', true)
  const coordination = openNats(settings, { clock: systemClock, log })
  if (coordination === null) throw new CodedError('ERR_CONFIG', ['natsUrl (--nats or OUTPOST_NATS_URL): a region without it is one process and has no ring'])
  try {
    return await action(new RingAdmin(coordination, `region-${settings.regionName}`, log))
  } finally {
    await coordination.close()
  }
}

function attributeOf(text: string): Record<string, number> {
  const [, name, value] = /^([A-Za-z]+)=(\d{1,9})$/.exec(text) ?? []
  if (name === undefined || value === undefined) throw new CodedError('ERR_USAGE', [`${JSON.stringify(text)} is no attribute: want NAME=NUMBER`])
  if (!['managersPerKey', 'perManagerShare', 'maxLive'].includes(name)) throw new CodedError('ERR_USAGE', [`there is no attribute ${name}`])
  return { [name]: Number(value) }
}

function render(document: RingDocument): string {
  const row = ({ version, members, attributes }: RingVersion): string[] =>
    [String(version), String(attributes.managersPerKey), String(attributes.perManagerShare), String(attributes.maxLive), members.map(({ id, weight }) => `${id}*${weight}`).join(' ')]
  return renderTable(['VERSION', 'MANAGERS PER KEY', 'SHARE', 'MAX LIVE', 'MEMBERS'], [document, ...document.previous].map(row))
}
