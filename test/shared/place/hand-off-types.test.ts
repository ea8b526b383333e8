import t from 'tap'
import { parseHandOffAnswer, parseHandOffMessage } from '../../../shared/place/hand-off-types.ts'

t.test('what no member sends is no message', async (t) => {
  const take = { kind: 'take', key: 'k', keyKind: 'single', ring: 3, share: [0, 1] }
  t.same(parseHandOffMessage(take), take)
  for (const bad of [null, 'take', [], {}, { ...take, ring: -1 }, { ...take, ring: 1.5 }, { ...take, key: '' }, { ...take, key: 'k'.repeat(5000) }, { ...take, extra: 1 }, { ...take, kind: 'steal' }, { ...take, keyKind: 'any' }]) t.equal(parseHandOffMessage(bad), null)
})

t.test('nor an answer', async (t) => {
  const answer = { kind: 'state', ring: 3, items: [{ id: 'k', version: 1, give: 4, state: Buffer.from('x') }], busy: 0, elsewhere: ['m'] }
  t.same(parseHandOffAnswer(answer), answer)
  for (const bad of [undefined, { kind: 'state' }, { ...answer, busy: '1' }, { ...answer, items: [{ id: 'k' }] }, { ...answer, elsewhere: [1] }, { kind: 'noted' }]) t.equal(parseHandOffAnswer(bad), null)
})
