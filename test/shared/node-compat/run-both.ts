/** Runs pieces of code in Node and in a machine, bundled as a deploy does, and expects equal answers. Node is the reference. */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { type Bundle, openBundler } from '../../../shared/cli/bundle.ts'
import { Machine } from '../guest/harness.ts'

const AsyncFunction = (async (): Promise<void> => Promise.resolve()).constructor as new (...code: string[]) => (...values: unknown[]) => Promise<string>

const WRAPPER = `
  try {
    return JSON.stringify({ value: (await run()) ?? null })
  } catch (error) {
    return JSON.stringify({ error: { name: error?.name, code: error?.code, message: error?.message } })
  }`

export interface Both {
  readonly machine: Machine
  readonly code: Uint8Array
  /** A snippet is the body of an async function that has `require`; its result must be JSON. Errors are compared by name, code and message. */
  readonly same: (title: string, code: string, options?: { readonly only: 'name' | 'code' }) => void
}

/** Bundles a module in one piece, in a folder of its own whose packages are this checkout's. */
export async function bundleText(t: Test, source: string, name = 'index.mjs'): Promise<Bundle> {
  const folder = makeFolder(t)
  writeFileSync(join(folder, name), source)
  const bundler = await openBundler(name, folder)
  try {
    return await bundler.build()
  } finally {
    await bundler.close()
  }
}

export function makeFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'outpost-node-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  symlinkSync(fileURLToPath(new URL('../../../node_modules', import.meta.url)), join(folder, 'node_modules'))
  return folder
}

export async function runBoth(t: Test, modules: readonly string[]): Promise<Both> {
  const source = `
    ${modules.map((name, index) => `import * as m${index} from ${JSON.stringify(name)}`).join('\n')}
    const modules = { ${modules.map((name, index) => `${JSON.stringify(name.replace(/^node:/, ''))}: m${index}.default`).join(', ')} }
    const require = (name) => modules[name.replace(/^node:/, '')]
    const AsyncFunction = (async () => {}).constructor
    const Run = AsyncFunction.name === 'AsyncFunction' ? AsyncFunction : (0, eval)('(async () => {}).constructor')
    export default { async fetch(request) { return new Response(await new Run('require', await request.text())(require)) } }`
  const { code } = await bundleText(t, source)
  const machine = await Machine.create(Buffer.from(code).toString())
  const nodeRequire = createRequire(import.meta.url)
  return {
    machine,
    code,
    same(title, body, { only } = { only: 'message' } as never) {
      void t.test(title, async (t) => {
        const text = `const run = async () => {${body}\n}\n${WRAPPER}`
        const expected = JSON.parse(await new AsyncFunction('require', text)((name: string) => nodeRequire(name) as unknown)) as Answer
        const out = machine.invoke({ method: 'POST', body: text })
        t.equal(out.failure, null)
        const got = (out.text === '' ? { error: { message: 'no answer' } } : JSON.parse(out.text)) as Answer
        for (const { error } of [expected, got]) {
          if (error !== undefined && (only as string) !== 'message') delete error.message
          if (only === 'name') delete error?.code
        }
        t.same(got, expected)
      })
    },
  }
}

interface Answer {
  readonly value?: unknown
  readonly error?: { name?: string; code?: string; message?: string }
}
