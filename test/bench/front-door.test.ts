import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { hasWrk } from '../../bench/load/wrk.ts'

t.test('the benchmark of the front door runs against both peers', { skip: hasWrk() ? false : 'wrk is not installed' }, async (t) => {
  const { stdout } = await promisify(execFile)(process.execPath, ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, '../../bench/front-door.ts'), '--quick'], { timeout: 60_000 })
  t.match(stdout, /^front door against bare: \d+\.\d\dx requests\/s, \d+\.\d\dx requests per CPU-second/m)
  t.match(stdout, /^front door against bare-minimal: \d+\.\d\dx requests\/s/m)
})
