/**
 * Whatever ends a process or a write, at whatever point: what was acknowledged is there, whole; what was not is there
 * whole or not at all; and the store is as an audit wants it.
 */
import { spawn, execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { CodedError } from '../../../shared/errors.ts'
import { MIB } from '../../../shared/limits.ts'
import { silentLog } from '../../../shared/log.ts'
import { seededRandom } from '../../../shared/random.ts'
import { audit } from '../../../shared/store/audit.ts'
import { Keyring } from '../../../shared/store/keyring.ts'
import { LmdbEnvironment } from '../../../shared/store/lmdb-environment.ts'
import { ObjectStore } from '../../../shared/store/object-store.ts'
import { Collector } from '../../../shared/store/roots.ts'
import { ONE_COPY, SaltPolicy } from '../../../shared/store/salts.ts'
import { ManualClock, systemClock } from '../../../shared/clock.ts'
import { needTool } from '../../support/tools.ts'
import { compileWriteLog, diskAfterCrash, readWriteLog, writeLogEnv, writtenUntil } from '../../support/write-log.ts'
import { ALICE, Names, codeOf, contentOf, crashObject, keyringAt, objectOf, openObjectStore, piece, plainContent, tempFolder, type TestStore } from './store-fixtures.ts'
import { mountTmpfs } from '../../support/tmpfs.ts'

/** More of them on demand: `OUTPOST_CRASHES=200`. */
const KILLS = Number(process.env['OUTPOST_CRASHES'] ?? 12)
const POWER_LOSSES = Number(process.env['OUTPOST_CRASHES'] ?? 60)
const WRITER = fileURLToPath(new URL('../../fixtures/object-store-writer.ts', import.meta.url))

const COURSE = [objectOf(['a', 'b', 'shared'], '1'), objectOf(['c', 'shared'], '2'), { ...objectOf([], '3'), pieces: ['l', 'm', 'n', 'shared'].map((seed) => piece(seed, 8192)) }] as const
const acknowledged = new WeakMap<TestStore, Map<string, string>>()

/** Last acknowledged state of each name, and the one announced after it. */
type Expected = Map<string, { acknowledged: string; announced: string | null }>

function readLines(text: string, expected: Expected): number {
  let acks = 0
  for (const line of text.split('\n').slice(0, -1)) {
    const [kind = '', name = '', ...rest] = line.split(' ')
    const state = rest.join(' ')
    const known = expected.get(name) ?? { acknowledged: '-', announced: null }
    if (kind === 'begin') expected.set(name, { ...known, announced: state })
    if (kind === 'ack') {
      expected.set(name, { acknowledged: state, announced: null })
      acks += 1
    }
  }
  return acks
}

/** Opens what a crash left, compares it with what was acknowledged, collects, and compares again. */
async function inspect(path: string, keyring: Keyring, expected: Expected): Promise<string[]> {
  const problems: string[] = []
  const { store, environment } = openObjectStore(path, { keyring, clock: systemClock })
  try {
    const names = new Names({ store, environment })
    const look = (when: string): void => {
      problems.push(...audit(store).map((line) => `${when}: ${line}`))
      for (const [name, { acknowledged, announced }] of expected) {
        const named = names.read(name)
        const matches = [acknowledged, announced].some((state) => {
          if (state === null || state === '-') return state === '-' && named === null
          const [account = '', index = ''] = state.split(' ')
          return named?.account === account && named.objectId === crashObject(Number(index)).objectId
        })
        if (!matches) problems.push(`${when}: ${name} is ${JSON.stringify(named)}, not ${acknowledged} or ${announced ?? 'nothing else'}`)
        if (named === null) continue
        const object = Array.from({ length: 40 }, (_each, index) => crashObject(index)).find(({ objectId }) => objectId === named.objectId)
        if (object === undefined || contentOf(store.open(named.account, named.objectId))?.equals(plainContent(object)) !== true) problems.push(`${when}: ${name} does not read back`)
      }
    }
    look('found')
    for (let pass = 0; pass < 2; pass += 1) await new Collector({ store, live: () => names.live(), clock: systemClock, log: silentLog, graceMs: 0 }).run()
    look('collected')
    const live = new Set([...names.live()].map(({ account, objectId }) => `${account}/${objectId}`))
    if (store.counts().objects !== live.size) problems.push(`${store.counts().objects} objects after a collection, ${live.size} are named`)
    // What was seen is what the next crash starts from.
    for (const [name, { acknowledged, announced }] of expected) {
      const named = names.read(name)
      const isNew = announced !== null && (announced === '-' ? named === null : named?.objectId === crashObject(Number(announced.split(' ')[1])).objectId && named.account === announced.split(' ')[0])
      expected.set(name, { acknowledged: isNew ? announced : acknowledged, announced: null })
    }
  } finally {
    await environment.close()
  }
  return problems
}

await t.test('every write of puts, commits and a collection, failing before or after it reached the disk', async (t) => {
  for (const when of ['before', 'after'] as const) {
    for (let failing = 0; ; failing += 1) {
      const made = openObjectStore(tempFolder(t))
      let writes = 0
      const original = made.environment.write.bind(made.environment)
      made.environment.write = async (size, action) => {
        writes += 1
        if (writes - 1 !== failing) return await original(size, action)
        if (when === 'after') await original(size, action)
        throw new CodedError('ERR_STORE_FAILED', ['injected'])
      }
      await course(made)
      made.environment.write = original
      await checkCourse(t, made, `write ${failing} fails ${when}`)
      await made.environment.close()
      if (writes <= failing) break
    }
  }
})

await t.test('every row that a transaction writes, failing while it is written', async (t) => {
  let failing = 0
  for (; ; failing += 1) {
    const made = openObjectStore(tempFolder(t))
    let rows = 0
    let injecting = true
    const { tables } = made.store
    for (const name of ['putRoots', 'addCounts', 'putObject', 'putManifest', 'removeObject', 'putBlock', 'putBlockRow', 'removeBlock', 'putCopies'] as const) {
      const original = tables[name].bind(tables) as (...args: unknown[]) => void
      tables[name] = (...args: unknown[]) => {
        if (injecting) rows += 1
        if (injecting && rows - 1 === failing) throw new CodedError('ERR_STORE_FAILED', ['injected'])
        original(...args)
      }
    }
    await course(made)
    injecting = false
    await checkCourse(t, made, `row ${failing} fails`)
    await made.environment.close()
    if (rows <= failing) break
  }
  t.ok(failing > 50, `${failing} rows were written in all`)
})

/** Puts and names three objects, drops the second, collects. Failures are what its callers inject; what was acknowledged is noted. */
async function course(made: TestStore): Promise<void> {
  const names = new Names(made)
  const acks = new Map<string, string>()
  acknowledged.set(made, acks)
  for (const [index, object] of COURSE.entries()) {
    const code = await codeOf(async () => {
      await made.store.put(ALICE, object)
      await names.commit(`${index}`, ALICE, object.objectId)
    })
    if (code === 'none') acks.set(`${index}`, object.objectId)
  }
  const removed = await codeOf(() => names.remove('1'))
  acks.delete('1')
  // Not acknowledged: it may or may not have been done.
  if (removed !== 'none') acks.set('1?', '')
  for (let pass = 0; pass < 2; pass += 1) await codeOf(() => new Collector({ store: made.store, live: () => names.live(), clock: made.clock, log: silentLog, graceMs: 0, rowsPerStep: 2 }).run())
}

async function checkCourse(test: Pick<typeof t, 'same'>, made: TestStore, title: string): Promise<void> {
  const { store, clock } = made
  const names = new Names(made)
  const problems = audit(store)
  for (const [name, objectId] of acknowledged.get(made) ?? []) {
    if (name.endsWith('?')) continue
    const object = COURSE.find((each) => each.objectId === objectId)
    if (object === undefined || contentOf(store.open(ALICE, object.objectId))?.equals(plainContent(object)) !== true) problems.push(`${name} was acknowledged and does not read back`)
  }
  for (const { account, objectId } of names.live()) if (contentOf(store.open(account, objectId)) === null) problems.push(`${objectId} is named and missing`)
  if (problems.length > 0) test.same(problems, [], title)
  // The same again without a failure ends well, whatever state it starts from.
  await course(made)
  for (let pass = 0; pass < 2; pass += 1) await new Collector({ store, live: () => names.live(), clock, log: silentLog, graceMs: 0 }).run()
  const after = audit(store)
  if (store.counts().objects !== 2) after.push(`${store.counts().objects} objects are left of 2`)
  test.same(after, [], title)
}

await t.test(`killed ${KILLS} times while objects are put, named, removed and collected`, { timeout: 60_000 + KILLS * 4_000 }, async (t) => {
  const folder = tempFolder(t)
  const path = join(folder, 'store')
  const seed = Date.now() % 1_000_000
  t.comment(`seed ${seed}`)
  const random = seededRandom(seed)
  const expected: Expected = new Map()
  const keyring = keyringAt(folder)
  let acks = 0
  for (let round = 0; round < KILLS; round += 1) {
    const output = join(folder, `acks-${round}`)
    writeFileSync(output, '')
    await runAndKill([path, folder, String(seed + round), output, '0'], output, { afterLines: 1 + random.below(120), thenMs: random.below(12) })
    acks += readLines(readFileSync(output, 'utf8'), expected)
    const problems = await inspect(path, keyring, expected)
    if (problems.length > 0) t.same(problems, [], `round ${round}`)
  }
  t.ok(acks > KILLS, `${acks} changes were acknowledged`)
})

await t.test(`power lost at ${POWER_LOSSES} moments: what was not flushed is dropped, torn or reordered`, { timeout: 60_000 + POWER_LOSSES * 2_000 }, async (t) => {
  const compiler = needTool(t, 'gcc', 'gcc libc6-dev')
  if (compiler === null) return
  const folder = tempFolder(t)
  const seed = Date.now() % 1_000_000
  t.comment(`seed ${seed}`)
  const random = seededRandom(seed)
  const keyring = keyringAt(folder)
  const library = compileWriteLog(compiler, folder)
  const log = join(folder, 'log')
  execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', WRITER, join(folder, 'written'), folder, String(seed), join(folder, 'acks'), '150'], {
    env: { ...process.env, ...writeLogEnv(library, log, ['data.mdb', 'acks']) }, stdio: ['ignore', 'ignore', 'inherit'],
  })
  const events = readWriteLog(log)
  const [database, acks] = [0, 1]
  const pending = events.filter((event) => event.kind === 'write' && event.file === database && event.durableAt === Number.POSITIVE_INFINITY).length
  t.ok(events.length > 1000, `${events.length} writes and flushes, ${pending} never flushed`)
  // Before the first acknowledgement there may be no database yet.
  const firstAck = events.findIndex((event) => event.kind === 'write' && event.file === acks)
  let inFlight = 0
  for (let round = 0; round < POWER_LOSSES; round += 1) {
    const crashAt = firstAck + 1 + random.below(events.length - firstAck)
    inFlight += events.slice(0, crashAt).filter((event) => event.kind === 'write' && event.file === database && event.durableAt > crashAt).length
    const path = join(folder, `lost-${round}`)
    mkdirSync(path)
    writeFileSync(join(path, 'data.mdb'), diskAfterCrash(events, database, crashAt, random))
    const expected: Expected = new Map()
    readLines(writtenUntil(events, acks, crashAt), expected)
    const problems = await inspect(path, keyring, expected)
    t.same(problems, [], `after ${crashAt} of ${events.length}`)
    rmSync(path, { recursive: true })
  }
  t.ok(inFlight > POWER_LOSSES, `${inFlight} writes were not flushed at the moments of loss`)
})

await t.test('a store that acknowledged before it flushed would be found out', async (t) => {
  const compiler = needTool(t, 'gcc', 'gcc libc6-dev')
  if (compiler === null) return
  const folder = tempFolder(t)
  const log = join(folder, 'log')
  execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', WRITER, join(folder, 'written'), folder, '1', join(folder, 'acks'), '60'], {
    env: { ...process.env, ...writeLogEnv(compileWriteLog(compiler, folder), log, ['data.mdb', 'acks']) }, stdio: ['ignore', 'ignore', 'inherit'],
  })
  // The same log, as if no flush had ever come back.
  const events = readWriteLog(log).map((event) => (event.kind === 'flush' ? event : { ...event, durableAt: Number.POSITIVE_INFINITY }))
  const random = seededRandom(1)
  let found = 0
  for (let round = 0; round < 10; round += 1) {
    const path = join(folder, `lost-${round}`)
    mkdirSync(path)
    writeFileSync(join(path, 'data.mdb'), diskAfterCrash(events, 0, events.length, random))
    const expected: Expected = new Map()
    readLines(writtenUntil(events, 1, events.length), expected)
    // In a process of its own: a database in such a state may well end it.
    const child = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', fileURLToPath(new URL('../../fixtures/store-audit.ts', import.meta.url)), path, folder, JSON.stringify([...expected])], { encoding: 'utf8' })
    if (child.status !== 0) found += 1
  }
  t.ok(found >= 8, `${found} of 10 losses were seen`)
})

const tiny = mountTmpfs(8 * MIB)
// Also when the test before it ends the process: a mount outlives it. The second time there is nothing to undo.
process.once('exit', () => {
  if (tiny !== null) spawnSync('umount', [tiny], { stdio: 'ignore' })
})
await t.test('a disk that is really full refuses puts whole; within the reserve a collection makes room', { skip: tiny === null ? 'needs a mount of tmpfs, which only root has' : false }, async (t) => {
  const path = tiny ?? ''
  t.teardown(() => {
    execFileSync('umount', [path])
    rmSync(path, { recursive: true })
  })
  const large = (index: number): ReturnType<typeof objectOf> => ({ ...objectOf([], `${index}`), pieces: Array.from({ length: 15 }, (_each, at) => piece(`${index}/${at}`, 16_384)) })
  // First without a reserve, so that the write itself meets the full disk.
  for (const diskReserveBytes of [-1_000_000_000, MIB]) {
    const folder = join(path, 'db')
    const environment = LmdbEnvironment.open({ path: folder, diskReserveBytes })
    const clock = new ManualClock()
    const keyring = Keyring.inMemory()
    const store = new ObjectStore({ environment, keyring, salts: new SaltPolicy(ONE_COPY), clock, log: silentLog })
    const names = new Names({ store, environment })
    const stored: number[] = []
    let refused = 0
    for (let index = 0; index < 40; index += 1) {
      const object = large(index)
      const code = await codeOf(async () => {
        await store.put(ALICE, object)
        await names.commit(`${index}`, ALICE, object.objectId)
      })
      if (code === 'none') stored.push(index)
      else {
        t.equal(code, 'ERR_STORE_FULL')
        refused += 1
      }
    }
    t.ok(stored.length > 3, `${stored.length} objects went in`)
    t.ok(refused > 3, `${refused} were refused`)
    t.same(audit(store), [])
    if (diskReserveBytes > 0) {
      for (const index of stored.slice(0, 3)) await names.remove(`${index}`)
      for (let pass = 0; pass < 2; pass += 1) await new Collector({ store, live: () => names.live(), clock, log: silentLog, graceMs: 0 }).run()
      t.same(stored.filter((index) => store.has(ALICE, large(index).objectId)), stored.slice(3))
    }
    await environment.close()
    const again = openObjectStore(folder, { keyring })
    for (const index of stored.slice(3)) t.ok(contentOf(again.store.open(ALICE, large(index).objectId))?.equals(plainContent(large(index))))
    t.same(audit(again.store), [])
    await again.environment.close()
    rmSync(folder, { recursive: true })
  }
})

/** Starts a writer and kills it some time after so many lines. */
function runAndKill(args: readonly string[], output: string, moment: { readonly afterLines: number; readonly thenMs: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', WRITER, ...args], { stdio: ['ignore', 'inherit', 'inherit'] })
    child.once('error', reject)
    const poll = setInterval(() => {
      if (readFileSync(output, 'utf8').split('\n').length <= moment.afterLines) return
      clearInterval(poll)
      setTimeout(() => child.kill('SIGKILL'), moment.thenMs)
    }, 3)
    child.once('close', (code) => {
      clearInterval(poll)
      if (code === null) resolve()
      else reject(new Error(`the writer ended by itself with ${code}`))
    })
  })
}
