/**
 * `outpost store`: what a region keeps, looked at and looked after. `stats`, `verify` and `export` read beside a running
 * region; what changes data takes the region's lock, so it has to be stopped.
 */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { systemClock } from '../../clock.ts'
import { regionSchema, resolveConfig } from '../../config.ts'
import { CodedError, toCodedError } from '../../errors.ts'
import type { CliContext } from '../context.ts'
import { lockDataDir } from '../data-lock.ts'
import { wholeNumber } from '../options.ts'
import { QuietFailure, renderBytes, renderTable } from '../output.ts'
import { Progress } from '../progress.ts'
import { configInput } from '../tier-options.ts'
import type { StoreTools } from '../../../region/store-tools.ts'

interface StoreOptions {
  readonly data?: string
  readonly keyring?: string
  readonly copies?: number
  readonly json?: boolean
}

interface Session {
  readonly tools: StoreTools
  readonly progress: Progress
  /** Prints `value` with --json, else `text`. */
  readonly answer: (value: object, text: string) => void
}

type Access = 'reads' | 'writes' | 'fills'

export function addStore(program: Command, context: CliContext): void {
  const store = program.command('store').description("a region's stored code, images and secrets: numbers, checks, backup")
  const add = (name: string, description: string, access: Access, action: (session: Session, argument: string) => Promise<void>): void => {
    store
      .command(name)
      .description(description)
      .option('--data <dir>', "the region's data (OUTPOST_REGION_DATA; .outpost/region)")
      .option('--keyring <file>', 'keys that the data is sealed with (OUTPOST_REGION_KEYRING; keyring.json in --data)')
      .option('--copies <count>', 'sealed copies of one content at most (OUTPOST_REGION_COPIES; 1)', wholeNumber(1, 1000))
      .option('--json', 'print as JSON')
      .action(async (first: unknown, second: unknown) => {
        const [argument, options] = typeof first === 'string' ? [first, second as StoreOptions] : ['', first as StoreOptions]
        await withStore(context, access, options, (session) => action(session, argument === '' ? '' : resolve(context.cwd, argument)))
      })
  }
  add('stats', 'objects, blocks, bytes, and how much sharing saves', 'reads', stats)
  add('verify', 'read everything and compare it with its id, its tag and its record', 'reads', verify)
  add('gc', 'delete what no function names; the region must be stopped', 'writes', collect)
  add('export <file>', 'write everything into one file, sealed as it is; keep the keyring with it, not in it', 'reads', exportTo)
  add('import <file>', 'fill an empty region from an export; needs the keyring of that time', 'fills', importFrom)
  add('rotate-keys', 'seal keys and secrets with a new version of the keyring; the region must be stopped', 'writes', rotateKeys)
}

async function withStore(context: CliContext, access: Access, options: StoreOptions, action: (session: Session) => Promise<void>): Promise<void> {
  const { data, keyring, copies } = options
  const settings = resolveConfig(regionSchema, configInput({ dataDir: data, keyringFile: keyring, copies }, undefined, context))
  const dataDir = resolve(context.cwd, settings.dataDir)
  const unlock = access === 'reads' ? () => undefined : lockDataDir(dataDir)
  const progress = new Progress(context, () => systemClock.monotonicMs())
  try {
    // Loaded only now, so that other commands start without it; tidy.test.ts knows this import as the one way in.
    const { openStoreTools } = await import('../../../region/store-tools.ts')
    const tools = openStoreTools({
      dataDir, keyringFile: settings.keyringFile === null ? null : resolve(context.cwd, settings.keyringFile), copies: settings.copies,
      clock: systemClock, log: context.makeLog('store', true), mustExist: access !== 'fills',
    })
    const answer = (value: object, text: string): void => {
      progress.end()
      context.out(options.json === true ? `${JSON.stringify(value)}\n` : text)
    }
    try {
      await action({ tools, progress, answer })
    } finally {
      await tools.close()
    }
  } finally {
    progress.end()
    unlock()
  }
}

async function stats({ tools: { store, registry }, answer }: Session): Promise<void> {
  const counts = store.counts()
  const live = new Set([...registry.liveObjects()].map(({ account, objectId }) => `${account}/${objectId}`)).size
  const { active, readOnly, retired } = store.roots()
  const ratio = counts.blockBytes === 0 ? 1 : counts.logicalBytes / counts.blockBytes
  const rows = [
    ['objects', String(counts.objects), `${live} of them named by functions`],
    ['blocks', String(counts.blocks), renderBytes(counts.blockBytes)],
    ['manifests', String(counts.objects), renderBytes(counts.manifestBytes)],
    ['contents', renderBytes(counts.logicalBytes), `${ratio.toFixed(2)} times what is stored`],
    ['roots', `${active} active`, [readOnly === null ? '' : `${readOnly} read-only`, retired === null ? '' : `${retired.number} retired`].filter((text) => text !== '').join(', ') || 'none retired'],
    ['keyring', `version ${store.keyring.activeVersion}`, ''],
  ]
  answer({ ...counts, liveObjects: live, roots: store.roots(), keyringVersion: store.keyring.activeVersion }, renderTable(['WHAT', 'COUNT', ''], rows))
  return Promise.resolve()
}

async function verify({ tools: { store, registry }, progress, answer }: Session): Promise<void> {
  const { auditSteps } = await import('../../../region/store-tools.ts')
  const total = store.counts().objects + store.counts().blocks
  const problems: string[] = []
  let checked = { objects: 0, blocks: 0, blockBytes: 0 }
  for (const step of auditSteps(store)) {
    problems.push(...step.problems)
    checked = { objects: step.objects, blocks: step.blocks, blockBytes: step.blockBytes }
    progress.show('verify', step.objects + step.blocks, total)
  }
  problems.push(...registry.audit())
  const text = problems.length === 0
    ? `${checked.objects} objects and ${checked.blocks} blocks (${renderBytes(checked.blockBytes)}) are as they should be\n`
    : problems.map((line) => `${line}\n`).join('')
  answer({ ok: problems.length === 0, ...checked, problems }, text)
  if (problems.length > 0) throw new QuietFailure()
}

async function collect({ tools: { store, collector }, progress, answer }: Session): Promise<void> {
  const before = store.counts()
  // The first pass may only end what the region began; the second decides about everything.
  for (let pass = 0; pass < 2; pass += 1) {
    await collector.run((step) => {
      if (step.kind === 'claimed') progress.show('claim', step.objects, null)
      if (step.kind === 'deleted') progress.show('delete', collector.events.objectsDeleted + collector.events.blocksDeleted, null)
    })
  }
  const { objectsDeleted, blocksDeleted, bytesDeleted } = collector.events
  answer({ objectsDeleted, blocksDeleted, bytesDeleted, before, after: store.counts() }, `${objectsDeleted} objects and ${blocksDeleted} blocks (${renderBytes(bytesDeleted)}) were deleted\n`)
}

async function exportTo({ tools, progress, answer }: Session, path: string): Promise<void> {
  const { exportRegion } = await import('../../../region/store-tools.ts')
  const result = exportRegion(tools, path, ({ done, total }) => progress.show('export', done, total))
  answer({ file: path, ...result }, `${result.records} records, ${result.objects} objects and ${result.blocks} blocks (${renderBytes(result.bytes)}) are in ${path}\nIt opens only with the keyring ${tools.keyringPath}: keep a copy of that, elsewhere\n`)
}

async function importFrom({ tools, progress, answer }: Session, path: string): Promise<void> {
  const { importRegion } = await import('../../../region/store-tools.ts')
  const result = await importRegion(tools, path, ({ done, total }) => progress.show('import', done, total))
  answer({ file: path, ...result }, `${result.records} records, ${result.objects} objects and ${result.blocks} blocks were imported\n`)
}

async function rotateKeys({ tools: { keyring, store, registry }, progress, answer }: Session): Promise<void> {
  const version = keyring.rotate()
  try {
    const keys = await store.rewrapKeys((done) => progress.show('wrap', done, store.counts().objects))
    const secrets = await registry.resealSecrets()
    answer({ version, keys, secrets }, `version ${version} of the keyring is active: ${keys} keys and ${secrets} sets of secrets are sealed with it\n`)
  } catch (error) {
    const { code, message } = toCodedError(error)
    throw new CodedError('ERR_STORE_KEY', [`version ${version}`, `it is active, but not everything is sealed with it yet (${code}: ${message}). Older versions stay in the keyring; run this again`], { cause: error })
  }
}
