import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { systemClock } from '../../../shared/clock.ts'
import { EmbeddedCoordination } from '../../../shared/coordination/embedded.ts'
import { eventually } from '../../support/dev-server.ts'
import { bytes, coordinationSuite, watchAll } from './suite.ts'

const WRITER = fileURLToPath(new URL('../../fixtures/coordination-writer.ts', import.meta.url))

function tempDir(): string {
  const path = mkdtempSync(join(tmpdir(), 'outpost-coordination-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

void t.test('the suite', async (t) => {
  const path = tempDir()
  coordinationSuite(t, { open: (clock) => Promise.resolve(EmbeddedCoordination.open({ path, clock })) })
})

void t.test('what was written is there after a restart, and a watch goes on', async (t) => {
  const path = tempDir()
  const before = EmbeddedCoordination.open({ path, clock: systemClock })
  const documents = await before.documents('things')
  const a = await documents.update('a', bytes('1'), 0)
  const b = await documents.update('b', bytes('1'), 0)
  await before.close()
  const after = EmbeddedCoordination.open({ path, clock: systemClock })
  t.teardown(() => after.close())
  const told = watchAll(await after.documents('things'), a)
  await eventually(() => Promise.resolve(told.events.join()), (events) => events === `b=1@${b},current`)
  t.pass()
})

void t.test('a folder that cannot be used is said to be', async (t) => {
  t.throws(() => EmbeddedCoordination.open({ path: '/dev/null/none', clock: systemClock }), { code: 'ERR_STORE_FAILED' })
})

void t.test('another process writes beside this one, is heard of, and may be killed at it', async (t) => {
  const path = tempDir()
  const here = EmbeddedCoordination.open({ path, clock: systemClock })
  t.teardown(() => here.close())
  const documents = await here.documents('things')
  const told = watchAll(documents)
  await eventually(() => Promise.resolve(told.events.length), (count) => count === 1)
  for (let round = 0; round < 3; round += 1) {
    const writer = fork(WRITER, [path, `key${round}`], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    const acknowledged = new Map<string, number>()
    writer.on('message', ({ key, revision }: { key: string; revision: number }) => acknowledged.set(key, revision))
    // This process writes all the while.
    let revision = (await documents.get('own'))?.revision ?? 0
    while (acknowledged.size < 10) revision = await documents.update('own', bytes(String(revision)), revision)
    writer.kill('SIGKILL')
    await once(writer, 'exit')
    await documents.update('own', bytes('after the kill'), revision)
    for (const [key, at] of acknowledged) {
      t.equal((await documents.get(key))?.revision, at, `${key} is there as acknowledged`)
      await eventually(() => Promise.resolve(told.events.some((event) => event.startsWith(`${key}=`) && event.endsWith(`@${at}`))), Boolean)
    }
  }
  const revisions = told.events.slice(1).map((event) => Number(event.split('@')[1]))
  t.same(revisions, [...revisions].sort((one, two) => one - two), 'told in order')
})
