/**
 * Ring, hand-off and leases under faults, by seeds (see fleet.ts for what must hold); then the same with one rule broken on
 * purpose: a simulation that does not find that proves nothing.
 */
import t from 'tap'
import { ItemLedger } from '../../shared/place/item-ledger.ts'
import type { Item } from '../../shared/place/item-ledger.ts'
import { Fleet } from './fleet.ts'
import type { Fault } from './fleet.ts'
import { firstFailure, runSeeds } from './seeds.ts'

t.setTimeout(3_600_000)

/** T1: what is given stays too. */
class CopyingLedger extends ItemLedger {
  override give(item: Item, to: string, nowMs: number): number {
    const give = super.give(item, to, nowMs)
    item.hold = { kind: 'idle' }
    return give
  }
}

/** T3: given further before the giver knows. */
class HastyLedger extends ItemLedger {
  override mayGive(item: Item, to: string): boolean {
    return item.hold.kind === 'idle' || super.mayGive(item, to)
  }
}

/** T2: what a dead taker had is taken back, however old it is. */
class RevivingLedger extends ItemLedger {
  #confirming = false

  override taken(key: string, id: string, by: string, give: number): boolean {
    this.#confirming = true
    const taken = super.taken(key, id, by, give)
    this.#confirming = false
    return taken
  }

  override remove(item: Item): void {
    if (item.hold.kind === 'given' && !this.#confirming) item.hold = { kind: 'idle' }
    else super.remove(item)
  }
}

const BROKEN: Readonly<Record<string, { readonly fault: Fault; readonly found: RegExp }>> = {
  'a copy instead of a move': { fault: { ledger: () => new CopyingLedger() }, found: /is owned by/ },
  'given further before its giver knows': { fault: { ledger: () => new HastyLedger() }, found: /is owned by|goes on at|anew/ },
  'an old state taken back from the dead': { fault: { ledger: () => new RevivingLedger() }, found: /goes on at|is owned by/ },
  'no self-fencing': { fault: { leases: ({ isOver }) => ({ holds: () => true, isOver }) }, found: /is owned by|anew|goes on at/ },
  'who does not answer is taken for dead': { fault: { leases: ({ holds }) => ({ holds, isOver: () => true }) }, found: /is owned by|anew|goes on at/ },
  'who is not seen is taken for dead, without a mark': { fault: { leases: ({ holds }, client) => ({ holds, isOver: (id) => !client.alive().includes(id) }) }, found: /is owned by|anew|goes on at/ },
  'no version check': { fault: { alter: (message, own) => ({ ...message, ring: own }), alterAnswer: (answer, own) => (answer.kind === 'lost' ? answer : { ...answer, ring: own }) }, found: /is owned by|anew|goes on at/ },
  'never taken, says who may still take it': { fault: { alterAnswer: (answer) => (answer.kind === 'fate' ? { ...answer, fate: 'not' } : answer) }, found: /is owned by|goes on at/ },
  'busy or under way is said to be nothing': { fault: { alterAnswer: (answer) => (answer.kind === 'state' ? { ...answer, busy: 0, elsewhere: [] } : answer) }, found: /is owned by|anew/ },
  'the leader drops versions that state lies by': { fault: { dropsUnsettled: true }, found: /is owned by|anew|goes on at/ },
  'a double answer': { fault: { answersAgain: true }, found: /is answered 2 times/ },
  'a second attempt of what may have run': { fault: { retriesWhatRan: true }, found: /has run 2 times/ },
}

t.test('one owner, no state lost or doubled, every request answered once, all well again when faults end', async (t) => {
  t.ok(runSeeds((seed) => new Fleet(seed), 24, 20_000) >= 1)
})

t.test('a seed repeats itself to the last message', async (t) => {
  const [first, second] = [new Fleet(3), new Fleet(3)]
  first.run()
  second.run()
  t.same(first.counts, second.counts)
  t.same(first.world.trace, second.world.trace)
})

if (process.env.OUTPOST_SIM_SEED === undefined) {
  for (const [rule, { fault, found }] of Object.entries(BROKEN)) {
    t.test(`it is found: ${rule}`, async (t) => {
      const failure = firstFailure((seed) => new Fleet(seed, fault), found, 60)
      t.ok(failure !== null)
      t.comment(`seed ${failure?.seed ?? 'none'}: ${failure?.message ?? ''}`)
    })
  }
}
