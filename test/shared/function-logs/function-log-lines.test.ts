import t from 'tap'
import { ManualClock } from '../../../shared/clock.ts'
import { CodedError } from '../../../shared/errors.ts'
import { FunctionLogLines } from '../../../shared/function-logs/function-log-lines.ts'
import type { ControlCall, ControlReply, Dispatcher } from '../../../shared/http/types.ts'
import { createLog, silentLog } from '../../../shared/log.ts'

interface Page {
  readonly Events: readonly { readonly Message: string; readonly Place: string; readonly Level: string }[]
  readonly NextToken: string
}

const clock = new ManualClock()
const call = (rawPath: string, method = 'GET'): ControlCall => ({ requestId: 'r-1', method, rawPath, headers: '', body: new Uint8Array(0), clientIp: '127.0.0.1' })
const json = (reply: ControlReply): Page => JSON.parse(Buffer.from(reply.body).toString()) as Page

function dispatcher(control: (call: ControlCall) => ControlReply): Dispatcher {
  return { invoke: () => { throw new Error('not called') }, control: (each) => Promise.resolve(control(each)), readiness: () => ({ ready: true, checks: {} }) }
}

function lines(tier: 'pop' | 'region'): FunctionLogLines {
  return new FunctionLogLines({ tier, clock, log: silentLog })
}

function say(to: FunctionLogLines, text: string, level = 1): void {
  to.add({ account: 'a', functionName: 'hello', version: '1', requestId: 'q', level, text })
  clock.advance(1)
}

const nothing = dispatcher(() => ({ status: 418, headers: '', body: new Uint8Array(0) }))

t.test('a region refuses whoever it does not know, and functions that are not there', async (t) => {
  const refusing = lines('region').atRegion(nothing, { authenticate: () => { throw new CodedError('ERR_SIGNATURE_MISSING') }, exists: () => true })
  t.equal((await refusing.control(call('/2015-03-31/functions/hello/logs'))).status, 403)
  const knowing = lines('region').atRegion(nothing, { authenticate: () => 'a', exists: (_account, name) => name === 'hello' })
  t.equal((await knowing.control(call('/2015-03-31/functions/other/logs'))).status, 404)
  t.equal((await knowing.control(call('/2015-03-31/functions/%E0%A4%A/logs'))).status, 400)
  t.equal((await knowing.control(call('/2015-03-31/functions/no%20name/logs'))).status, 400)
  t.equal((await knowing.control(call('/2015-03-31/functions/hello/logs', 'POST'))).status, 418, 'any other call goes on')
})

t.test('a POP adds its lines only to what the region has allowed', async (t) => {
  const pop = lines('pop')
  say(pop, 'secret of a')
  const refused: ControlReply = { status: 403, headers: '', body: Buffer.from('{}') }
  t.equal(await pop.atPop(dispatcher(() => refused)).control(call('/2015-03-31/functions/hello/logs')), refused)
  const odd: ControlReply = { status: 200, headers: '', body: Buffer.from('<html>') }
  t.equal(await pop.atPop(dispatcher(() => odd)).control(call('/2015-03-31/functions/hello/logs')), odd)
})

t.test('lines of POP and region come as one, in order of time, and go on from both', async (t) => {
  const region = lines('region')
  const pop = lines('pop')
  const both = pop.atPop(region.atRegion(nothing, { authenticate: () => 'a', exists: () => true }))
  say(region, 'one')
  say(pop, 'two', 3)
  say(region, 'three')
  const first = json(await both.control(call('/2015-03-31/functions/hello/logs')))
  t.same(first.Events.map(({ Message, Place, Level }) => [Message, Place, Level]), [['one', 'region', 'info'], ['two', 'pop', 'error'], ['three', 'region', 'info']])
  say(pop, 'four')
  const second = json(await both.control(call(`/2015-03-31/functions/hello/logs?NextToken=${encodeURIComponent(first.NextToken)}`)))
  t.same(second.Events.map(({ Message }) => Message), ['four'])
})

t.test("each line is one record of the process's log, at its own level", async (t) => {
  const records: unknown[] = []
  const made = new FunctionLogLines({ tier: 'pop', clock, log: createLog((...record) => void records.push(record)) })
  for (const level of [0, 1, 2, 3]) say(made, `level ${level}`, level)
  t.match(records, [['info', 'function', 'line', { text: 'level 0' }], ['info', 'function', 'line', {}], ['warn', 'function', 'line', {}], ['error', 'function', 'line', { functionName: 'hello', requestId: 'q', version: '1' }]])
})
