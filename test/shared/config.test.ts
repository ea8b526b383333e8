import t from 'tap'
import { popSchema, regionSchema, resolveConfig, type ConfigInput } from '../../shared/config.ts'

function input(more: Partial<ConfigInput> = {}): ConfigInput {
  return { options: {}, env: {}, file: null, ...more }
}

t.test('what must be given and is not names option and variable', async (t) => {
  t.throws(() => resolveConfig(popSchema, input()), { code: 'ERR_CONFIG', message: 'regionUrls (--region or OUTPOST_POP_REGION): must be given' })
})

t.test('a value out of bounds names who set it', async (t) => {
  t.throws(() => resolveConfig(regionSchema, input({ env: { OUTPOST_REGION_PORT: '70000' } })), { message: /^port \(--port or OUTPOST_REGION_PORT\): .*set by OUTPOST_REGION_PORT$/ })
  t.throws(() => resolveConfig(regionSchema, input({ env: { OUTPOST_REGION_PORT: 'http' } })), { code: 'ERR_CONFIG' })
  t.throws(() => resolveConfig(regionSchema, input({ file: { name: 'r.json', values: { memoryMib: 1 } } })), { message: /set by "memoryMib" in r\.json$/ })
  t.throws(() => resolveConfig(popSchema, input({ options: { regionUrls: 'ws://x' } })), { message: /set by --region$/ })
})

t.test('an unknown setting in a file is refused, and so is a file that is no object', async (t) => {
  t.throws(() => resolveConfig(regionSchema, input({ file: { name: 'r.json', values: { prot: 1 } } })), { message: /r\.json: there is no setting "prot"\. Settings: port, host/ })
  for (const values of [null, [], 'x', 1]) t.throws(() => resolveConfig(regionSchema, input({ file: { name: 'r.json', values } })), { code: 'ERR_CONFIG' })
})

t.test('option before environment before file before default', async (t) => {
  const file = { name: 'r.json', values: { port: 1, memoryMib: 100, token: 'file' } }
  const config = resolveConfig(regionSchema, input({ options: { port: 3 }, env: { OUTPOST_REGION_PORT: '2', OUTPOST_REGION_MEMORY_MIB: '200' }, file }))
  t.match(config, { port: 3, memoryMib: 200, token: 'file', host: '127.0.0.1' })
})

t.test('text of the environment becomes what the schema wants', async (t) => {
  const config = resolveConfig(regionSchema, input({ env: { OUTPOST_REGION_DEV: 'true', OUTPOST_LINK_TOKEN: '12345', OUTPOST_REGION_WORKERS: '2', OUTPOST_REGION_HOST: '' } }))
  t.match(config, { dev: true, token: '12345', workers: 2, host: '127.0.0.1' }, 'a token of digits stays text, an empty variable counts as not set')
})

t.test('the result is frozen', async (t) => {
  t.ok(Object.isFrozen(resolveConfig(regionSchema, input())))
})
