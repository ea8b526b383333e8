/** Makes the one script that the builder evaluates in a fresh engine: its completion value is `install(host)`. */
import { build } from 'esbuild'
import { fileURLToPath } from 'node:url'
import { siblingModule } from '../module-url.ts'

/**
 * The bundle as source text. Deterministic for one checkout: images are keyed by it.
 * Rejects with esbuild's error if a file of the prelude does not compile.
 */
export async function bundlePrelude(): Promise<string> {
  const result = await build({
    entryPoints: [fileURLToPath(siblingModule(import.meta.url, './prelude/main'))],
    absWorkingDir: fileURLToPath(new URL('../..', import.meta.url)),
    bundle: true,
    write: false,
    format: 'cjs',
    target: 'es2023',
    // Short names are fewer atoms: the image is smaller and a request dirties 7 pages less (50 to 43 for a text). What a
    // function can see keeps its name by webidl.ts.
    minify: true,
    treeShaking: true,
    legalComments: 'inline',
    banner: { js: '(function(){"use strict";const module={exports:{}};' },
    footer: { js: 'return module.exports.install})()' },
    logLevel: 'silent',
  })
  const [file] = result.outputFiles
  if (file === undefined) throw new Error('esbuild gave no output for the prelude')
  return file.text
}
