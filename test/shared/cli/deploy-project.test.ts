/** `outpost deploy` of a project: what its configuration says arrives at the server, and the command line over it. */
import t, { type Test } from 'tap'
import { unzipSync } from 'fflate'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { runHere, type Ran } from '../../support/cli.ts'
import { functionAnswer, startFakeRegion } from '../../support/fake-region.ts'

const HELLO = `export default { fetch() { return new Response('hello') } }\n`
const CONFIG = '{ "name": "api", "main": "a.js", "vars": { "A": "file", "N": 1 }, "limits": { "cpu_ms": 7, "subrequests": 3 }, "origin": "https://origin.example", "services": [{ "binding": "S", "service": "s" }], "env": { "staging": { "vars": { "A": "staged" } } } }'

interface Deployed {
  readonly ran: Ran
  /** Body of CreateFunction, null if nothing was sent. */
  readonly created: Record<string, unknown> | null
}

async function deploy(t: Test, cwd: string, argv: readonly string[]): Promise<Deployed> {
  const fake = await startFakeRegion(({ method, body }) => {
    if (method === 'GET') return { status: 404, body: { OutpostCode: 'ERR_RESOURCE_NOT_FOUND', message: 'no' } }
    return { status: 201, body: functionAnswer((JSON.parse(body) as { FunctionName: string }).FunctionName) }
  })
  t.teardown(() => fake.close())
  const ran = await runHere(['deploy', ...argv, '--endpoint', fake.url], { cwd, env: { PATH: process.env['PATH'] ?? '' } })
  const post = fake.asked.find(({ method }) => method === 'POST')
  return { ran, created: post === undefined ? null : (JSON.parse(post.body) as Record<string, unknown>) }
}

t.test('without a file and without a project it says what is missing', async (t) => {
  const { ran, created } = await deploy(t, t.testdir({}), [])
  t.equal(ran.code, 2)
  t.match(ran.err, /ERR_USAGE: .* has no outpost\.jsonc.*outpost deploy ENTRY/)
  t.equal(created, null)
  t.match((await deploy(t, t.testdir({}), ['-c', 'gone.jsonc'])).ran, { code: 1, err: /ERR_CONFIG: there is no file .*gone\.jsonc/ })
  t.match((await deploy(t, t.testdir({ 'outpost.jsonc': CONFIG, 'a.js': HELLO }), ['-e', 'prod'])).ran, { code: 1, err: /there is no env\.prod, only staging/ })
})

t.test('the project of the folder, of a folder, of a file, and an environment of it', async (t) => {
  const dir = t.testdir({ 'outpost.jsonc': CONFIG, 'a.js': HELLO, 'other.js': HELLO, 'alone.jsonc': '{ "name": "alone", "main": "other.js" }', sub: {} })
  const whole = { FunctionName: 'api', Environment: { Variables: { A: 'file' } }, Outpost: { JsonVariables: { N: 1 }, Services: [{ Binding: 'S', Service: 's' }], Origin: 'https://origin.example', Limits: { CpuMs: 7, SubrequestMax: 3 } } }
  t.match((await deploy(t, dir, [])).created, whole)
  t.match((await deploy(t, join(dir, 'sub'), ['..'])).created, whole)
  t.match((await deploy(t, dir, ['other.js'])).created, whole, 'a file in place of main')
  t.match((await deploy(t, dir, ['-c', 'alone.jsonc'])).created, { FunctionName: 'alone', Outpost: { Services: [], Origin: null } })
  const staging = await deploy(t, dir, ['--env', 'staging'])
  t.match(staging.created, { FunctionName: 'api-staging', Environment: { Variables: { A: 'staged' } }, Outpost: { JsonVariables: {}, Services: [], Origin: null, Limits: { CpuMs: 7 } } })
  t.match(staging.ran.err, /warning: .*services stands at the top level and is not inherited by env\.staging/)
})

t.test('the command line counts more than the file', async (t) => {
  const dir = t.testdir({ 'outpost.jsonc': CONFIG, 'a.js': HELLO })
  const { created } = await deploy(t, dir, ['-n', 'mine', '--var', 'A=line', '--var', 'N:3:4', '--var', 'NEW=x', '--cpu-ms', '9', '--timeout', '4'])
  t.match(created, { FunctionName: 'mine', Timeout: 4, Environment: { Variables: { A: 'line', N: '3:4', NEW: 'x' } }, Outpost: { Limits: { CpuMs: 9, SubrequestMax: 3 } } })
  t.same((created?.['Outpost'] as { JsonVariables: object }).JsonVariables, {})
})

t.test('a build command runs first, is named, and its failure is the end', async (t) => {
  const config = (command: string): string => JSON.stringify({ name: 'built', main: 'out/made.js', build: { command, cwd: 'src' } })
  const made = t.testdir({ 'outpost.jsonc': config('mkdir ../out && cp source.txt ../out/made.js && echo done'), src: { 'source.txt': HELLO } })
  const { ran, created } = await deploy(t, made, [])
  t.match(ran.err, /running build\.command: mkdir .*\ndone\n/)
  const zip = unzipSync(Buffer.from((created?.['Code'] as { ZipFile: string }).ZipFile, 'base64'))
  t.match(Buffer.from(zip['index.mjs'] ?? []).toString(), /hello/)
  const failing = await deploy(t, t.testdir({ 'outpost.jsonc': config('echo oops >&2; exit 3'), src: {} }), [])
  t.match(failing.ran, { code: 1, err: /oops\n.*ERR_CONFIG: .*build\.command failed: it ended with exit code 3/ })
  t.equal(failing.created, null)
  t.match((await deploy(t, t.testdir({ 'outpost.jsonc': config('true'), src: {} }), [])).ran, { code: 1, err: /build\.command has made no .*out\/made\.js/ })
  const other = t.testdir({ 'outpost.jsonc': config('touch ran'), src: {}, 'given.js': HELLO })
  t.equal((await deploy(t, other, ['given.js'])).ran.code, 0)
  t.notOk(existsSync(join(other, 'src/ran')), 'a file that is given needs no build')
})
