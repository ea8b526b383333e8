import t from 'tap'
import { toCodedError } from '../../../shared/errors.ts'
import { MemoryCoordination } from '../../support/memory-coordination.ts'
import { openFrame, RecordingSink, until } from '../link/harness.ts'
import { startMember, untilLinked } from './harness.ts'

async function refusal(asked: Promise<unknown>): Promise<string> {
  return asked.then(() => 'answered', (error: unknown) => toCodedError(error).code)
}

t.test('members find each other, ask each other and run for each other', async (t) => {
  const coordination = new MemoryCoordination()
  const a = await startMember(t, coordination, 'a')
  const b = await startMember(t, coordination, 'b')
  await untilLinked(a, b)
  a.peers.handle('who', (from, payload) => ['a', from, payload])
  b.peers.handle('who', (from, payload) => ['b', from, payload])
  t.same(await a.peers.ask('b', 'who', { x: 1 }, 1_000), ['b', 'a', { x: 1 }])
  t.same(await b.peers.ask('a', 'who', null, 1_000), ['a', 'b', null])
  const sink = new RecordingSink()
  a.peers.open('b', openFrame({ body: Buffer.from('hello'), hops: 2 }), sink)
  t.equal((await sink.whenOver()).bytes.toString(), 'hello')
  t.match(a.peers.members(), [{ memberId: 'b', info: { capacity: 4, state: 'serving' } }])
  t.equal(await refusal(a.peers.ask('b', 'nothing', null, 1_000)), 'ERR_LINK_TOPIC')
})

t.test('what a member says of itself reaches the others; one that leaves is asked nothing more', async (t) => {
  const coordination = new MemoryCoordination()
  const a = await startMember(t, coordination, 'a')
  const b = await startMember(t, coordination, 'b')
  await untilLinked(a, b)
  let changes = 0
  a.peers.onChange(() => (changes += 1))
  await b.group.say({ state: 'draining' })
  await until(() => a.peers.member('b')?.info.state === 'draining')
  t.ok(changes > 0)
  const held = new RecordingSink()
  a.peers.open('b', openFrame({ functionName: 'held', hops: 2 }), held)
  await until(() => b.handler.runs.length === 1)
  await b.group.leave()
  await until(() => a.peers.members().length === 0)
  t.equal(await refusal(a.peers.ask('b', 'who', null, 1_000)), 'ERR_PEER_UNREACHABLE')
  const late = new RecordingSink()
  a.peers.open('b', openFrame({ hops: 2 }), late)
  t.equal((await late.whenOver()).errorCode, 'ERR_PEER_UNREACHABLE')
  const run = b.handler.held()
  run.answer.head(200, '', 'warm', '1', Buffer.from('end'), true)
  run.writeEnd()
  run.answer.end(null, null)
  t.equal((await held.whenOver()).kinds, 'head bodyEnd end', 'what it runs for us may finish')
})

t.test('a dead member is an error at once, an answer that does not come one in time, and what it ran may have run', async (t) => {
  const coordination = new MemoryCoordination()
  const a = await startMember(t, coordination, 'a')
  const b = await startMember(t, coordination, 'b')
  await untilLinked(a, b)
  b.peers.handle('silent', () => new Promise(() => undefined))
  const startedAtMs = performance.now()
  t.equal(await refusal(a.peers.ask('b', 'silent', null, 50)), 'ERR_PEER_LOST')
  t.ok(performance.now() - startedAtMs < 1_000, 'the time given is the time taken')
  const held = new RecordingSink()
  a.peers.open('b', openFrame({ functionName: 'held', hops: 2 }), held)
  await until(() => b.handler.runs.length === 1)
  b.kill()
  t.equal((await held.whenOver()).errorCode, 'ERR_PEER_LOST')
  await until(() => !a.peers.reachable('b'))
  t.equal(await refusal(a.peers.ask('b', 'silent', null, 5_000)), 'ERR_PEER_UNREACHABLE')
})

t.test('a member that is silent to an invocation counts as out of reach until it says anything', async (t) => {
  const coordination = new MemoryCoordination()
  const a = await startMember(t, coordination, 'a')
  const b = await startMember(t, coordination, 'b')
  await untilLinked(a, b)
  // What stands still answers nothing, not even whether it is alive.
  b.handler.ask = () => new Promise(() => undefined)
  const held = new RecordingSink()
  a.peers.open('b', openFrame({ functionName: 'held', hops: 2 }), held)
  t.ok(a.peers.reachable('b'), 'not yet')
  await until(() => !a.peers.reachable('b'), 'silence')
  b.handler.held().answer.started()
  await until(() => a.peers.reachable('b'), 'it spoke')
  b.handler.ask = (peer, topic, payload) => b.handler.topics.answer(peer, topic, payload)
  const second = new RecordingSink()
  a.peers.open('b', openFrame({ functionName: 'held', hops: 2 }), second)
  const untilMs = performance.now() + 1_000
  let always = true
  await until(() => {
    always &&= a.peers.reachable('b')
    return performance.now() > untilMs
  })
  t.ok(always, 'a slow run is no silence')
})

t.test('hostile: another token, a name that the group does not know, the name of the member itself, an address that is another member now', async (t) => {
  const coordination = new MemoryCoordination()
  const a = await startMember(t, coordination, 'a')
  const stranger = await startMember(t, new MemoryCoordination(), 'stranger')
  stranger.peers.update([{ memberId: 'a', info: a.group.info }])
  await until(() => a.logged.lines.some(({ fields }) => fields.reason === 'stranger is no member of this group'))
  const wrong = await startMember(t, coordination, 'wrong', { token: 'guess' })
  await until(() => a.logged.lines.some(({ fields }) => fields.popId === 'wrong' && fields.reason === 'wrong token'))
  t.notOk(wrong.peers.reachable('a'))
  const twin = await startMember(t, new MemoryCoordination(), 'a')
  twin.peers.update([{ memberId: 'b', info: a.group.info }])
  await until(() => a.logged.lines.some(({ fields }) => fields.reason === "a is this member's own name"))
  const liar = await startMember(t, coordination, 'liar', { info: { address: a.address } })
  const c = await startMember(t, coordination, 'c')
  await until(() => c.logged.lines.some(({ fields }) => fields.reason === 'a answers where liar should be'))
  t.notOk(c.peers.reachable('liar'))
  t.ok(liar.peers.members().length > 0)
})

t.test('members whose word makes no sense, or of another protocol, are no peers', async (t) => {
  const coordination = new MemoryCoordination()
  const members = await coordination.members('region/test')
  await members.join('nonsense', { address: 'http://127.0.0.1/', capacity: -1 })
  await members.join('no name/at all', { address: '127.0.0.1:1', capacity: 1, fingerprint: null, protocol: 3, state: 'serving', ring: 0, held: [], mark: 0 })
  const old = await startMember(t, coordination, 'old', { info: { protocol: 2 } })
  const a = await startMember(t, coordination, 'a')
  await until(() => a.peers.members().length > 0)
  t.same(a.peers.members().map(({ memberId }) => memberId), ['old'])
  t.equal(await refusal(a.peers.ask('old', 'who', null, 1_000)), 'ERR_PEER_UNREACHABLE')
  t.equal(a.peers.linkCount, 0)
  await untilLinked(old)
})

t.test('links are bounded: the one unused for longest makes room', async (t) => {
  const coordination = new MemoryCoordination()
  const others = [await startMember(t, coordination, 'b'), await startMember(t, coordination, 'c'), await startMember(t, coordination, 'd')]
  for (const other of others) other.peers.handle('who', () => other.peers.self)
  const a = await startMember(t, coordination, 'a', { linksMax: 2 })
  await until(() => a.peers.members().length === 3)
  for (const name of ['b', 'c', 'd', 'b', 'd']) {
    t.equal(await a.peers.ask(name, 'who', null, 5_000), name)
    t.equal(a.peers.linkCount, 2)
  }
})

t.test('a lost lease is another life: links in the old name end, and the member comes back under a new one', async (t) => {
  const coordination = new MemoryCoordination()
  const a = await startMember(t, coordination, 'a')
  const b = await startMember(t, coordination, 'b', { names: ['b2'] })
  await untilLinked(a, b)
  b.peers.handle('who', (from) => from)
  t.ok(b.group.holds())
  await b.group.say({ capacity: 9 })
  const members = await coordination.members('region/test')
  members.expire('b')
  await until(() => b.peers.self === 'b2')
  t.same(b.lost, ['b'])
  await untilLinked(a, b)
  t.match(a.peers.members(), [{ memberId: 'b2', info: { capacity: 9 } }], 'it says again what it said last')
  t.equal(await a.peers.ask('b2', 'who', null, 1_000), 'a')
})
