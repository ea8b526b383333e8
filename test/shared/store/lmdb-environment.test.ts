import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { LmdbEnvironment } from '../../../shared/store/lmdb-environment.ts'
import { codeOf, failureOf, tempFolder } from './store-fixtures.ts'

t.test('a folder that cannot be used is a coded error', async (t) => {
  const path = join(tempFolder(t), 'file')
  writeFileSync(path, 'x')
  t.match(failureOf(() => LmdbEnvironment.open({ path })), /^ERR_STORE_FAILED The store failed: cannot open/)
})

t.test('a write that throws half way leaves nothing behind', async (t) => {
  const environment = LmdbEnvironment.open({ path: tempFolder(t), diskReserveBytes: 0 })
  t.teardown(() => environment.close())
  const table = environment.table<string>('probe', 'ordered')
  t.equal(await codeOf(() => environment.write({ kind: 'removes' }, () => {
    void table.put('a', Buffer.from('1'))
    throw new Error('half way')
  })), 'ERR_STORE_FAILED')
  await environment.write({ kind: 'removes' }, () => void table.put('b', Buffer.from('2')))
  t.same([...table.getKeys()], ['b'])
})

t.test('a growing write leaves the reserve of the disk alone, a removal may use it', async (t) => {
  const environment = LmdbEnvironment.open({ path: tempFolder(t), diskReserveBytes: Number.MAX_SAFE_INTEGER })
  t.teardown(() => environment.close())
  const table = environment.table<string>('probe', 'ordered')
  t.equal(await codeOf(() => environment.write({ kind: 'adds', bytes: 1 }, () => void table.put('a', Buffer.from('1')))), 'ERR_STORE_FULL')
  t.equal(await codeOf(() => environment.write({ kind: 'removes' }, () => void table.put('b', Buffer.from('2')))), 'none')
  t.same([...table.getKeys()], ['b'])
})
