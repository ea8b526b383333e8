/**
 * What `outpost doctor` looks at. Every check tries the thing itself, on this machine and in this process, and says how
 * to mend what it finds. `fail`: Outpost does not work. `warn`: it works with less. `ok` otherwise.
 */
import { constants } from 'node:fs'
import { access, mkdtemp, readFile, rm, statfs } from 'node:fs/promises'
import { availableParallelism, freemem, tmpdir, totalmem } from 'node:os'
import { delimiter, dirname, join, resolve } from 'node:path'
import { existsSync } from 'node:fs'
import type { CliContext } from './context.ts'
import { DEFAULT_PORT, DEFAULT_REGION_PORT } from './options.ts'
import { renderBytes } from './output.ts'
import { isPortFree } from './ports.ts'

export interface Finding {
  readonly name: string
  readonly status: 'ok' | 'warn' | 'fail'
  readonly found: string
  /** What to do; null when nothing needs doing. */
  readonly mend: string | null
}

type Verdict = Omit<Finding, 'name'>

interface Check {
  readonly name: string
  readonly run: (context: CliContext) => Verdict | Promise<Verdict>
}

const GIB = 1024 ** 3
/** Below the first the store refuses to publish sooner or later (limits.ts, STORE_DISK_RESERVE_BYTES); below the second it is tight. */
const DISK_MIN_BYTES = 256 * 1024 ** 2
const DISK_GOOD_BYTES = 2 * GIB
/** A dev server, POP and region together, with their default budgets barely used. */
const MEMORY_MIN_BYTES = 0.5 * GIB
const MEMORY_GOOD_BYTES = 2 * GIB
/** A POP's slots are a few hundred at most; see ARCHITECTURE.md on density. */
const SLOTS_GOOD = 1_000
/** What user code can address on x86-64 and on arm64 with 48-bit pages. */
const ADDRESS_SPACE_BYTES = 2 ** 47
/** Memory pairs made to see what one slot takes of maps and address space. */
const SAMPLE_SLOTS = 8

/** Debian package of each optional tool, and what it is for. */
const TOOLS: readonly { readonly command: string; readonly debian: string; readonly use: string }[] = [
  { command: 'wrk', debian: 'wrk', use: 'benchmarks' },
  { command: 'nats-server', debian: 'nats-server', use: 'clusters of several regions' },
  { command: 'qemu-system-x86_64', debian: 'qemu-system-x86', use: 'emulation hosts' },
  { command: 'chromium', debian: 'chromium', use: 'tests of the dashboard' },
]

const CHECKS: readonly Check[] = [
  { name: 'node', run: (context) => ok(`${process.version}; ${context.nodeChoice}`) },
  { name: 'multi-memory', run: checkMultiMemory },
  { name: 'icu', run: checkIcu },
  { name: 'uWebSockets.js', run: () => native('uWebSockets.js', tryUws) },
  { name: 'lmdb', run: () => native('lmdb', tryLmdb) },
  { name: 'esbuild', run: () => native('esbuild', tryEsbuild) },
  { name: 'ports', run: checkPorts },
  { name: 'slots', run: checkSlots },
  { name: 'memory', run: checkMemory },
  { name: 'disk', run: checkDisk },
  ...TOOLS.map((tool): Check => ({ name: tool.command, run: (context) => checkTool(tool, context) })),
]

/** One after the other: some of them measure. Never rejects. */
export async function examine(context: CliContext): Promise<readonly Finding[]> {
  const findings: Finding[] = []
  for (const { name, run } of CHECKS) {
    try {
      findings.push({ name, ...(await run(context)) })
    } catch (error) {
      findings.push({ name, status: 'fail', found: error instanceof Error ? error.message : String(error), mend: 'Report this with the line above' })
    }
  }
  return findings
}

function ok(found: string): Verdict {
  return { status: 'ok', found, mend: null }
}

/** `(module (memory 1) (memory 1))` */
function checkMultiMemory(): Verdict {
  const twoMemories = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 5, 5, 2, 0, 1, 0, 1])
  if (WebAssembly.validate(twoMemories)) return ok('WebAssembly modules may have two memories')
  return { status: 'fail', found: 'WebAssembly modules may have only one memory', mend: 'Use Node 22 or newer: npm ci installs one' }
}

/** What `Intl` of functions knows is what this process knows. */
function checkIcu(): Verdict {
  const { icu, cldr } = process.versions
  const known = icu === undefined ? [] : ['de', 'ja', 'ar', 'hi'].filter((locale) => Intl.DateTimeFormat.supportedLocalesOf(locale).length > 0)
  if (known.length === 4) return ok(`ICU ${icu ?? ''} with the data of all locales (CLDR ${cldr ?? 'unknown'})`)
  return { status: 'warn', found: icu === undefined ? 'this Node has no ICU' : 'this Node knows few locales', mend: 'Functions format for other locales in English. Use a Node with full ICU: npm ci installs one, or set NODE_ICU_DATA' }
}

async function native(packageName: string, use: () => Promise<string>): Promise<Verdict> {
  try {
    return ok(`loads (${await use()})`)
  } catch (error) {
    const reason = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
    return { status: 'fail', found: reason, mend: `The native part of ${packageName} does not load for ${process.platform}-${process.arch}. Run: npm ci (without --omit=optional), on a system with glibc 2.28 or newer` }
  }
}

async function tryUws(): Promise<string> {
  const { App } = await import('../http/uws.ts')
  App().close()
  return 'makes a server'
}

async function tryLmdb(): Promise<string> {
  const { open } = await import('lmdb')
  const dir = await mkdtemp(join(tmpdir(), 'outpost-doctor-'))
  try {
    const database = open({ path: dir })
    await database.put('key', 'value')
    const read: unknown = database.get('key')
    await database.close()
    if (read !== 'value') throw new Error('what was written could not be read back')
    return 'writes and reads'
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

async function tryEsbuild(): Promise<string> {
  const esbuild = await import('esbuild')
  await esbuild.transform('let a: number = 1', { loader: 'ts' })
  return esbuild.version
}

async function checkPorts(): Promise<Verdict> {
  const taken: number[] = []
  for (const port of [DEFAULT_PORT, DEFAULT_REGION_PORT]) if (!(await isPortFree(port, '127.0.0.1'))) taken.push(port)
  if (taken.length === 0) return ok(`${DEFAULT_PORT} (POP, dev) and ${DEFAULT_REGION_PORT} (region) are free`)
  return { status: 'warn', found: `${taken.join(' and ')} taken`, mend: 'If that is not your own server, give another port: outpost dev --port 8080' }
}

/** Each slot is two WebAssembly memories. What they take is measured, what there is comes from the system. */
async function checkSlots(): Promise<Verdict> {
  if (process.platform !== 'linux') return ok('not limited by memory maps on this system')
  const mapCountMax = Number(await readFile('/proc/sys/vm/max_map_count', 'utf8'))
  const before = await addressUse()
  const memories = Array.from({ length: SAMPLE_SLOTS }, () => [new WebAssembly.Memory({ initial: 20, maximum: 2048 }), new WebAssembly.Memory({ initial: 1, maximum: 1 })])
  const after = await addressUse()
  // Mentioned after the measurement, so that they live until then.
  const sampled = memories.length
  const mapsPerSlot = Math.max(1, (after.maps - before.maps) / sampled)
  const bytesPerSlot = Math.max(1, (after.bytes - before.bytes) / sampled)
  const byMaps = Math.floor((mapCountMax - before.maps) / mapsPerSlot)
  const byAddresses = Math.floor((ADDRESS_SPACE_BYTES - before.bytes) / bytesPerSlot)
  const slots = Math.min(byMaps, byAddresses)
  const found = `about ${slots} slots a process (vm.max_map_count ${mapCountMax} allows ${byMaps}, address space ${byAddresses})`
  if (slots >= SLOTS_GOOD) return ok(found)
  return { status: slots > 0 ? 'warn' : 'fail', found, mend: 'sysctl -w vm.max_map_count=262144, and no ulimit -v' }
}

async function addressUse(): Promise<{ readonly maps: number; readonly bytes: number }> {
  const maps = (await readFile('/proc/self/maps', 'utf8')).split('\n').length - 1
  const kib = /^VmSize:\s+(\d+) kB/m.exec(await readFile('/proc/self/status', 'utf8'))?.[1]
  return { maps, bytes: Number(kib ?? 0) * 1024 }
}

function checkMemory(): Verdict {
  const constrained = process.constrainedMemory()
  // Without a limit this is 0 or a number beyond the machine's memory.
  const limited = constrained > 0 && constrained < totalmem()
  const bytes = limited ? constrained : totalmem()
  const found = `${renderBytes(bytes)}${limited ? ' (limit of this container)' : ''}, ${renderBytes(Math.min(freemem(), bytes))} free, ${availableParallelism()} cores`
  if (bytes >= MEMORY_GOOD_BYTES) return ok(found)
  return { status: bytes >= MEMORY_MIN_BYTES ? 'warn' : 'fail', found, mend: 'Give it 2 GiB, or lower --memory of pop and region' }
}

async function checkDisk(context: CliContext): Promise<Verdict> {
  let dir = resolve(context.cwd, '.outpost')
  while (!existsSync(dir)) dir = dirname(dir)
  const { bavail, bsize } = await statfs(dir)
  const free = bavail * bsize
  const found = `${renderBytes(free)} free at ${dir}`
  if (free >= DISK_GOOD_BYTES) return ok(found)
  return { status: free >= DISK_MIN_BYTES ? 'warn' : 'fail', found, mend: 'Free some space, or name a directory on another disk with --data' }
}

async function checkTool({ command, debian, use }: (typeof TOOLS)[number], context: CliContext): Promise<Verdict> {
  const path = await findCommand(command, context.env.PATH ?? '')
  if (path !== null) return ok(path)
  return { status: 'warn', found: `not installed; only needed for ${use}`, mend: `apt-get install ${debian}` }
}

async function findCommand(command: string, path: string): Promise<string | null> {
  for (const dir of path.split(delimiter).filter((entry) => entry !== '')) {
    const file = join(dir, command)
    // Rejects when it is not there or not executable, which is the answer.
    if (await access(file, constants.X_OK).then(() => true, () => false)) return file
  }
  return null
}
