import { readFileSync } from 'node:fs'
import t from 'tap'
import { ENGINE_BINARY } from '../../../shared/microvm/engine.ts'
import { makeEngineBinary } from '../../support/engine-binary.ts'

await t.test('quickjs-inlined.wasm is the published engine with its small functions inlined', async (t) => {
  t.ok(makeEngineBinary().equals(readFileSync(ENGINE_BINARY)), 'else: node test/support/engine-binary.ts --write')
})
