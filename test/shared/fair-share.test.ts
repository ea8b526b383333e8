/** Nobody leaves nothing to the others. */
import t from 'tap'
import { FairShare } from '../../shared/fair-share.ts'

/** Takes as much as it gets, piece by piece. */
function drain(share: FairShare, owner: string, piece: number): number {
  let taken = 0
  while (share.take(owner, piece)) taken += piece
  return taken
}

t.test('one owner gets half, and each that comes after it half of what is left', (t) => {
  const share = new FairShare(1_000)
  t.equal(drain(share, 'a', 1), 500)
  t.notOk(share.take('a', 1))
  t.ok(share.isExhausted('a'))
  t.notOk(share.isExhausted('b'))
  t.equal(drain(share, 'b', 1), 250)
  t.equal(drain(share, 'c', 1), 125)
  t.equal(share.used, 875)
  t.end()
})

t.test('n owners that draw by turns have 1/(n + 1) each, and as much is left', (t) => {
  for (const owners of [1, 2, 3, 9]) {
    const share = new FairShare(10_000)
    const names = Array.from({ length: owners }, (_, index) => String(index))
    const taken = new Map(names.map((name) => [name, 0]))
    for (let more = true; more;) {
      more = false
      for (const name of names) {
        if (!share.take(name, 1)) continue
        taken.set(name, (taken.get(name) ?? 0) + 1)
        more = true
      }
    }
    for (const [name, amount] of taken) t.ok(Math.abs(amount - 10_000 / (owners + 1)) <= owners, `${owners} owners, ${name}: ${amount}`)
  }
  t.end()
})

t.test('what is given back can be taken again; what is there is counted though it is too much', (t) => {
  const share = new FairShare(100)
  t.ok(share.take('a', 50))
  share.add('a', -20)
  t.ok(share.take('a', 20))
  share.add('b', 60)
  t.equal(share.used, 110)
  t.notOk(share.take('c', 1))
  t.ok(share.take('c', 0), 'nothing is always there')
  share.add('b', -60)
  share.add('a', -50)
  t.equal(share.used, 0)
  t.equal(drain(share, 'a', 1), 50)
  t.end()
})
