/** Evaluates expressions in Node, with the guest's default locale and time zone, and in a guest, and expects equal answers. */
import { spawnSync } from 'node:child_process'
import type { Test } from 'tap'
import { Machine } from './harness.ts'

/** Takes a JSON list of expressions and gives a JSON list of their values; of an error its class and name. */
const EVALUATE = `(list) => JSON.stringify(JSON.parse(list).map((code) => {
  try {
    const value = (0, eval)('(' + code + ')')
    return value === undefined ? 'undefined' : typeof value === 'function' ? 'function' : value
  } catch (error) {
    return 'throws ' + error.name + (error instanceof globalThis[error.name])
  }
}))`

/** JSON writes NaN, -0 and undefined inside of lists as others; wrap them by String where it matters. */
export async function sameAsNode(t: Test, title: string, expressions: readonly string[]): Promise<void> {
  const input = JSON.stringify(expressions)
  const machine = await Machine.create('export default { fetch() {} }')
  const inGuest = JSON.parse(String(machine.eval(`(${EVALUATE})(${JSON.stringify(input)})`))) as unknown[]
  const child = spawnSync(process.execPath, ['-e', `process.stdout.write((${EVALUATE})(fs.readFileSync(0, 'utf8')))`], { input, encoding: 'utf8', env: { ...process.env, LC_ALL: 'C', LANG: 'C', TZ: 'UTC', NODE_OPTIONS: '' } })
  const inNode = JSON.parse(child.stdout) as unknown[]
  void t.test(title, (t) => {
    t.equal(inGuest.length, expressions.length)
    expressions.forEach((code, index) => t.same(inGuest[index], inNode[index], code))
    t.end()
  })
}
