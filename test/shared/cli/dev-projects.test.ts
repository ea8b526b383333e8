/** `outpost dev` with several projects that are bound to one another: real processes. */
import t from 'tap'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runProcess } from '../../support/cli.ts'
import { eventually, startDev, text } from '../../support/dev-server.ts'

t.setTimeout(120_000)

t.test('folders that cannot be served together are told before anything starts', async (t) => {
  const dir = t.testdir({ one: { 'outpost.jsonc': '{ "name": "same", "main": "a.js" }', 'a.js': '' }, two: { 'same.js': 'export default {}' } })
  t.match(await runProcess(['dev', join(dir, 'one'), join(dir, 'two'), '--port', '0']), { code: 1, err: /ERR_CONFIG: .*one and .*two both have a function same/ })
  t.match(await runProcess(['dev', join(dir, 'one'), '-e', 'staging', '--port', '0']), { code: 1, err: /ERR_CONFIG: .*there is no env\.staging/ })
})

t.test('a project of ours calls one of wrangler\'s, with variables, secrets and rules of each; edits count', async (t) => {
  const dir = t.testdir({
    front: {
      'outpost.jsonc': '{ "name": "front", "main": "front.js", "vars": { "LIST": [1, { "a": true }], "WORD": "file", "KEY": "file" }, "services": [{ "binding": "BACK", "service": "back", "props": { "from": "front" } }, { "binding": "GONE", "service": "gone" }], "rules": [{ "type": "Text", "globs": ["*.md"] }] }',
      'front.js': 'import page from "./page.md"; export default { async fetch(request, env) { const back = await env.BACK.fetch(new Request("http://back/", request)); return Response.json({ page, list: env.LIST, word: env.WORD, key: env.KEY, back: await back.json() }) } }',
      'page.md': '# page', '.dev.vars': 'KEY=hidden-from-images\n',
    },
    back: { 'wrangler.toml': 'name = "back"\nmain = "src/back.ts"\n[dev]\nport = 0\n[vars]\nSIDE = "back"\n', src: { 'back.ts': 'export default { fetch: (request: Request, env: any, ctx: any) => Response.json({ side: env.SIDE, props: ctx.props, method: request.method }) }' } },
    data: {},
  })
  mkdirSync(join(dir, 'data'), { recursive: true })
  const dev = await startDev(t, join(dir, 'front'), { data: join(dir, 'data'), argv: [join(dir, 'back'), '--var', 'WORD:line'] })
  t.same(dev.functions.map(({ name }) => name), ['back', 'front'])
  t.match(dev.err(), /warning: a service binding is of gone, which is not deployed here/)
  t.notMatch(dev.err(), /of back, which is not deployed/)
  const front = async (): Promise<unknown> => JSON.parse(await text(`${dev.url}/fn/front/`, { method: 'POST', body: 'x' }))
  t.same(await front(), { page: '# page', list: [1, { a: true }], word: 'line', key: 'hidden-from-images', back: { side: 'back', props: { from: 'front' }, method: 'POST' } })
  writeFileSync(join(dir, 'front/page.md'), '# edited')
  writeFileSync(join(dir, 'back/wrangler.toml'), 'name = "back"\nmain = "src/back.ts"\n[vars]\nSIDE = "other"\n')
  await eventually(front, (answer) => JSON.stringify(answer).includes('# edited') && JSON.stringify(answer).includes('"side":"other"'))
})
