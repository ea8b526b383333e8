import { readFileSync } from 'node:fs'
import t from 'tap'
import wabt from 'wabt'
import { pageOpsBinary } from '../../../shared/microvm/page-ops.ts'

await t.test('the binary in page-ops.ts is page-ops.wat', async (t) => {
  const source = readFileSync(new URL('../../../shared/microvm/page-ops.wat', import.meta.url), 'utf8')
  const parsed = (await wabt()).parseWat('page-ops.wat', source, { threads: true, bulk_memory: true, ...{ multi_memory: true } })
  t.equal(Buffer.from(pageOpsBinary()).toString('base64'), Buffer.from(parsed.toBinary({}).buffer).toString('base64'))
})
