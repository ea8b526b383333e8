import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'

t.test('the benchmark of the link runs and checks its answers', async (t) => {
  const { stdout } = await promisify(execFile)(process.execPath, [join(import.meta.dirname, '../../bench/link.ts'), '--quick'], { timeout: 60_000 })
  for (const row of ['one stream at a time, p50 us', '512 under way, us per stream', 'upload, MiB/s', 'download, MiB/s']) t.match(stdout, new RegExp(`${row} +[0-9.]+`))
})
