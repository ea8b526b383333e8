/** The store of sealed objects: what it refuses, what it shares, what its disk tells, what it mends. */
import t from 'tap'
import { audit } from '../../../shared/store/audit.ts'
import { Keyring } from '../../../shared/store/keyring.ts'
import { SaltPolicy } from '../../../shared/store/salts.ts'
import { ALICE, BOB, blockIds, codeOf, contentOf, damageBlock, failureOf, makeStore, objectOf, openObjectStore, piece, plainContent, storedBytes, tempFolder, PIECE_BYTES } from './store-fixtures.ts'

t.test('a damaged block fails the reads that touch it, by name, and no others; the next put mends it', async (t) => {
  for (const how of ['flip', 'remove'] as const) {
    const made = makeStore(t)
    const { store } = made
    const object = objectOf(['a', 'b'])
    await store.put(ALICE, object)
    const open = store.open(ALICE, object.objectId)
    const ids = blockIds(store)
    const [damaged] = ids
    if (damaged === undefined) throw new Error('nothing was stored')
    await damageBlock(made, damaged, how)
    const failures = [0, 1].map((index) => failureOf(() => open?.piece(index)))
    t.same(failures.filter((text) => text !== 'none'), [`ERR_STORE_BLOCK Block ${damaged} is ${how === 'flip' ? 'altered' : 'missing'}`])
    t.match(failureOf(() => store.sealedBlock(damaged)), new RegExp(`^ERR_STORE_BLOCK Block ${damaged}`))
    t.not(audit(store).length, 0)
    await store.put(BOB, objectOf(['a', 'b'], 'of another'))
    t.equal(Buffer.compare(contentOf(store.open(ALICE, object.objectId)) ?? Buffer.alloc(0), plainContent(object)), 0)
    t.same(audit(store), [], how)
  }
})

t.test('an altered or missing manifest is refused, and mended by the next put', async (t) => {
  const { store, environment } = makeStore(t)
  const object = objectOf(['a'])
  await store.put(ALICE, object)
  const raw = environment.table<Buffer>('objects', 'binary')
  const [key = Buffer.alloc(0)] = [...raw.getKeys()]
  const good = Buffer.from(raw.getBinary(key) ?? Buffer.alloc(0))
  for (let at = 0; at < good.byteLength; at += 13) {
    const bad = Buffer.from(good)
    bad[at] = (bad[at] ?? 0) ^ 1
    await environment.write({ kind: 'removes' }, () => void raw.put(key, bad))
    t.match(failureOf(() => store.open(ALICE, object.objectId)), /^ERR_STORE_(BLOCK|KEY)/, `byte ${at}`)
  }
  await store.put(ALICE, object)
  t.equal(Buffer.compare(contentOf(store.open(ALICE, object.objectId)) ?? Buffer.alloc(0), plainContent(object)), 0)
  t.same(audit(store).filter((line) => !line.startsWith('logicalBytes')), [])
})

t.test('without the keyring nothing opens, and a put under the new one writes anew', async (t) => {
  const path = tempFolder(t)
  const object = objectOf(['a', 'b'])
  const before = openObjectStore(path)
  await before.store.put(ALICE, object)
  await before.environment.close()
  const after = openObjectStore(path)
  t.teardown(() => after.environment.close())
  t.match(failureOf(() => after.store.open(ALICE, object.objectId)), /^ERR_STORE_KEY/)
  await after.store.put(ALICE, object)
  t.equal(Buffer.compare(contentOf(after.store.open(ALICE, object.objectId)) ?? Buffer.alloc(0), plainContent(object)), 0)
})

t.test('two accounts that store nearly the same share all but the difference, and neither opens what is the other one’s', async (t) => {
  const made = makeStore(t)
  const { store } = made
  const seeds = Array.from({ length: 40 }, (_each, index) => `library ${index}`)
  const ofAlice = objectOf(seeds, 'alice')
  const ofBob = objectOf(seeds.map((seed, index) => (index === 7 ? 'own' : seed)), 'bob')
  t.same(await store.put(ALICE, ofAlice), { blocks: 40, newBlocks: 40 })
  t.same(await store.put(BOB, ofBob), { blocks: 40, newBlocks: 1 })
  for (const [account, object] of [[ALICE, ofAlice], [BOB, ofBob]] as const) t.equal(Buffer.compare(contentOf(store.open(account, object.objectId)) ?? Buffer.alloc(0), plainContent(object)), 0)
  t.equal(store.open(BOB, ofAlice.objectId), null)
  const row = store.tables.object({ account: ALICE, objectId: ofAlice.objectId })
  t.match(failureOf(() => made.keyring.unwrap(BOB, ofAlice.objectId, row?.wrapped ?? new Uint8Array(0))), /^ERR_STORE_KEY/)
  const disk = storedBytes(made)
  for (const seed of [...seeds, 'own']) t.equal(disk.indexOf(piece(seed).subarray(64, 96)), -1)
  t.equal(disk.indexOf('head of'), -1)
  t.match(store.counts(), { objects: 2, blocks: 41, logicalBytes: 80 * PIECE_BYTES })
  t.same(audit(store), [])
})

t.test('isolated accounts share nothing', async (t) => {
  const { store } = makeStore(t, { isolateAccounts: true })
  await store.put(ALICE, objectOf(['a', 'a', 'b']))
  t.same(await store.put(BOB, objectOf(['a', 'a', 'b'])), { blocks: 2, newBlocks: 2 })
  t.same(await store.put(ALICE, objectOf(['a', 'c'])), { blocks: 2, newBlocks: 1 }, 'an account does with itself')
  t.same(audit(store), [])
})

t.test('zeros are not stored', async (t) => {
  const { store } = makeStore(t)
  const object = objectOf(['', 'a', ''])
  t.same(await store.put(ALICE, object), { blocks: 1, newBlocks: 1 })
  t.equal(Buffer.compare(contentOf(store.open(ALICE, object.objectId)) ?? Buffer.alloc(0), plainContent(object)), 0)
  t.equal(store.counts().logicalBytes, PIECE_BYTES)
  const empty = objectOf([], 'empty')
  await store.put(ALICE, empty)
  t.equal(contentOf(store.open(ALICE, empty.objectId))?.toString(), 'head of empty')
  t.match(failureOf(() => store.open(ALICE, empty.objectId)?.piece(0)), /^ERR_STORE_BLOCK/)
  t.same(audit(store), [])
})

t.test('putting what is there writes nothing', async (t) => {
  const { store, environment } = makeStore(t)
  const object = objectOf(['a', 'b'])
  await store.put(ALICE, object)
  let writes = 0
  const original = environment.write.bind(environment)
  environment.write = (size, action) => {
    writes += 1
    return original(size, action)
  }
  t.same(await Promise.all([store.put(ALICE, object), store.put(ALICE, object)]), [{ blocks: 2, newBlocks: 0 }, { blocks: 2, newBlocks: 0 }])
  t.equal(writes, 0)
})

t.test('beyond its bound the store refuses, with nothing to be seen', async (t) => {
  const { store } = makeStore(t, { contentMaxBytes: 5 * PIECE_BYTES })
  await store.put(ALICE, objectOf(['a', 'b']))
  const before = store.counts()
  const large = objectOf(['c', 'd', 'e', 'f'])
  t.equal(await codeOf(() => store.put(ALICE, large)), 'ERR_STORE_FULL')
  t.same(store.counts(), before)
  t.notOk(store.has(ALICE, large.objectId))
  t.same(audit(store), [])
})

t.test('an object of many blocks is written in several transactions and seen at once', async (t) => {
  const { store, environment } = makeStore(t)
  const object = { ...objectOf([], 'large'), pieces: Array.from({ length: 300 }, (_each, index) => piece(`large ${index}`, 32_768)) }
  const seen: boolean[] = []
  const original = environment.write.bind(environment)
  environment.write = async (size, action) => {
    const result = await original(size, action)
    seen.push(store.has(ALICE, object.objectId))
    return result
  }
  await store.put(ALICE, object)
  t.same(seen, [false, false, true])
  t.equal(Buffer.compare(contentOf(store.open(ALICE, object.objectId)) ?? Buffer.alloc(0), plainContent(object)), 0)
  t.same(audit(store), [])
})

t.test('a thousand users with three copies by user: three sets of blocks, and everybody reads', async (t) => {
  const { store } = makeStore(t, { salts: new SaltPolicy({ by: 'user', copies: 3 }) })
  const object = objectOf(['a', 'b'])
  const accounts = Array.from({ length: 1000 }, (_each, index) => String(100_000_000_000 + index))
  for (const account of accounts) await store.put(account, object)
  t.equal(blockIds(store).length, 6)
  for (const account of accounts) t.ok(contentOf(store.open(account, object.objectId))?.equals(plainContent(object)))
  t.same(audit(store), [])
})

t.test('three copies by state: three puts make three, the fourth none; one lost harms a third of the users', async (t) => {
  const made = makeStore(t, { salts: new SaltPolicy({ by: 'state', copies: 3 }) })
  const { store } = made
  const object = objectOf(['a'])
  const accounts = Array.from({ length: 300 }, (_each, index) => String(100_000_000_000 + index))
  const made3: number[] = []
  for (const account of accounts) made3.push((await store.put(account, object)).newBlocks)
  t.same(made3.slice(0, 4), [1, 1, 1, 0])
  t.equal(blockIds(store).length, 3)
  await damageBlock(made, blockIds(store)[0] ?? '')
  const failed = accounts.filter((account) => failureOf(() => contentOf(store.open(account, object.objectId))) !== 'none').length
  t.ok(failed > 60 && failed < 140, `${failed} of 300 reads failed`)
})

t.test('a change of policy concerns new puts only', async (t) => {
  const path = tempFolder(t)
  const keyring = Keyring.inMemory()
  const object = objectOf(['a'])
  const epoch = openObjectStore(path, { keyring, salts: new SaltPolicy({ by: 'epoch', copies: 5, epochMs: 1000 }) })
  const counts: number[] = []
  for (let index = 0; index < 6; index += 1) {
    counts.push((await epoch.store.put(String(index), object)).newBlocks)
    epoch.clock.advance(1000)
  }
  t.same(counts, [1, 1, 1, 1, 1, 0], 'a new set each epoch, until all are there')
  await epoch.environment.close()
  const single = openObjectStore(path, { keyring })
  t.teardown(() => single.environment.close())
  for (let index = 0; index < 6; index += 1) t.ok(contentOf(single.store.open(String(index), object.objectId))?.equals(plainContent(object)))
  t.same(await single.store.put(BOB, object), { blocks: 1, newBlocks: 0 })
  t.same(audit(single.store), [])
})

t.test('after a rotation everything opens, and rewrapped keys need the new version only', async (t) => {
  const made = makeStore(t)
  const { store, keyring } = made
  const objects = Array.from({ length: 5 }, (_each, index) => objectOf([`${index}`]))
  for (const object of objects) await store.put(ALICE, object)
  const before = store.tables.object({ account: ALICE, objectId: objects[0]?.objectId ?? ('' as never) })
  keyring.rotate()
  t.equal(await store.rewrapKeys(), 5)
  t.equal(await store.rewrapKeys(), 0)
  t.not(Buffer.compare(before?.wrapped ?? Buffer.alloc(0), store.tables.object({ account: ALICE, objectId: objects[0]?.objectId ?? ('' as never) })?.wrapped ?? Buffer.alloc(0)), 0)
  for (const object of objects) t.ok(contentOf(store.open(ALICE, object.objectId))?.equals(plainContent(object)))
  t.same(audit(store), [])
})

t.test('a thousand puts at once neither harm each other nor keep reads waiting', async (t) => {
  const { store } = makeStore(t)
  const first = objectOf(['first', 'shared'])
  await store.put(ALICE, first)
  const objects = Array.from({ length: 1000 }, (_each, index) => objectOf([`${index % 50}`, `own ${index}`, 'shared'], `${index}`))
  const state = { done: false }
  let reads = 0
  let longestMs = 0
  const reading = (async () => {
    while (!state.done) {
      const startedAt = process.hrtime.bigint()
      t.ok(contentOf(store.open(ALICE, first.objectId))?.equals(plainContent(first)) ?? false)
      await new Promise((resolve) => setImmediate(resolve))
      longestMs = Math.max(longestMs, Number(process.hrtime.bigint() - startedAt) / 1e6)
      reads += 1
      // Not every turn: the assertion's own record grows.
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  })()
  await Promise.all(objects.map((object) => store.put(ALICE, object)))
  state.done = true
  await reading
  t.comment(`${reads} reads meanwhile, the longest ${longestMs.toFixed(1)} ms`)
  t.ok(reads > 20, 'reads went on')
  t.equal(store.counts().objects, 1001)
  t.equal(store.counts().blocks, 1 + 1 + 50 + 1000)
  t.same(audit(store), [])
})
