import t from 'tap'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { lockDataDir } from '../../../shared/cli/data-lock.ts'

t.test('a directory that another living process holds is refused with its id', async (t) => {
  const dir = t.testdir({ 'outpost.pid': String(process.ppid) })
  t.throws(() => lockDataDir(dir), { code: 'ERR_DATA_LOCKED', params: [dir, process.ppid] })
})

t.test('the lock of a process that is gone is taken over, and one that makes no sense too', async (t) => {
  for (const content of ['2147483646', 'junk', '']) {
    const dir = t.testdir({ 'outpost.pid': content })
    lockDataDir(dir)()
    t.notOk(existsSync(join(dir, 'outpost.pid')))
  }
})

t.test('a path that cannot be a directory says to give another', async (t) => {
  const dir = t.testdir({})
  writeFileSync(join(dir, 'file'), '')
  t.throws(() => lockDataDir(join(dir, 'file/sub')), { code: 'ERR_ENVIRONMENT', message: /--data/ })
})

t.test('the directory is made, and free again after unlock', async (t) => {
  const dir = join(t.testdir({}), 'a/b')
  const unlock = lockDataDir(dir)
  t.ok(existsSync(join(dir, 'outpost.pid')))
  unlock()
  t.notOk(existsSync(join(dir, 'outpost.pid')))
})
