import t from 'tap'
import { readFileSync } from 'node:fs'
import { Ajv } from 'ajv'
import { join } from 'node:path'
import { CONFIG_SCHEMA_FILE, renderConfigSchema } from '../../support/config-schema.ts'
import { outpostSchema } from '../../../shared/cli/outpost-config.ts'
import { readFolder } from '../../../shared/cli/function-folder.ts'
import { stripJsonComments } from '../../../shared/cli/config-file.ts'
import { readProject } from '../../../shared/cli/project-config.ts'

/** As people have it. */
const WRANGLER = `{
  // a comment
  "$schema": "node_modules/wrangler/config-schema.json",
  "name": "my-fn", "main": "src/index.ts", /* and
  another */
  "compatibility_date": "2026-07-01", "compatibility_flags": ["nodejs_compat"],
  "account_id": "0", "workers_dev": true, "preview_urls": true,
  "routes": ["example.com/api/*", { "pattern": "x.example.com", "custom_domain": true }],
  "triggers": { "crons": ["*/5 * * * *"] },
  "vars": { "NAME": "https://x//y", "OBJ": { "any": ["json"] }, },
  "limits": { "cpu_ms": 50, "subrequests": 40 },
  "kv_namespaces": [{ "binding": "KV", "id": "1", "preview_id": "2" }],
  "services": [{ "binding": "SVC", "service": "other-fn", "entrypoint": "Named" }, { "binding": "OLD", "service": "old", "environment": "staging" }],
  "queues": { "producers": [{ "binding": "Q", "queue": "jobs", "delivery_delay": 0 }], "consumers": [] },
  "ratelimits": [{ "name": "RL", "namespace_id": "1", "simple": { "limit": 100, "period": 60 } }],
  "version_metadata": { "binding": "VERSION" },
  "observability": { "enabled": true, "head_sampling_rate": 1, "logs": { "invocation_logs": true } },
  "tail_consumers": [{ "service": "log-fn" }], "placement": { "mode": "smart" },
  "build": { "command": "npm run build", "watch_dir": "src" }, "no_bundle": false, "minify": false, "upload_source_maps": true,
  "rules": [{ "type": "Text", "globs": ["**/*.md"], "fallthrough": true }], "alias": {}, "define": {},
  "dev": { "ip": "localhost", "port": 8787, "local_protocol": "http" },
  "env": { "staging": { "vars": {}, "routes": [] } },
}`

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

t.test('outpost.jsonc gives all settings; outpost.json is the same, and not beside it', async (t) => {
  const dir = t.testdir({
    'outpost.jsonc': `{ // a comment
      "$schema": "node_modules/outpost/config-schema.json",
      "name": "api", "main": "a.js", "vars": { "A": "1", "N": 2, "OBJ": { "any": [true, null] } }, "limits": { "cpu_ms": 5, "subrequests": 2, "response_bytes": 9 }, "timeout_s": 3, "memory_mib": 64,
      "services": [{ "binding": "OTHER", "service": "other" }, { "binding": "NAMED", "service": "other", "qualifier": "prod", "entrypoint": "Admin", "props": { "tier": 1 } }],
      "origin": "https://origin.example:8443/", "prime": false, "routes": ["x.test/*"], "idempotent": true, "latency_sensitivity": "high", "sessions": { "cookie": "sid", "idle_s": 5, "max_age_s": 6 },
      "alias": { "a": "./b.js" }, "define": { "X": "1" }, "minify": true, "rules": [{ "type": "Text", "globs": ["**/*.md"] }], "tsconfig": "t.json", "jsx_factory": "h", "jsx_fragment": "F",
      "dev": { "ip": "127.0.0.1", "port": 0 },
    }`,
    'a.js': '',
  })
  const project = readProject(dir)
  t.match(project, {
    file: join(dir, 'outpost.jsonc'), name: 'api', entry: join(dir, 'a.js'), build: null, dev: { host: '127.0.0.1', port: 0 },
    source: { alias: { a: './b.js' }, define: { X: '1' }, minify: true, rules: [{ type: 'Text', globs: ['**/*.md'] }], tsconfig: 't.json', jsx_factory: 'h', jsx_fragment: 'F' },
  })
  t.same(project?.members, {
    Timeout: 3, MemorySize: 64, Environment: { Variables: { A: '1' } },
    Outpost: {
      JsonVariables: { N: 2, OBJ: { any: [true, null] } },
      Services: [{ Binding: 'OTHER', Service: 'other' }, { Binding: 'NAMED', Service: 'other', Qualifier: 'prod', Entrypoint: 'Admin', Props: { tier: 1 } }], Origin: 'https://origin.example:8443/',
      Limits: { CpuMs: 5, SubrequestMax: 2, ResponseMaxBytes: 9 }, Prime: false, Routes: ['x.test/*'], Idempotent: true, LatencySensitivity: 'high', Sessions: { Cookie: 'sid', IdleSeconds: 5, MaxAgeSeconds: 6 },
    },
  })
  t.match(readProject(t.testdir({ 'outpost.json': '{ "main": "a.js" }', 'a.js': '' })), { members: { Environment: { Variables: {} }, Outpost: { JsonVariables: {}, Services: [], Origin: null } } }, 'what a file does not name any more is gone')
  t.throws(() => readProject(t.testdir({ 'outpost.json': '{ "main": "a.js" }', 'outpost.jsonc': '{ "main": "a.js" }', 'a.js': '' })), { code: 'ERR_CONFIG', message: /outpost\.jsonc and .*outpost\.json say the same thing twice/ })
})

t.test('what no member of outpost.jsonc can be is refused by name', async (t) => {
  const refused = (members: string, where: RegExp): void => void t.throws(() => readProject(t.testdir({ 'outpost.jsonc': `{ "main": "a.js", ${members} }`, 'a.js': '' })), { code: 'ERR_CONFIG', message: where }, members)
  refused('"name": "a b"', /name: a function has letters/)
  refused('"services": [{ "binding": "X", "service": "../other" }]', /services\.0\.service: a function has letters/)
  refused('"services": [{ "binding": "X", "service": "a", "account": "b" }]', /services\.0: .*account/)
  refused('"origin": "origin.example"', /origin: an origin is http:\/\/ or https:\/\//)
  refused('"origin": "https://origin.example/path"', /origin: .*without path/)
  refused('"origin": "https://user@origin.example"', /origin: .*credentials/)
  refused('"origin": "https://:80"', /origin: /)
  refused('"limits": { "cpu_ms": 0 }', /limits\.cpu_ms/)
  refused('"limits": { "memory": 1 }', /limits: .*memory/)
  refused('"timeout_s": 901', /timeout_s/)
  refused('"memory_mib": 100000', /memory_mib/)
  refused('"sessions": { "idle_s": 5 }', /sessions/)
  refused('"rules": [{ "type": "Wasm", "globs": [] }]', /rules\.0\.type/)
  refused('"latency_sensitivity": "extreme"', /latency_sensitivity/)
  refused('"dev": { "port": 70000 }', /dev\.port/)
  refused('"build": { }', /build\.command/)
  refused('"env": { "x": { "main": 7 } }', /env\.x\.main/)
  refused('"kv_namespaces": []', /kv_namespaces/)
})

t.test('wrangler.jsonc as it is: comments, trailing commas, JSON variables, services; what is not supported is named and the harmless is not', async (t) => {
  const dir = t.testdir({ 'wrangler.jsonc': WRANGLER, src: { 'index.ts': '' } })
  const project = readProject(dir)
  t.same(project?.members, {
    Environment: { Variables: { NAME: 'https://x//y' } },
    Outpost: {
      JsonVariables: { OBJ: { any: ['json'] } }, Services: [{ Binding: 'SVC', Service: 'other-fn', Entrypoint: 'Named' }, { Binding: 'OLD', Service: 'old-staging' }],
      Limits: { CpuMs: 50, SubrequestMax: 40 }, Routes: ['example.com/api/*', 'x.example.com/*'],
    },
  })
  t.match(project, { name: 'my-fn', entry: join(dir, 'src/index.ts'), build: { command: 'npm run build', cwd: dir }, dev: { host: 'localhost', port: 8787 } })
  t.match(project?.source, { minify: false, alias: {}, define: {}, rules: [{ type: 'Text', globs: ['**/*.md'], fallthrough: true }] })
  const notes = project?.notes.map((note) => note.replace(`${dir}/wrangler.jsonc: `, '')) ?? []
  t.same(notes, [
    'kv_namespaces is not supported and was left out', 'queues is not supported and was left out', 'ratelimits is not supported and was left out', 'version_metadata is not supported and was left out',
    'tail_consumers is not supported and was left out', 'triggers is not supported: nothing calls `scheduled` by the clock', 'routes are kept with the function, but no POP serves by them yet: use /fn/NAME/ or http://NAME.DOMAIN',
  ])
  t.match(readProject(t.testdir({ 'wrangler.jsonc': '{ "main": "a.js", "compatability_date": "2026-01-01", "queues": {}, "triggers": { "crons": [] } }', 'a.js': '' }))?.notes, [/compatability_date is no member that is known here/])
  t.same(readProject(t.testdir({ 'wrangler.jsonc': '{ "main": "a.js", "keep_vars": true }', 'a.js': '' }))?.members.Environment, undefined)
})

t.test('wrangler.toml is understood as its JSON', async (t) => {
  const dir = t.testdir({
    'wrangler.toml': 'name = "w"\nmain = "a.js"\ncompatibility_date = "2026-07-01"\n[vars]\nA = "1"\nB = { c = [1, 2] }\n[[services]]\nbinding = "SVC"\nservice = "other"\n[env.staging.vars]\nA = "2"\n',
    'a.js': '',
  })
  t.match(readProject(dir), { name: 'w', notes: [], members: { Environment: { Variables: { A: '1' } }, Outpost: { JsonVariables: { B: { c: [1, 2] } }, Services: [{ Binding: 'SVC', Service: 'other' }] } } })
  t.match(readProject(dir, { environment: 'staging' }), { name: 'w-staging', members: { Environment: { Variables: { A: '2' } }, Outpost: { JsonVariables: {}, Services: [] } } })
  t.throws(() => readProject(t.testdir({ 'wrangler.toml': 'name = ', 'a.js': '' })), { code: 'ERR_CONFIG', message: /wrangler\.toml: / })
})

t.test('an environment inherits settings but neither variables nor bindings, and what is lost is said', async (t) => {
  for (const [file, open, extra] of [['outpost.jsonc', '{ "name": "api", "main": "a.js", "timeout_s": 9, ', ''], ['wrangler.jsonc', '{ "name": "api", "main": "a.js", "kv_namespaces": [{ "binding": "KV", "id": "1" }], ', 'kv_namespaces']] as const) {
    const dir = t.testdir({
      [file]: `${open} "vars": { "A": "1" }, "services": [{ "binding": "S", "service": "s" }], ${extra === '' ? '"origin": "https://origin.example", ' : ''}"define": { "X": "1" }, "alias": { "a": "b" }, "minify": true, "limits": { "cpu_ms": 7 }, "routes": ["top.test/*"],
        "env": { "staging": { "vars": { "A": "2" } }, "production": { "name": "live", "main": "b.js", "routes": [], "limits": { "cpu_ms": 8 }, "services": [{ "binding": "S", "service": "t" }], "vars": {}, "define": {} } } }`,
      'a.js': '', 'b.js': '',
    })
    const staging = readProject(dir, { environment: 'staging' })
    t.match(staging, {
      name: 'api-staging', entry: join(dir, 'a.js'), source: { alias: { a: 'b' }, minify: true, define: undefined },
      members: { Environment: { Variables: { A: '2' } }, Outpost: { Services: [], Limits: { CpuMs: 7 }, Routes: ['top.test/*'] } },
    }, file)
    t.same(staging?.notes.map((note) => /: (\w+) stands at the top level and is not inherited by env\.staging/.exec(note)?.[1]).filter((member) => member !== undefined), extra === '' ? ['services', 'origin', 'define'] : ['services', 'define', extra])
    if (extra === '') t.equal(staging?.members.Outpost?.Origin, null, 'requests of one environment do not end at the origin of another')
    const live = readProject(dir, { environment: 'production' })
    t.match(live, { name: 'live', entry: join(dir, 'b.js'), members: { Environment: { Variables: {} }, Outpost: { Services: [{ Service: 't' }], Limits: { CpuMs: 8 }, Routes: [] } } }, file)
    t.throws(() => readProject(dir, { environment: 'prod' }), { code: 'ERR_CONFIG', message: /there is no env\.prod, only staging, production/ })
    t.throws(() => readProject(dir, { environment: '__proto__' }), { code: 'ERR_CONFIG' })
  }
  t.throws(() => readProject(t.testdir({ 'package.json': '{ "main": "a.js" }', 'a.js': '' }), { environment: 'x' }), { code: 'ERR_CONFIG', message: /no configuration says what env\.x is/ })
})

t.test('the schema that editors read is the schema that checks', async (t) => {
  t.equal(readFileSync(CONFIG_SCHEMA_FILE, 'utf8'), renderConfigSchema(), 'else run: node test/support/config-schema.ts --write')
  const schema = JSON.parse(readFileSync(CONFIG_SCHEMA_FILE, 'utf8')) as object
  const validate = new Ajv({ strict: false }).compile(schema)
  for (const [ok, text] of [[true, '{ "main": "a.js", "origin": "https://origin.example" }'], [false, '{ "main": "a.js", "origin": "https://origin.example/path" }'], [true, '{ "main": "a.js", "vars": { "O": { "x": [1] } }, "env": { "s": { "timeout_s": 5 } } }'], [false, '{ "vars": {} }'], [false, '{ "main": "a.js", "mian": 1 }'], [false, '{ "main": "a.js", "timeout_s": "5" }'], [false, '{ "main": "a.js", "env": { "s": { "dev": {} } } }']] as const) {
    t.equal(validate(JSON.parse(text)), ok, text)
    t.equal(outpostSchema.safeParse(JSON.parse(text)).success, ok, text)
  }
  const { properties } = schema as { properties: Record<string, { description?: string }> }
  t.same(Object.entries(properties).filter(([name, { description }]) => description === undefined && !['$schema', 'limits', 'build'].includes(name)), [], 'each says what it is')
})

t.test('variables of a development server: the command line before .dev.vars before the file', async (t) => {
  const dir = t.testdir({
    'outpost.jsonc': '{ "main": "a.js", "vars": { "A": "file", "B": "file", "C": "file", "N": 1, "M": 2 }, "env": { "staging": { "vars": { "A": "staged" } } } }', 'a.js': '',
    '.dev.vars': 'B=local\nC=local\nN=local\n', '.dev.vars.staging': 'S=staged\n',
  })
  t.match(readFolder(dir, { vars: { C: 'line', M: 'line' } }).functions[0]?.members, { Environment: { Variables: { A: 'file', C: 'line', M: 'line' } }, Outpost: { JsonVariables: {}, Secrets: { B: 'local', N: 'local' } } })
  t.same(readFolder(dir, { environment: 'staging' }).functions[0]?.members.Outpost?.Secrets, { S: 'staged' })
  const plain = readFolder(t.testdir({ 'a.js': '' }), { vars: { X: 'y' } })
  t.same(plain.functions[0]?.members.Environment, { Variables: { X: 'y' } })
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
