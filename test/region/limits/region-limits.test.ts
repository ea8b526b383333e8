// Which slots a POP may lease: those of what it may run.
import t from 'tap'
import { RegionLimits } from '../../../region/limits/region-limits.ts'
import { systemClock } from '../../../shared/clock.ts'
import type { GrantResult } from '../../../shared/concurrency/grant-protocol.ts'
import { EmbeddedCoordination } from '../../../shared/coordination/embedded.ts'
import { TopicTable } from '../../../shared/link/topics.ts'
import { silentLog } from '../../../shared/log.ts'
import { systemRandom } from '../../../shared/random.ts'

const A = '111111111111'

t.test('a POP leases no slots of a reserved function that was not granted to it', async (t) => {
  const coordination = EmbeddedCoordination.open({ path: t.testdir(), clock: systemClock })
  const limits = await RegionLimits.open({
    coordination, nodes: null, host: { stopRuns: () => 0 }, allows: (_pop, account, functionName) => account === A && functionName === 'mine',
    defaultConcurrency: 100, concurrencyOf: () => null, clock: systemClock, random: systemRandom, log: silentLog,
  })
  t.teardown(async () => {
    limits.close()
    await coordination.close()
  })
  await limits.book.reserve(A, 'mine', 5)
  await limits.book.reserve(A, 'other', 5)
  const topics = new TopicTable()
  limits.answer(topics)
  let number = 0
  const ask = async (functionName: string, pool: string | null): Promise<number> => {
    const question = { number: ++number, parts: [], inUse: 0, need: 1, spare: 0, leaseMs: 5_000 }
    const payload = { life: 1, items: [{ account: A, functionName, pool, revision: -1, question }] }
    const answer = (await topics.answer({ popId: 'pop', publicKey: '', role: 'pop' }, 'grant', payload)) as { readonly items: readonly GrantResult[] }
    return answer.items[0]?.answer?.parts.reduce((sum, { slots }) => sum + slots, 0) ?? 0
  }
  t.equal(await ask('mine', 'mine') > 0, true, 'its own')
  t.equal(await ask('other', 'other'), 0, 'not granted')
  t.equal(await ask('mine', 'other'), 0, 'not granted, in the name of one that is')
})
