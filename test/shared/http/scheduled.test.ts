import t from 'tap'
import { CodedError } from '../../../shared/errors.ts'
import { LOCAL, OK, openDoor } from './harness.ts'

const get = (path: string, host = 'localhost'): string => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`
const FAILED = { ...OK, outcome: 'exception', error: { code: 'ERR_FUNCTION_EXCEPTION', params: ['boom'] } } as const

t.test('a front door in production has no such path: the function gets the request', async (t) => {
  const { ask, dispatcher } = await openDoor(t)
  dispatcher.onInvoke = (run) => run.reply(run.call.invocationKind)
  t.equal((await ask(get('/fn/f/__scheduled'))).body, 'http')
  t.equal((await ask(get('/fn/f/cdn-cgi/handler/scheduled'))).body, 'http')
})

t.test('a foreign host name and a time that is none are refused before anything runs', async (t) => {
  const { ask, dispatcher } = await openDoor(t, { mode: 'dev' })
  t.match(await ask(get('/fn/f/__scheduled', 'evil.example')), { status: 403, body: /ERR_HOST_FORBIDDEN/ })
  for (const time of ['x', '', '1.5', '1e300']) t.equal((await ask(get(`/fn/f/cdn-cgi/handler/scheduled?time=${time}`))).status, 400, time)
  t.equal(dispatcher.runs.length, 0)
})

t.test('cron and time go to the function, and the outcome comes back as wrangler says it', async (t) => {
  const { ask, dispatcher } = await openDoor(t, { mode: 'dev' })
  let outcome: 'ok' | 'exception' = 'ok'
  dispatcher.onInvoke = ({ sink }) => {
    if (outcome === 'ok') sink.head(200, 'content-type\napplication/json', LOCAL, Buffer.from('{"noRetry":true}'), true)
    sink.end(outcome === 'ok' ? OK : FAILED, LOCAL)
  }
  for (const path of ['handler', 'mf', 'local']) t.match(await ask(get(`/fn/f/cdn-cgi/${path}/scheduled?cron=*+*+*+*+*&time=1700000000000`)), { status: 200, body: 'ok' })
  t.match(dispatcher.runs[0]?.call, { invocationKind: 'event', functionName: 'f', qualifier: null, selection: '{"entrypoint":null,"handler":"scheduled","props":null}' })
  t.equal(dispatcher.runs[0]?.bodyText(), '{"cron":"* * * * *","scheduledTime":1700000000000}')
  t.match(await ask(get('/cdn-cgi/handler/scheduled?format=json', 'f.localhost')), { status: 200, body: '{"outcome":"ok","noRetry":true}' })
  t.match(await ask(get('/fn/f:3/__scheduled?cron=1+2+3+4+5')), { status: 200, body: 'Ran scheduled event' })
  t.equal(dispatcher.runs.at(-1)?.call.qualifier, '3')
  outcome = 'exception'
  t.match(await ask(get('/fn/f/cdn-cgi/handler/scheduled')), { status: 500, body: 'exception' })
  t.match(await ask(get('/fn/f/cdn-cgi/handler/scheduled?format=json')), { status: 500, body: '{"outcome":"exception","noRetry":false}' })
  t.match(await ask(get('/fn/f/__scheduled')), { status: 500, body: 'exception' })
  dispatcher.onInvoke = ({ sink }) => sink.fail(new CodedError('ERR_NO_CAPACITY', [1]), null)
  t.equal((await ask(get('/fn/f/__scheduled'))).status, 503)
})
