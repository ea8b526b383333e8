/** The functions under test. Every peer runs the same text. */
import { buildSync } from 'esbuild'
import { fileURLToPath } from 'node:url'

export type FixtureName = 'json-fetch' | 'text-fetch' | 'event-handler' | 'hono-app' | 'hono-hello' | 'slow-upstream' | 'pipe' | 'memory' | 'cpu' | 'numbered'

const bundles = new Map<FixtureName, string>()

/** One self-contained ES module. `index` makes copies of an application differ from one another. */
export function fixture(name: FixtureName, index = 0): string {
  let bundle = bundles.get(name)
  if (bundle === undefined) {
    bundle = bundleOf(name)
    bundles.set(name, bundle)
  }
  return bundle.replaceAll('__INDEX__', String(index))
}

function bundleOf(name: FixtureName): string {
  const result = buildSync({
    entryPoints: [fileURLToPath(new URL(`../fixtures/${name}.js`, import.meta.url))],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    platform: 'neutral',
    conditions: ['workerd', 'worker', 'browser'],
    mainFields: ['module', 'main'],
    // `__INDEX__` is a free identifier in the source: whitespace may go, names must stay.
    minifyWhitespace: true,
    minifySyntax: true,
  })
  const [output] = result.outputFiles
  if (output === undefined) throw new Error(`esbuild made nothing of ${name}`)
  return output.text
}
