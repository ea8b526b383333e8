import t from 'tap'
import { join } from 'node:path'
import { readFolder } from '../../../shared/cli/function-folder.ts'
import { readProject, stripJsonComments } from '../../../shared/cli/project-config.ts'

t.test('a configuration that cannot be used names file and member', async (t) => {
  const broken = t.testdir({ 'outpost.json': '{ "main": ' })
  t.throws(() => readProject(broken), { code: 'ERR_CONFIG', message: /outpost\.json: / })
  const unknown = t.testdir({ 'outpost.json': '{ "main": "a.js", "mian": 1 }', 'a.js': '' })
  t.throws(() => readProject(unknown), { code: 'ERR_CONFIG', message: /mian/ })
  const typed = t.testdir({ 'wrangler.jsonc': '{ "main": "a.js", "limits": { "cpu_ms": "50" } }', 'a.js': '' })
  t.throws(() => readProject(typed), { code: 'ERR_CONFIG', message: /wrangler\.jsonc: limits\.cpu_ms: / })
  const missing = t.testdir({ 'package.json': '{ "main": "gone.js" }' })
  t.throws(() => readProject(missing), { code: 'ERR_CONFIG', message: /package\.json: main names gone\.js/ })
})

t.test('outpost.json gives all settings', async (t) => {
  const dir = t.testdir({
    'outpost.json': '{ "name": "api", "main": "a.js", "vars": {"A":"1"}, "limits": {"cpu_ms": 5, "subrequests": 2}, "timeout_s": 3, "memory_mib": 64, "prime": false, "routes": ["x.test/*"] }',
    'a.js': '',
  })
  t.match(readProject(dir), {
    name: 'api', entry: join(dir, 'a.js'), ignored: [],
    members: { Timeout: 3, MemorySize: 64, Environment: { Variables: { A: '1' } }, Outpost: { Limits: { CpuMs: 5, SubrequestMax: 2 }, Prime: false, Routes: ['x.test/*'] } },
  })
})

t.test('wrangler.jsonc as it is: comments, trailing commas, variables of any type, what is not supported is named', async (t) => {
  const dir = t.testdir({
    'wrangler.jsonc': '{\n // a comment\n "name": "w", "main": "src/index.ts", /* and\n another */ "compatibility_date": "2026-07-01",\n "vars": { "URL": "https://x//y", "OBJ": { "any": [1] }, },\n "kv_namespaces": [{ "binding": "KV", "id": "1" }],\n}',
    src: { 'index.ts': '' },
  })
  t.match(readProject(dir), {
    name: 'w', entry: join(dir, 'src/index.ts'), ignored: ['kv_namespaces'],
    members: { Environment: { Variables: { URL: 'https://x//y', OBJ: '{"any":[1]}' } } },
  })
})

t.test('routes of either configuration are kept with the function, which is said not to be served by them; what is none is refused', async (t) => {
  const withRoutes = (file: string, members: string): string => t.testdir({ [file]: `{ "main": "a.js", ${members} }`, 'a.js': '' })
  const routes = (file: string, members: string): unknown => readProject(withRoutes(file, members))?.members.Outpost?.Routes
  t.same(routes('wrangler.jsonc', '"routes": ["example.com/*", { "pattern": "https://*.example.com/a/*", "zone_name": "example.com" }, { "pattern": "shop.example.com", "custom_domain": true }]'), ['example.com/*', '*.example.com/a/*', 'shop.example.com/*'])
  t.same(routes('wrangler.json', '"route": "example.com/b"'), ['example.com/b'])
  t.same(routes('wrangler.json', '"vars": {}'), undefined)
  for (const pattern of ['', 'exa mple.com', 'a.*.com/', 'example.com/*/x', 'example.com/a?b=c', 'ftp://example.com/*', 'example.com\\r\\nx/*']) {
    t.throws(() => routes('wrangler.jsonc', `"routes": ["${pattern}"]`), { code: 'ERR_CONFIG', message: /wrangler\.jsonc: routes\.0: .*route is host/ }, pattern)
    t.throws(() => routes('outpost.json', `"routes": ["${pattern}"]`), { code: 'ERR_CONFIG', message: /outpost\.json: routes\.0: .*route is host/ }, pattern)
  }
  t.match(readFolder(withRoutes('wrangler.jsonc', '"routes": ["example.com/*"]')).notes, [/routes are kept .* no POP serves by them yet/])
  t.same(readFolder(withRoutes('outpost.json', '"routes": []')).notes, [])
})

t.test('package.json counts only with main, and a scope is no part of the name', async (t) => {
  t.equal(readProject(t.testdir({ 'package.json': '{ "name": "x" }' })), null)
  t.match(readProject(t.testdir({ 'package.json': '{ "name": "@me/my.fn", "main": "a.js" }', 'a.js': '' })), { name: 'my-fn' })
})

t.test('comments in strings stay, lines keep their numbers', async (t) => {
  t.same(JSON.parse(stripJsonComments('{"a":"// no","b":"/* no */ \\" ,}",}')), { a: '// no', b: '/* no */ " ,}' })
  t.equal(stripJsonComments('/*\n\n*/{').split('\n').length, 3)
})

t.test('a folder: one function a file, and only files that could be one', async (t) => {
  const dir = t.testdir({ 'b.ts': '', 'a.js': '', 'a.ts': '', 'x.test.ts': '', 'types.d.ts': '', 'eslint.config.js': '', 'data.json': '', sub: { 'c.js': '' }, '.dev.vars': 'KEY=secret\n' })
  const folder = readFolder(dir)
  t.same(folder.functions.map((found) => found.name), ['a', 'b'])
  t.match(folder.functions[0], { entry: join(dir, 'a.js'), declared: false, members: { Outpost: { Secrets: { KEY: 'secret' } } } })
  t.match(folder.notes, [/a\.ts is left out/])
})
