/**
 * Makes shared/microvm/quickjs-inlined.wasm from the engine as it is published: the same code with its small functions
 * inlined, which V8 does not do by itself. `node test/support/engine-binary.ts --write` puts it there; a test makes it
 * again and compares.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ENGINE_BINARY } from '../../shared/microvm/engine.ts'

/** What the engine's own compiler was allowed to use, and nothing more. */
const FEATURES = ['bulk-memory', 'sign-ext', 'nontrapping-float-to-int', 'mutable-globals', 'reference-types', 'multivalue', 'extended-const'].map((name) => `--enable-${name}`)
/** Sizes are counts of expressions. Larger ones make the engine larger and no faster. */
const OPTIMIZATION = ['-O3', '--flexible-inline-max-function-size=120', '--always-inline-max-function-size=40', '--one-caller-inline-max-function-size=1000']

/** Takes half a minute. */
export function makeEngineBinary(): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'outpost-engine-'))
  try {
    const output = join(folder, 'engine.wasm')
    const optimizer = join(dirname(fileURLToPath(import.meta.resolve('binaryen'))), 'bin', 'wasm-opt')
    execFileSync(process.execPath, [optimizer, ...FEATURES, ...OPTIMIZATION, fileURLToPath(import.meta.resolve('quickjs-wasi/quickjs.wasm')), '-o', output])
    return readFileSync(output)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.argv.includes('--write')) writeFileSync(ENGINE_BINARY, makeEngineBinary())
