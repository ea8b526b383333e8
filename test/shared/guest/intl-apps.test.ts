/** Libraries for dates, bundled as a deploy does it, answer in the guest as they do in Node with the guest's time zone and locale. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { test } from 'tap'
import { bundleOptions } from '../../../shared/cli/bundle.ts'
import { Machine } from './harness.ts'

const FIXTURES = fileURLToPath(new URL('../../fixtures/guest', import.meta.url))
/** Asks the app each of its routes. */
const ASK_ALL = `
const paths = await app.fetch(new Request('http://app/')).json()
process.stdout.write(JSON.stringify(await Promise.all(paths.map(async (path) => [path, await app.fetch(new Request('http://app' + path)).text()]))))`

void test('luxon, dayjs and date-fns answer as in Node', async (t) => {
  const { outputFiles } = await build({ ...bundleOptions('dates-app.js', FIXTURES), sourcemap: false })
  const source = outputFiles[0]?.text ?? ''
  const url = `data:text/javascript;base64,${Buffer.from(source).toString('base64')}`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module'], { input: `import app from '${url}'\n${ASK_ALL}`, encoding: 'utf8', env: { ...process.env, LC_ALL: 'C', LANG: 'C', TZ: 'UTC', NODE_OPTIONS: '' } })
  t.match(stdout, /^\[\["/, stderr)
  const machine = await Machine.create(source)
  // Some of the routes ask what day it is now, but none answers it.
  for (const [path, inNode] of JSON.parse(stdout) as [string, string][]) {
    const { text, failure } = machine.invoke({ url: `http://app${path}` })
    t.equal(failure, null, path)
    t.same(JSON.parse(text), JSON.parse(inNode), path)
  }
})
