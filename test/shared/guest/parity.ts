/** Runs a piece of code in Node and in the guest and expects equal answers. Node's web classes are the reference. */
import type { Test } from 'tap'
import { Machine } from './harness.ts'

const WRAPPER = `
  try {
    return JSON.stringify({ value: (await run()) ?? null })
  } catch (error) {
    return JSON.stringify({ error: error?.name ?? String(error) })
  }`

const AsyncFunction = (async (): Promise<void> => Promise.resolve()).constructor as new (code: string) => () => Promise<string>

const SOURCE = `
  const AsyncFunction = (async () => {}).constructor
  export default { async fetch(request) { return new Response(await new AsyncFunction(await request.text())()) } }`

export type Same = (title: string, code: string) => void

/** One machine for all snippets of a file. A snippet is the body of an async function; its result must be JSON. */
export async function parity(t: Test): Promise<Same> {
  const machine = await Machine.create(SOURCE)
  return (title, code) => {
    void t.test(title, async (t) => {
      const body = `const run = async () => {${code}\n}\n${WRAPPER}`
      const expected = await new AsyncFunction(body)()
      const answer = machine.invoke({ method: 'POST', body })
      t.equal(answer.failure, null)
      t.same(JSON.parse(answer.text), JSON.parse(expected))
    })
  }
}
