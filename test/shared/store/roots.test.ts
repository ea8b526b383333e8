/** Collection by roots: what goes, what stays, and an arbitrary course of events against a plain model. */
import fc from 'fast-check'
import t from 'tap'
import { CodedError } from '../../../shared/errors.ts'
import { silentLog } from '../../../shared/log.ts'
import { audit } from '../../../shared/store/audit.ts'
import { Keyring } from '../../../shared/store/keyring.ts'
import { Collector, type CollectorStep } from '../../../shared/store/roots.ts'
import type { PlainObject } from '../../../shared/store/types.ts'
import { ALICE, BOB, Names, blockIds, codeOf, contentOf, damageBlock, makeStore, objectOf, openObjectStore, plainContent, tempFolder, type TestStore } from './store-fixtures.ts'

const GRACE_MS = 1000

interface Setup extends TestStore {
  readonly names: Names
  readonly collector: Collector
}

function withCollector(made: TestStore, rowsPerStep = 2): Setup {
  const names = new Names(made)
  const collector = new Collector({ store: made.store, live: () => names.live(), clock: made.clock, log: silentLog, graceMs: GRACE_MS, rowsPerStep })
  return { ...made, names, collector }
}

async function collectAll({ collector, clock }: Setup): Promise<CollectorStep[]> {
  const steps: CollectorStep[] = []
  await collector.run((step) => steps.push(step))
  clock.advance(GRACE_MS)
  await collector.run((step) => steps.push(step))
  return steps
}

t.test('what nobody names goes once its root has retired and the grace is over, not before', async (t) => {
  const setup = withCollector(makeStore(t))
  const { store, names, collector, clock } = setup
  const [kept, dropped, never] = [objectOf(['shared', 'kept']), objectOf(['shared', 'dropped']), objectOf(['never'])]
  for (const object of [kept, dropped, never]) await store.put(ALICE, object)
  await names.commit('kept', ALICE, kept.objectId)
  await names.commit('dropped', ALICE, dropped.objectId)
  await names.remove('dropped')
  await collector.run()
  clock.advance(GRACE_MS - 1)
  await collector.run()
  t.equal(store.counts().objects, 3, 'nothing goes within the grace')
  clock.advance(1)
  await collector.run()
  t.same([kept, dropped, never].map(({ objectId }) => store.has(ALICE, objectId)), [true, false, false])
  t.equal(blockIds(store).length, 2)
  t.match(store.counts(), { objects: 1, blocks: 2 })
  t.match(collector.events, { cycles: 1, objectsDeleted: 2, blocksDeleted: 2, liveMissing: 0 })
  t.same(audit(store), [])
  t.equal(await codeOf(() => names.commit('late', ALICE, never.objectId)), 'ERR_STORE_FAILED', 'a commit of what is gone is refused')
})

t.test('two accounts with the same blocks: what one drops the other keeps; when both drop, all goes', async (t) => {
  const setup = withCollector(makeStore(t))
  const { store, names } = setup
  const object = objectOf(['a', 'b'])
  for (const account of [ALICE, BOB]) {
    await store.put(account, object)
    await names.commit(account, account, object.objectId)
  }
  await names.remove(ALICE)
  await collectAll(setup)
  t.equal(store.open(ALICE, object.objectId), null)
  t.ok(contentOf(store.open(BOB, object.objectId))?.equals(plainContent(object)))
  await names.remove(BOB)
  await collectAll(setup)
  t.same(store.counts(), { objects: 0, blocks: 0, blockBytes: 0, manifestBytes: 0, logicalBytes: 0 })
  t.same(audit(store), [])
})

t.test('a read of what only a retired root claims is served, counted, and keeps the root from deletion', async (t) => {
  const setup = withCollector(makeStore(t))
  const { store, collector, clock } = setup
  const object = objectOf(['a'])
  await store.put(ALICE, object)
  await collector.run()
  t.ok(contentOf(store.open(ALICE, object.objectId))?.equals(plainContent(object)))
  t.ok(store.events.retiredReads > 0)
  // The alarm is noted by a write of its own: once another one is done, it is on disk.
  await setup.environment.write({ kind: 'removes' }, () => undefined)
  clock.advance(GRACE_MS)
  const steps: CollectorStep[] = []
  await collector.run((step) => steps.push(step))
  t.same(steps.map(({ kind }) => kind), ['kept'])
  t.ok(store.has(ALICE, object.objectId))
  t.equal(collector.events.deletionsPutOff, 1)
  await collectAll(setup)
  t.notOk(store.has(ALICE, object.objectId), 'the next pass decides anew')
  t.same(audit(store), [])
})

t.test('a clock that was set back makes the grace begin anew', async (t) => {
  const path = tempFolder(t)
  const keyring = Keyring.inMemory()
  const first = withCollector(openObjectStore(path, { keyring }))
  first.clock.advance(1e9)
  await first.store.put(ALICE, objectOf(['a']))
  await first.collector.run()
  await first.environment.close()
  const second = withCollector(openObjectStore(path, { keyring }))
  t.teardown(() => second.environment.close())
  await second.collector.run()
  t.equal(second.store.counts().objects, 1)
  second.clock.advance(GRACE_MS)
  await second.collector.run()
  t.equal(second.store.counts().objects, 0)
})

t.test('a put before a pass and its commit after it', async (t) => {
  const setup = withCollector(makeStore(t))
  const { store, names, collector } = setup
  const object = objectOf(['a'])
  await store.put(ALICE, object)
  await collector.run()
  await names.commit('f', ALICE, object.objectId)
  setup.clock.advance(GRACE_MS)
  await collector.run()
  t.ok(contentOf(store.open(ALICE, object.objectId))?.equals(plainContent(object)), 'claimed by its commit')
  t.equal(store.events.retiredReads, 0)
})

t.test('a commit in the very moment of the deletion: whichever is first decides, and nothing is half', async (t) => {
  for (const first of ['commit', 'deletion'] as const) {
    const setup = withCollector(makeStore(t), 100)
    const { store, names, collector, clock } = setup
    const object = objectOf(['a', 'b'])
    await store.put(ALICE, object)
    await collector.run()
    clock.advance(GRACE_MS)
    const steps = collector.steps()
    const commit = (): Promise<string> => codeOf(() => names.commit('f', ALICE, object.objectId))
    // Both have looked at the store before either writes.
    const [committing, deleting] = first === 'commit' ? [commit(), steps.next()] : (([deletion, code]) => [code, deletion] as const)([steps.next(), commit()] as const)
    const [code] = await Promise.all([committing, deleting])
    while ((await steps.next()).done !== true);
    t.equal(code, first === 'commit' ? 'none' : 'ERR_STORE_FAILED')
    t.equal(contentOf(store.open(ALICE, object.objectId))?.equals(plainContent(object)) ?? false, first === 'commit')
    t.equal(blockIds(store).length, first === 'commit' ? 2 : 0)
    t.same(audit(store), [])
  }
})

t.test('a put in the very moment in which its blocks are deleted has them all afterwards', async (t) => {
  for (const first of ['put', 'deletion'] as const) {
    const setup = withCollector(makeStore(t), 100)
    const { store, collector, clock } = setup
    await store.put(ALICE, objectOf(['a', 'b'], 'before'))
    await collector.run()
    clock.advance(GRACE_MS)
    const steps = collector.steps()
    t.match((await steps.next()).value, { kind: 'deleted', objects: 1 })
    const object = objectOf(['a', 'b'], 'after')
    const both = first === 'put' ? [store.put(ALICE, object), steps.next()] : [steps.next(), store.put(ALICE, object)]
    await Promise.all(both)
    while ((await steps.next()).done !== true);
    t.ok(contentOf(store.open(ALICE, object.objectId))?.equals(plainContent(object)) ?? false, first)
    t.same(audit(store), [])
  }
})

t.test('a live object that is missing is reported and stops nothing', async (t) => {
  const setup = withCollector(makeStore(t))
  const { store, names, collector, environment } = setup
  const [lost, other] = [objectOf(['a']), objectOf(['b'])]
  for (const object of [lost, other]) {
    await store.put(ALICE, object)
    await names.commit(object.objectId, ALICE, object.objectId)
  }
  await environment.write({ kind: 'removes' }, () => store.tables.removeObject({ account: ALICE, objectId: lost.objectId }))
  await collectAll(setup)
  t.equal(collector.events.liveMissing, 1)
  t.ok(store.has(ALICE, other.objectId))
})

t.test('a run that was stopped goes on where it may, after a restart as well', async (t) => {
  const path = tempFolder(t)
  const keyring = Keyring.inMemory()
  const first = withCollector(openObjectStore(path, { keyring }))
  const objects = Array.from({ length: 9 }, (_each, index) => objectOf([`${index}`, 'all']))
  for (const [index, object] of objects.entries()) {
    await first.store.put(ALICE, object)
    if (index < 5) await first.names.commit(`${index}`, ALICE, object.objectId)
  }
  const stopping = first.collector.run((step) => {
    if (step.kind === 'claimed') void first.collector.stop()
  })
  await stopping
  t.equal(first.store.roots().readOnly, 1)
  await first.environment.close()
  const second = withCollector(openObjectStore(path, { keyring }))
  t.teardown(() => second.environment.close())
  t.equal(second.store.roots().readOnly, 1)
  const steps = await collectAll(second)
  t.notOk(steps.some(({ kind }) => kind === 'began'), 'the pass that was begun is done')
  t.equal(second.store.counts().objects, 5)
  t.same(audit(second.store), [])
})

// The model: what was acknowledged, in plain maps. After any course of events everything named reads back, nothing
// deleted comes back, and after a collection in peace nothing is left that is not named.
const OBJECTS: readonly PlainObject[] = [['a'], ['a', 'b'], ['b', 'c', 'd'], ['d'], ['e', 'f', 'a'], ['f', ''], []].map((seeds, index) => objectOf(seeds, `${index}`))
const NAMES = ['m', 'n', 'o', 'p'] as const
const ACCOUNTS = [ALICE, BOB] as const

interface Model {
  readonly named: Map<string, { readonly account: string; readonly object: PlainObject }>
  /** Put, not named: may be there or not. */
  readonly put: { readonly account: string; readonly object: PlainObject }[]
}

class Real {
  readonly path: string
  readonly keyring = Keyring.inMemory()
  setup: Setup
  /** A collection that is under way. */
  steps: AsyncGenerator<CollectorStep> | null = null
  #nowMs = 1_700_000_000_000

  constructor(path: string) {
    this.path = path
    this.setup = this.#open()
  }

  #open(): Setup {
    const made = withCollector(openObjectStore(this.path, { keyring: this.keyring }), 1)
    made.clock.advance(this.#nowMs - made.clock.nowMs())
    return made
  }

  async reopen(): Promise<void> {
    this.#nowMs = this.setup.clock.nowMs()
    this.steps = null
    await this.setup.environment.close()
    this.setup = this.#open()
  }

  async step(): Promise<void> {
    this.steps ??= this.setup.collector.steps()
    if ((await this.steps.next()).done === true) this.steps = null
  }
}

type Command = fc.AsyncCommand<Model, Real>

const command = (label: string, run: (model: Model, real: Real) => Promise<void>): Command => ({ check: () => true, run, toString: () => label })
const anyObject = fc.nat(OBJECTS.length - 1)
const anyAccount = fc.constantFrom(...ACCOUNTS)
const anyName = fc.constantFrom(...NAMES)

const put = fc.tuple(anyObject, anyAccount).map(([index, account]) => command(`put ${index} of ${account}`, async (model, real) => {
  const object = OBJECTS[index] ?? objectOf([])
  await real.setup.store.put(account, object)
  model.put.push({ account, object })
}))
const commit = fc.tuple(anyName, fc.nat(20)).map(([name, back]) => command(`commit ${name}, put ${back} ago`, async (model, real) => {
  const chosen = model.put.at(-1 - (back % Math.max(1, model.put.length)))
  if (chosen === undefined) return
  const { account, object } = chosen
  const wasThere = real.setup.store.has(account, object.objectId)
  const code = await codeOf(() => real.setup.names.commit(name, account, object.objectId))
  if (wasThere !== (code === 'none')) throw new Error(`${wasThere ? 'there' : 'gone'}, and the commit gave ${code}`)
  if (code === 'none') model.named.set(name, chosen)
}))
const commitInStep = fc.tuple(anyName, fc.nat(20), fc.boolean()).map(([name, back, stepFirst]) => command(`commit ${name}, put ${back} ago, with a step of a collection`, async (model, real) => {
  const chosen = model.put.at(-1 - (back % Math.max(1, model.put.length)))
  if (chosen === undefined) return
  const step = stepFirst ? real.step() : null
  const committing = codeOf(() => real.setup.names.commit(name, chosen.account, chosen.object.objectId))
  const [code] = await Promise.all([committing, step ?? real.step()])
  if (code === 'none') model.named.set(name, chosen)
  else if (code !== 'ERR_STORE_FAILED') throw new Error(code)
}))
const abort = anyName.map((name) => command(`aborted commit of ${name}`, async (model, real) => {
  const chosen = model.put.at(-1)
  if (chosen === undefined) return
  const { environment, store } = real.setup
  const code = await codeOf(() => environment.write({ kind: 'removes' }, () => {
    store.claimInTransaction(chosen.account, chosen.object.objectId)
    throw new CodedError('ERR_CONFLICT', [name])
  }))
  if (code !== 'ERR_CONFLICT') throw new Error(code)
}))
const remove = anyName.map((name) => command(`remove ${name}`, async (model, real) => {
  await real.setup.names.remove(name)
  model.named.delete(name)
}))
const gcStep = fc.constant(command('step of a collection', (_model, real) => real.step()))
const gcSteps = fc.integer({ min: 2, max: 30 }).map((count) => command(`${count} steps of collections`, async (_model, real) => {
  for (let index = 0; index < count; index += 1) await real.step()
}))
const wait = fc.constant(command('the grace passes', async (_model, real) => real.setup.clock.advance(GRACE_MS)))
const reopen = fc.constant(command('reopen', (_model, real) => real.reopen()))
const damage = fc.tuple(fc.nat(100), fc.constantFrom('flip' as const, 'remove' as const)).map(([index, how]) => command(`${how} block ${index}, then put again what it harmed`, async (model, real) => {
  const ids = blockIds(real.setup.store)
  const id = ids[index % Math.max(1, ids.length)]
  if (id === undefined) return
  await damageBlock(real.setup, id, how)
  for (const { account, object } of model.named.values()) {
    const before = await codeOf(() => contentOf(real.setup.store.open(account, object.objectId)))
    if (before !== 'none' && before !== 'ERR_STORE_BLOCK') throw new Error(before)
    if (before === 'ERR_STORE_BLOCK') await real.setup.store.put(account, object)
  }
  // What no live object shows is mended by any put that brings it.
  if (real.setup.store.checkBlock(id) !== 'intact') {
    for (const object of OBJECTS) await real.setup.store.put(ALICE, object)
    for (const object of OBJECTS) model.put.push({ account: ALICE, object })
  }
}))

function check(model: Model, { setup: { store } }: Real): void {
  for (const [name, { account, object }] of model.named) {
    if (contentOf(store.open(account, object.objectId))?.equals(plainContent(object)) !== true) throw new Error(`${name} does not read back`)
  }
  const problems = audit(store)
  if (problems.length > 0) throw new Error(problems.join('\n'))
}

t.test('against a model: whatever happens in whatever order, what is named reads back, and what is not goes', async (t) => {
  const seed = Date.now() % 1_000_000
  t.comment(`seed ${seed}`)
  let retiredReads = 0
  await fc.assert(
    fc.asyncProperty(fc.commands([put, put, commit, commitInStep, abort, remove, gcStep, gcSteps, wait, reopen, damage], { maxCommands: 60 }), async (commands) => {
      const real = new Real(tempFolder(t))
      const model: Model = { named: new Map(), put: [] }
      try {
        await fc.asyncModelRun(() => ({ model, real }), commands)
        check(model, real)
        retiredReads += real.setup.store.events.retiredReads
        // In peace: whatever a collection was at, two more leave what is named and nothing else.
        await real.reopen()
        for (let index = 0; index < 3; index += 1) await collectAll(real.setup)
        check(model, real)
        const named = new Set([...model.named.values()].map(({ account, object }) => `${account}/${object.objectId}`))
        if (real.setup.store.counts().objects !== named.size) throw new Error(`${real.setup.store.counts().objects} objects are left, ${named.size} are named`)
      } finally {
        await real.setup.environment.close()
      }
    }),
    { numRuns: 200, seed, endOnFailure: false },
  )
  t.equal(retiredReads, 0, 'what is named is never found in a retired root only')
})
