import t from 'tap'
import { PeerView } from '../../../shared/place/lease.ts'

const alive = (...ids: string[]): ReadonlySet<string> => new Set(ids)

t.test('who is shown is not over, and who is absent only when our own mark has come back', async (t) => {
  const view = new PeerView()
  view.shown(alive('me', 'a'), 0)
  t.equal(view.isOver('a'), false)
  t.equal(view.mark, 0)
  view.shown(alive('me'), 0)
  t.equal(view.isOver('a'), false)
  t.equal(view.mark, 1, 'doubt asks for a mark')
  view.shown(alive('me'), 0)
  t.equal(view.isOver('a'), false, 'a list from before the mark proves nothing')
  view.shown(alive('me'), 1)
  t.equal(view.isOver('a'), true)
  t.equal(view.mark, 1)
})

t.test('a stalled watch makes nobody dead', async (t) => {
  const view = new PeerView()
  view.shown(alive('me', 'a'), 0)
  // The driver's own timers have run out for everybody, itself included.
  view.shown(alive(), -1)
  t.equal(view.isOver('a'), false)
  view.shown(alive(), -1)
  t.equal(view.isOver('a'), false)
  view.shown(alive('me', 'a'), 1)
  t.equal(view.isOver('a'), false)
  view.shown(alive('me'), 1)
  t.equal(view.isOver('a'), false, 'an old mark does not serve a new doubt')
  t.equal(view.mark, 2)
})

t.test('one that was never seen is doubted too', async (t) => {
  const view = new PeerView()
  t.equal(view.isOver('ghost'), false)
  view.shown(alive('me'), 1)
  t.equal(view.isOver('ghost'), true)
  view.keepOnly(alive())
  t.equal(view.isOver('ghost'), false, 'forgotten')
})
