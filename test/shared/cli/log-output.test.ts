import t from 'tap'
import { renderLine } from '../../../shared/cli/dev-server.ts'
import { jsonLog, prettyLog, renderRecord } from '../../../shared/cli/log-output.ts'

const AT = new Date('2026-01-02T03:04:05.678Z')

t.test('a line that is no record keeps its words and gets the name of its process', async (t) => {
  for (const line of ['plain words', '{ not json', '{"level":"loud","message":"x"}', '{"level":"info"}', '[1]', 'null']) t.equal(renderLine(line, 'pop'), `pop: ${line}\n`)
})

t.test('a record becomes one short line; details for debugging are left out', async (t) => {
  const record = { level: 'warn', time: AT.toISOString(), tier: 'pop', component: 'link', message: 'closed', code: 'ERR_X', reason: 'two words', more: { a: 1 } }
  t.equal(renderLine(JSON.stringify(record), 'pop'), '03:04:05.678 pop.link  warn  closed code=ERR_X reason="two words" more="{\\"a\\":1}"\n')
  t.equal(renderLine(JSON.stringify({ ...record, component: 'pop' }), 'pop').slice(13, 16), 'pop')
  t.equal(renderLine(JSON.stringify({ ...record, level: 'debug' }), 'pop'), '')
  t.match(renderLine(JSON.stringify({ ...record, time: 'never' }), 'pop'), /^--:--:--\.--- pop\.link/)
})

t.test('what a function says is its own words under its own name', async (t) => {
  const record = { level: 'info', time: AT.toISOString(), tier: 'region', component: 'function', message: 'line', functionName: 'hello', version: '1', requestId: 'r', text: 'hi there' }
  t.equal(renderLine(JSON.stringify(record), 'region'), '03:04:05.678 hello  info  hi there\n')
})

t.test('JSON lines: one record a line with level, time, tier, component and fields', async (t) => {
  const lines: string[] = []
  const log = jsonLog({ write: (line) => void lines.push(line) }, 'pop')
  log.info('ready', { port: 1 })
  log.child('link').error('lost', { code: null })
  t.match(lines.map((line) => JSON.parse(line) as object), [
    { level: 'info', tier: 'pop', component: 'pop', message: 'ready', port: 1, time: /^\d{4}-.*Z$/ },
    { level: 'error', tier: 'pop', component: 'link', message: 'lost', code: null },
  ])
  t.ok(lines.every((line) => line.endsWith('\n') && line.split('\n').length === 2))
})

t.test('fields are set off so that a line can be read aloud and searched', async (t) => {
  t.equal(renderRecord(AT, 'info', 'pop', 'done', { count: 3, ok: true, none: null, path: '/a/b', text: 'a "b"' }), '03:04:05.678 pop  info  done count=3 ok=true none=null path=/a/b text="a \\"b\\""\n')
  const lines: string[] = []
  prettyLog((line) => void lines.push(line), 'dev').debug('hidden')
  t.same(lines, [])
})
