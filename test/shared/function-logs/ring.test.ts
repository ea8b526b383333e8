import t from 'tap'
import { ManualClock } from '../../../shared/clock.ts'
import { LogRing } from '../../../shared/function-logs/ring.ts'

function ring(more: { linesMax?: number; bytesMax?: number } = {}): { readonly ring: LogRing; readonly say: (text: string, functionName?: string, account?: string) => void } {
  const made = new LogRing({ sourceId: 'pop-1', clock: new ManualClock(), ...more })
  return { ring: made, say: (text, functionName = 'f', account = 'a') => made.add({ account, functionName, version: '$LATEST', requestId: 'r', level: 1, text }) }
}

t.test('lines and bytes are bounded, the oldest go first', async (t) => {
  const byLines = ring({ linesMax: 3 })
  for (let i = 0; i < 100; i += 1) byLines.say(String(i))
  t.same(byLines.ring.page('a', 'f', '').lines.map(({ text }) => text), ['97', '98', '99'])
  const byBytes = ring({ bytesMax: 10 })
  for (const text of ['12345', '67890', 'abcde']) byBytes.say(text)
  t.same(byBytes.ring.page('a', 'f', '').lines.map(({ text }) => text), ['67890', 'abcde'])
  byBytes.say('longer than all the room there is')
  t.equal(byBytes.ring.lineCount, 1, 'one line is always kept')
})

t.test('a function of the same name in another account is another function', async (t) => {
  const { ring: made, say } = ring()
  say('mine')
  say('theirs', 'f', 'b')
  say('other', 'g')
  t.same(made.page('a', 'f', '').lines.map(({ text }) => text), ['mine'])
})

t.test('a reader goes on where it was, also when what it has seen was dropped', async (t) => {
  const { ring: made, say } = ring({ linesMax: 2 })
  say('1')
  const first = made.page('a', 'f', '')
  t.same(made.page('a', 'f', first.token).lines, [])
  for (const text of ['2', '3', '4', '5', '6']) say(text)
  const second = made.page('a', 'f', first.token)
  t.same(second.lines.map(({ text }) => text), ['5', '6'])
  say('7')
  t.same(made.page('a', 'f', `region-9.77,${second.token}`).lines.map(({ text }) => text), ['7'])
})

t.test('tokens of another life, of nobody, and of the far future', async (t) => {
  const { ring: made, say } = ring()
  say('1')
  for (const token of ['pop-0.5', 'junk', ',,', 'xpop-1.5']) t.equal(made.page('a', 'f', token).lines.length, 1, token)
  t.same(made.page('a', 'f', 'pop-1.999999999999999').lines, [])
})

t.test('a page is bounded and its token leads to the rest', async (t) => {
  const { ring: made, say } = ring()
  for (let i = 0; i < 1500; i += 1) say(String(i))
  const first = made.page('a', 'f', '')
  t.equal(first.lines.length, 1000)
  t.equal(made.page('a', 'f', first.token).lines.at(-1)?.text, '1499')
})
