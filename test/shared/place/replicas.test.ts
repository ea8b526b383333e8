import t from 'tap'
import type { BuildKey } from '../../../shared/brand.ts'
import type { FunctionVersions } from '../../../shared/link/types.ts'
import { ReplicaKnowledge } from '../../../shared/place/replicas.ts'
import { seededRandom } from '../../../shared/random.ts'

const A = 0
const B = 1

function versions(functionName: string, seq: number, builds = [`${functionName}@${seq}`]): FunctionVersions {
  return { account: 'a', functionName, seq, builds: builds as BuildKey[] }
}

const ref = (functionName: string): { account: string; functionName: string } => ({ account: 'a', functionName })
const two = (functionsMax = 100): ReplicaKnowledge => new ReplicaKnowledge({ regions: 2, functionsMax })
/** Whether a region may be asked for a function. */
const isCurrent = (knowledge: ReplicaKnowledge, region: number, name: string): boolean => knowledge.position(region) >= knowledge.required('a', name)

t.test('a region is behind until it tells of the change itself, or of a later one', async (t) => {
  const knowledge = two()
  knowledge.opened(A, 10, [], [])
  knowledge.opened(B, 10, [], [])
  t.ok(isCurrent(knowledge, A, 'f') && isCurrent(knowledge, B, 'f'))
  t.ok(knowledge.heard(A, versions('f', 11)))
  t.ok(isCurrent(knowledge, A, 'f'))
  t.notOk(isCurrent(knowledge, B, 'f'))
  t.ok(isCurrent(knowledge, B, 'g'), 'of another function it has the current version')
  t.ok(knowledge.heard(B, versions('g', 12)))
  t.ok(isCurrent(knowledge, B, 'f'), 'changes are applied in order')
})

t.test('of what happened while nobody listened, only a region that was there knows', async (t) => {
  const knowledge = two()
  knowledge.opened(A, 10, [], [])
  knowledge.opened(B, 7, [], [])
  t.notOk(isCurrent(knowledge, B, 'never-heard-of'))
  knowledge.heard(A, versions('f', 11))
  knowledge.opened(A, 20, [ref('g')], [versions('g', 3)])
  t.ok(isCurrent(knowledge, B, 'g'), 'this one was asked for')
  t.notOk(isCurrent(knowledge, B, 'f'), 'this one may have changed since')
  knowledge.reached(B, 20)
  t.ok(isCurrent(knowledge, B, 'f'))
})

t.test('what a region tells late changes nothing that is known better', async (t) => {
  const knowledge = two()
  knowledge.opened(A, 10, [], [])
  knowledge.heard(A, versions('f', 12))
  t.notOk(knowledge.heard(B, versions('f', 11)))
  t.ok(knowledge.heard(B, versions('f', 12)), 'the same again does no harm')
  t.ok(knowledge.described(A, 'a', 'g', 15))
  t.notOk(knowledge.heard(B, versions('g', 14)), 'it was described as of later')
  t.notOk(knowledge.described(B, 'a', 'f', 11))
})

t.test('a deletion counts whoever tells it; that a region does not have a function yet is none', async (t) => {
  const knowledge = two()
  knowledge.opened(A, 10, [], [])
  knowledge.heard(A, versions('f', 12))
  t.ok(knowledge.heard(B, versions('f', 11, [])))
  knowledge.described(A, 'a', 'new', 20)
  t.same(knowledge.opened(B, 15, [ref('new')], []), [], 'B is behind')
  t.match(knowledge.opened(B, 21, [ref('new'), ref('f')], [versions('f', 12)]), [{ functionName: 'f' }, { functionName: 'new', seq: 21, builds: [] }])
  t.match(knowledge.opened(A, 5, [ref('f')], [versions('f', 12, [])]), [{ functionName: 'f', builds: [] }], 'said in so many words it counts')
})

t.test('one region alone is believed whatever it says', async (t) => {
  const knowledge = new ReplicaKnowledge({ regions: 1, functionsMax: 100 })
  knowledge.opened(A, 10, [], [])
  knowledge.heard(A, versions('f', 12))
  t.ok(knowledge.heard(A, versions('f', 2)))
  t.match(knowledge.opened(A, 1, [ref('f')], []), [{ functionName: 'f', builds: [] }])
  t.equal(knowledge.position(A), 1, 'its disk was lost')
})

t.test('what is forgotten is taken for as new as it was', async (t) => {
  const knowledge = two(2)
  knowledge.opened(A, 1, [], [])
  knowledge.opened(B, 1, [], [])
  for (const [index, name] of ['f', 'g', 'h'].entries()) knowledge.heard(A, versions(name, 10 + index))
  t.equal(knowledge.size, 2)
  t.notOk(isCurrent(knowledge, B, 'f'))
  knowledge.reached(B, 10)
  t.ok(isCurrent(knowledge, B, 'f'))
  t.notOk(isCurrent(knowledge, B, 'g'))
})

t.test('who executed a function, and when', async (t) => {
  const knowledge = two()
  t.equal(knowledge.executedAtMs(A, 'a', 'f'), -Infinity)
  knowledge.executed(A, 'a', 'f', 5)
  t.equal(knowledge.executedAtMs(A, 'a', 'f'), 5)
  t.equal(knowledge.executedAtMs(B, 'a', 'f'), -Infinity)
})

/** A registry, regions that apply its changes late and in order, links that break: a region that lacks a change is never taken for current. */
t.test('under random delays and broken links no region that lacks the current version is ever eligible', async (t) => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = seededRandom(seed)
    const changes: FunctionVersions[] = []
    const names = ['f', 'g', 'h', 'i', 'j']
    const regions = [0, 1, 2].map(() => ({ applied: 0, open: false }))
    const knowledge = new ReplicaKnowledge({ regions: 3, functionsMax: 3 })
    const held = new Set<string>()
    const latest = (name: string, applied: number): FunctionVersions | undefined => changes.slice(0, applied).findLast((change) => change.functionName === name)
    let everHeard = 0
    for (let step = 0; step < 300; step++) {
      const index = Math.floor(random.next() * 3)
      const region = regions[index] ?? { applied: 0, open: false }
      const dice = random.next()
      if (dice < 0.2) changes.push(versions(names[Math.floor(random.next() * 5)] ?? 'f', changes.length + 1))
      else if (dice < 0.7 && region.applied < changes.length) {
        region.applied++
        const change = changes[region.applied - 1]
        if (region.open && change !== undefined) {
          everHeard = Math.max(everHeard, change.seq)
          if (knowledge.heard(index, change)) held.add(change.functionName)
        }
      } else if (dice < 0.8) region.open = false
      else if (!region.open) {
        region.open = true
        everHeard = Math.max(everHeard, region.applied)
        const asked = [...held].map(ref)
        knowledge.opened(index, region.applied, asked, asked.flatMap(({ functionName }) => latest(functionName, region.applied) ?? []))
      }
      // The current version, as far as any region has told this POP or could have: what was applied where it listened.
      for (const name of names) {
        const current = latest(name, everHeard)?.seq ?? 0
        regions.forEach(({ applied, open }, at) => {
          if (open && isCurrent(knowledge, at, name) && applied < current) t.fail(`seed ${seed} step ${step}: region ${at} at ${applied} is taken for current of ${name}, which changed at ${current}`)
        })
      }
    }
  }
  t.pass('all seeds')
})
