/** Keys of a region: what opens what, and what a rotation leaves. Policies of salts. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { contentDigest } from '../../../shared/store/block-seal.ts'
import { Keyring, keyVersionOf } from '../../../shared/store/keyring.ts'
import { SaltPolicy, type SaltOptions, type SaltQuestion } from '../../../shared/store/salts.ts'
import { newDataKey, parseObjectId } from '../../../shared/store/sealed-manifest.ts'
import { failureOf } from './store-fixtures.ts'

const ALICE = '111111111111'
const BOB = '222222222222'
const OBJECT = parseObjectId('ab'.repeat(32))
const value = Buffer.from('a secret value')

function tempFile(test: { teardown(undo: () => void): unknown }): string {
  const folder = mkdtempSync(join(tmpdir(), 'outpost-keyring-'))
  test.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return join(folder, 'keyring.json')
}

t.test('a sealed value opens for its account and purpose only, and not altered', async (t) => {
  const keyring = Keyring.inMemory()
  const sealed = keyring.seal(ALICE, 'x', value)
  t.equal(Buffer.from(sealed).indexOf(value), -1)
  t.match(failureOf(() => keyring.open(BOB, 'x', sealed)), /^ERR_STORE_KEY .*x of account 222222222222/)
  t.match(failureOf(() => keyring.open(ALICE, 'y', sealed)), /^ERR_STORE_KEY/)
  t.match(failureOf(() => Keyring.inMemory().open(ALICE, 'x', sealed)), /^ERR_STORE_KEY .*another keyring/)
  for (let at = 0; at < sealed.byteLength; at += 1) {
    const altered = Buffer.from(sealed)
    altered[at] = (altered[at] ?? 0) ^ 1
    t.match(failureOf(() => keyring.open(ALICE, 'x', altered)), /^ERR_STORE_KEY/, `byte ${at}`)
  }
  t.match(failureOf(() => keyring.open(ALICE, 'x', new Uint8Array(2))), /^ERR_STORE_KEY/)
  t.equal(Buffer.compare(keyring.open(ALICE, 'x', sealed), value), 0)
  t.not(Buffer.compare(keyring.seal(ALICE, 'x', value), sealed), 0, 'equal values do not show')
  const dataKey = newDataKey()
  t.equal(Buffer.compare(keyring.unwrap(ALICE, OBJECT, keyring.wrap(ALICE, OBJECT, dataKey)), dataKey), 0)
})

t.test('a file that is no keyring is refused and left as it is', async (t) => {
  const path = tempFile(t)
  for (const text of ['', '{}', 'x', '{"format":1,"active":1,"indexSecret":"short","versions":[]}']) {
    writeFileSync(path, text)
    t.match(failureOf(() => Keyring.load(path)), /^ERR_STORE_KEY .*keyring.json cannot be used/)
    t.equal(readFileSync(path, 'utf8'), text)
  }
  const { versions: [version = { version: 1, key: '' }], ...rest } = JSON.parse(encodeOf(t)) as { versions: { version: number; key: string }[] }
  writeFileSync(path, JSON.stringify({ ...rest, active: 2, versions: [version] }))
  t.match(failureOf(() => Keyring.load(path)), /^ERR_STORE_KEY/, 'an active version that is missing')
})

function encodeOf(test: { teardown(undo: () => void): unknown }): string {
  const path = tempFile(test)
  Keyring.load(path)
  return readFileSync(path, 'utf8')
}

t.test('a keyring is made once, for its owner only, and survives a restart and a rotation', async (t) => {
  const path = tempFile(t)
  const first = Keyring.load(path)
  t.equal(statSync(path).mode & 0o777, 0o600)
  const sealed = first.seal(ALICE, 'x', value)
  const name = first.contentName('', contentDigest(value))
  t.equal(first.rotate(), 2)
  const resealed = first.seal(ALICE, 'x', value)
  t.equal(statSync(path).mode & 0o777, 0o600)
  const second = Keyring.load(path)
  t.equal(second.activeVersion, 2)
  t.same([keyVersionOf(sealed), keyVersionOf(resealed)], [1, 2])
  for (const each of [sealed, resealed]) t.equal(Buffer.compare(second.open(ALICE, 'x', each), value), 0)
  t.equal(Buffer.compare(second.contentName('', contentDigest(value)), name), 0, 'the index stays')
  t.not(Buffer.compare(second.contentName(ALICE, contentDigest(value)), name), 0)
})

t.test('a policy refuses numbers of copies that make no sense, and salts that are not its own', async (t) => {
  for (const options of [{ by: 'user', copies: 0 }, { by: 'user', copies: 1001 }, { by: 'state', copies: 1.5 }, { by: 'epoch', copies: 3, epochMs: 0 }, { by: 'location', zones: [], zone: 'a' }, { by: 'location', zones: ['a'], zone: 'b' }, { by: 'chance', copies: 1 }]) {
    t.match(failureOf(() => new SaltPolicy(options as SaltOptions)), /^ERR_CONFIG/, JSON.stringify(options))
  }
  const policy = new SaltPolicy({ by: 'user', copies: 3 })
  for (const saltId of [-1, 3, 1.5, Number.NaN]) t.match(failureOf(() => policy.require(saltId)), /^ERR_STORE_SALT Salt .* is refused: this store makes 3 copies at most/)
  for (const saltId of [0, 1, 2]) t.equal(failureOf(() => policy.require(saltId)), 'none')
})

t.test('each policy draws from its N salts, by what it says', async (t) => {
  const question = (more: Partial<SaltQuestion> = {}): SaltQuestion => ({ account: ALICE, nowMs: 0, present: () => [], ...more })
  const accounts = Array.from({ length: 1000 }, (_each, index) => String(100_000_000_000 + index))
  const byUser = new SaltPolicy({ by: 'user', copies: 3 })
  t.same([...new Set(accounts.map((account) => byUser.choose(question({ account }))))].sort(), [0, 1, 2])
  t.equal(byUser.choose(question()), byUser.choose(question({ nowMs: 5, present: () => [0, 1] })), 'an account stays with its copy')
  const byEpoch = new SaltPolicy({ by: 'epoch', copies: 3, epochMs: 100 })
  t.same([0, 99, 100, 250, 300].map((nowMs) => byEpoch.choose(question({ nowMs }))), [0, 0, 1, 2, 0])
  t.same(['a', 'b'].map((zone) => new SaltPolicy({ by: 'location', zones: ['a', 'b'], zone }).choose(question())), [0, 1])
  const byState = new SaltPolicy({ by: 'state', copies: 3 })
  t.same([[], [0], [1], [0, 1], [0, 1, 7]].map((present) => byState.choose(question({ present: () => present }))), [0, 1, 0, 2, 2])
  t.same([...new Set(accounts.map((account) => byState.choose(question({ account, present: () => [0, 1, 2] }))))].sort(), [0, 1, 2], 'all there: spread')
  const single: SaltOptions[] = [{ by: 'user', copies: 1 }, { by: 'state', copies: 1 }, { by: 'epoch', copies: 1, epochMs: 1 }, { by: 'location', zones: ['a'], zone: 'a' }]
  for (const options of single) {
    t.equal(new SaltPolicy(options).choose(question({ nowMs: 12_345, present: () => [0] })), 0, `one copy, by ${options.by}: plain convergence`)
  }
})
