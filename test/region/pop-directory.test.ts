import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../shared/clock.ts'
import { EmbeddedCoordination } from '../../shared/coordination/embedded.ts'
import type { Documents } from '../../shared/coordination/types.ts'
import { makeLinkKeyPair } from '../../shared/identity/key-pair.ts'
import { POPS_BUCKET, PopRecords } from '../../shared/identity/pop-records.ts'
import { POP_GRANTS_MAX, REVOKED_KEYS_MAX } from '../../shared/limits.ts'
import { PopDirectory } from '../../region/pop-directory.ts'
import { testLog, until, type TestLog } from '../shared/link/harness.ts'

const [ALICE, BOB] = ['111111111111', '222222222222']
const key = (): ReturnType<typeof makeLinkKeyPair>['fingerprint'] => makeLinkKeyPair().fingerprint

interface Scene {
  readonly documents: Documents
  readonly records: PopRecords
  readonly directory: PopDirectory
  readonly revoked: string[]
  readonly changed: { name: string; functions: string[] }[]
  readonly logged: TestLog
}

async function scene(t: Test, unregisteredMayHaveAll = false): Promise<Scene> {
  const path = join(t.testdir({}), 'coordination')
  // The command's process and the region's: two openings of one folder.
  const [command, region] = [EmbeddedCoordination.open({ path, clock: systemClock }), EmbeddedCoordination.open({ path, clock: systemClock })]
  const documents = await command.documents(POPS_BUCKET)
  const logged = testLog()
  const directory = await PopDirectory.open({ documents: await region.documents(POPS_BUCKET), unregisteredMayHaveAll, log: logged.log })
  const revoked: string[] = []
  const changed: Scene['changed'] = []
  directory.listen({
    onRevoked: (fingerprint) => revoked.push(fingerprint),
    onGrants: (name, differs) => changed.push({ name, functions: [ALICE, BOB].flatMap((account) => ['f', 'g'].filter((functionName) => differs({ account, functionName })).map((functionName) => `${account}/${functionName}`)) }),
  })
  t.teardown(async () => {
    directory.close()
    await Promise.all([command.close(), region.close()])
  })
  return { documents, records: new PopRecords(documents), directory, revoked, changed, logged }
}

t.test('what cannot be registered is refused with the reason, and nothing changes', async (t) => {
  const { records } = await scene(t)
  const [berlin, paris] = [key(), key()]
  for (const name of ['', 'a b', '../x', '.hidden', '-x', 'x'.repeat(65), 'ü']) await t.rejects(records.add(name, berlin, 'pop'), { code: 'ERR_PARAMETER' }, name)
  for (const action of [records.revoke('nobody'), records.grant('nobody', { account: ALICE, functionName: 'f' }), records.ungrant('nobody', { account: ALICE, functionName: 'f' })]) await t.rejects(action, { code: 'ERR_RESOURCE_NOT_FOUND' })
  await records.add('berlin', berlin, 'pop')
  await t.rejects(records.add('paris', berlin, 'pop'), { code: 'ERR_CONFLICT', message: /registered as that of berlin/ })
  await t.rejects(records.add('berlin', paris, 'pop'), { code: 'ERR_CONFLICT', message: /revoke it first/ })
  await t.rejects(records.add('berlin', berlin, 'region'), { code: 'ERR_CONFLICT' })
  await t.rejects(records.grant('berlin', { account: '*', functionName: 'f' }), { code: 'ERR_PARAMETER' })
  await t.rejects(records.ungrant('berlin', { account: ALICE, functionName: 'f' }), { code: 'ERR_RESOURCE_NOT_FOUND', message: /it has: none/ })
  await records.add('other-region', paris, 'region')
  await t.rejects(records.grant('other-region', { account: ALICE, functionName: 'f' }), { code: 'ERR_PARAMETER', message: /only POPs/ })
  await records.revoke('berlin')
  await t.rejects(records.add('berlin', berlin, 'pop'), { code: 'ERR_CONFLICT', message: /was revoked as that of berlin/ })
  await t.rejects(records.add('rome', berlin, 'pop'), { code: 'ERR_CONFLICT' }, 'under no name')
  await t.rejects(records.grant('berlin', { account: ALICE, functionName: 'f' }), { code: 'ERR_PARAMETER', message: /revoked/ })
  t.match(await records.list(), [{ name: 'berlin', fingerprint: null, revoked: [berlin], grants: [] }, { name: 'other-region', role: 'region', grants: [] }])
})

t.test('a registration and its grants are known beside the command, and taken away again', async (t) => {
  const { records, directory, revoked, changed } = await scene(t)
  const berlin = key()
  t.equal(directory.find(berlin), null)
  t.notOk(directory.allows('berlin', ALICE, 'f'), 'who is not registered may have nothing')
  await records.add('berlin', berlin, 'pop')
  await until(() => directory.has('berlin'))
  t.same(directory.find(berlin), { kind: 'known', name: 'berlin', role: 'pop' })
  t.notOk(directory.allows('berlin', ALICE, 'f'), 'a key alone gives nothing')
  await records.grant('berlin', { account: ALICE, functionName: 'f' })
  await until(() => changed.length === 1)
  t.same(changed[0], { name: 'berlin', functions: [`${ALICE}/f`] })
  t.ok(directory.allows('berlin', ALICE, 'f'))
  for (const [account, functionName] of [[ALICE, 'g'], [BOB, 'f'], [ALICE, '*'], ['*', 'f']] as const) t.notOk(directory.allows('berlin', account, functionName))
  await records.grant('berlin', { account: BOB, functionName: '*' })
  await until(() => changed.length === 2)
  t.same(changed[1]?.functions, [`${BOB}/f`, `${BOB}/g`])
  await records.grant('berlin', { account: BOB, functionName: 'f' })
  await until(() => changed.length === 3)
  t.same(changed[2]?.functions, [], 'it had that one already')
  await records.ungrant('berlin', { account: BOB, functionName: '*' })
  await until(() => changed.length === 4)
  t.same(changed[3]?.functions, [`${BOB}/g`], 'the other grant stays')
  await records.grant('berlin', { account: '*', functionName: '*' })
  await until(() => changed.length === 5)
  t.same(changed[4]?.functions, [`${ALICE}/g`, `${BOB}/g`])
  t.same(revoked, [])
  await records.revoke('berlin')
  await until(() => revoked.length === 1)
  t.same(revoked, [berlin])
  t.same(directory.find(berlin), { kind: 'revoked' })
  t.notOk(directory.allows('berlin', ALICE, 'f'), 'its grants went with it')
  t.ok(directory.has('berlin'), 'the name is not free for a token')
  const next = key()
  await records.add('berlin', next, 'pop')
  await until(() => directory.find(next)?.kind === 'known')
  t.same(directory.find(berlin), { kind: 'revoked' })
  t.notOk(directory.allows('berlin', ALICE, 'f'), 'a new key begins anew')
})

t.test('what cannot be read lets nobody in, and ends the links of who was there', async (t) => {
  const { documents, records, directory, revoked, logged } = await scene(t, true)
  const berlin = key()
  await records.add('berlin', berlin, 'pop')
  await records.grant('berlin', { account: '*', functionName: '*' })
  await until(() => directory.has('berlin') && directory.allows('berlin', ALICE, 'f'))
  const { revision = 0 } = (await documents.get('berlin')) ?? {}
  await documents.update('berlin', Buffer.from('{"format":9}'), revision)
  await until(() => revoked.length === 1)
  t.notOk(directory.allows('berlin', ALICE, 'f'))
  t.same(directory.find(berlin), { kind: 'revoked' })
  t.ok(logged.lines.some(({ level, fields }) => level === 'error' && fields.name === 'berlin'))
  await t.rejects(records.grant('berlin', { account: ALICE, functionName: 'f' }), { code: 'ERR_CONFLICT' })
  t.ok(directory.allows('a-pop-with-the-token', ALICE, 'f'), 'on loopback, where nobody is registered')
})

t.test('a key that two commands gave two names at once stays with one of them', async (t) => {
  const { documents, records, directory, logged } = await scene(t)
  const both = key()
  await records.add('b', both, 'pop')
  const { value } = (await documents.get('b')) ?? { value: new Uint8Array(0) }
  await documents.update('a', value, 0)
  await until(() => directory.has('a'))
  t.same(directory.find(both), { kind: 'known', name: 'a', role: 'pop' })
  t.ok(logged.lines.some(({ level, message }) => level === 'error' && message === 'Two names are registered for one key'))
  await records.revoke('b')
  await until(() => directory.find(both)?.kind === 'revoked')
})

t.test('changes from many sides at once are all made', async (t) => {
  const { records, directory } = await scene(t)
  await records.add('berlin', key(), 'pop')
  await Promise.all(Array.from({ length: 6 }, (_, index) => records.grant('berlin', { account: ALICE, functionName: `f${index}` })))
  await until(() => Array.from({ length: 6 }, (_, index) => directory.allows('berlin', ALICE, `f${index}`)).every(Boolean))
})

t.test('bounds: grants of one POP, and keys that are remembered as revoked', async (t) => {
  const { documents, records, directory } = await scene(t)
  await records.add('full', key(), 'pop')
  const { value, revision } = (await documents.get('full')) ?? { value: new Uint8Array(0), revision: 0 }
  const grants = Array.from({ length: POP_GRANTS_MAX }, (_, index) => ({ account: ALICE, functionName: `f${index}` }))
  await documents.update('full', Buffer.from(JSON.stringify({ ...(JSON.parse(Buffer.from(value).toString()) as object), grants })), revision)
  await t.rejects(records.grant('full', { account: ALICE, functionName: 'more' }), { code: 'ERR_QUOTA' })
  const keys = Array.from({ length: REVOKED_KEYS_MAX + 1 }, key)
  for (const each of keys) {
    await records.add('often', each, 'pop')
    await records.revoke('often')
  }
  await until(() => keys[REVOKED_KEYS_MAX] !== undefined && directory.find(keys[REVOKED_KEYS_MAX])?.kind === 'revoked')
  t.equal(keys[0] === undefined ? null : directory.find(keys[0]), null, 'the oldest is a stranger again, and as such let in nowhere')
})
