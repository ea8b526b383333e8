/** What guests ask of the host besides their own thread, when they ask for as much as they can: cryptography, compression, outbound requests. */
import t from 'tap'
import { CRYPTO_DATA_MAX_BYTES, CRYPTO_REQUEST_MAX_BYTES, DIGEST_MAX_BYTES, ZIPS_PER_RUN_MAX } from '../../../shared/limits.ts'
import { startSandbox } from '../../support/sandbox.ts'

const sandbox = await startSandbox(t, 1_024)
const LARGE = { cpuMs: 20_000, memoryMib: 256, subrequestMax: 1_000 }
const HELP = `
const host = globalThis.__OUTPOST_NODE__
const failure = async (work) => { try { await work(); return 'went through' } catch (error) { return error.code || error.name } }
const mac = '{"method":"sign","algorithm":"HMAC","key":{"k":{"type":"secret","extractable":false,"algorithm":{"name":"HMAC","hash":{"name":"SHA-256"}},"usages":["sign"],"data":"a2V5"}}}'
`

/** What the body of an async function gives. */
async function inGuest(code: string, account = 'a'): Promise<unknown> {
  const { text, result } = await sandbox.call(await sandbox.publish(`${HELP} export default { async fetch() { const run = async () => { ${code} }; return Response.json((await run()) ?? null) } }`, { limits: LARGE, account }))
  t.equal(result.outcome, 'ok', result.exception?.message ?? 'it ran')
  return JSON.parse(text)
}

await t.test('what a guest says of an operation is short, and what it works on is bounded', async (t) => {
  t.same(await inGuest(`return [
    await failure(() => host.compute('\\n'.repeat(30_000_000), new Uint8Array(0))),
    await failure(() => host.subtle(' '.repeat(${CRYPTO_REQUEST_MAX_BYTES + 1}), new Uint8Array(0))),
    await failure(() => host.subtle(mac, new Uint8Array(${CRYPTO_DATA_MAX_BYTES + 1}))),
    await failure(() => crypto.subtle.digest('SHA-256', new Uint8Array(${DIGEST_MAX_BYTES + 1}))),
    await failure(() => fetch('http://example.invalid/', { headers: { a: 'x'.repeat(200_000) } })),
  ]`), ['ERR_LIMIT_OPERATIONS', 'ERR_LIMIT_OPERATIONS', 'ERR_LIMIT_OPERATIONS', 'ERR_LIMIT_OPERATIONS', 'ERR_REQUEST_HEADERS'])
})

await t.test('operations of one invocation are bounded together, and one after the other they all go through', async (t) => {
  t.same(await inGuest(`
    const data = new Uint8Array(20_000_000)
    const together = await Promise.all([1, 2, 3].map(() => failure(() => host.subtle(mac, data))))
    const inTurn = []
    for (let n = 0; n < 3; n++) inTurn.push(await failure(() => host.subtle(mac, data)))
    return [together, inTurn]`), [['went through', 'ERR_LIMIT_OPERATIONS', 'ERR_LIMIT_OPERATIONS'], ['went through', 'went through', 'went through']])
})

await t.test('thousands of operations at once: those beyond the bound fail with a code, the others are done', async (t) => {
  const [done, codes] = (await inGuest(`
    const all = await Promise.all(Array.from({ length: 3_000 }, () => failure(() => host.subtle(mac, new Uint8Array(8)))))
    return [all.filter((each) => each === 'went through').length, [...new Set(all)].sort()]`)) as [number, string[]]
  t.ok(done >= 1_000 && done <= 3_000, `${done} were done`)
  t.ok(codes.every((code) => code === 'went through' || code === 'ERR_LIMIT_OPERATIONS'), codes.join())
})

await t.test('what an invocation leaves behind in the queue is not done for nobody', async (t) => {
  const leaves = await sandbox.publish(`export default { fetch() {
    for (let n = 0; n < 400; n++) crypto.subtle.generateKey({ name: 'RSA-PSS', modulusLength: 4096, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }, false, ['sign', 'verify'])
    throw new Error('and away') } }`, { account: 'leaves' })
  t.equal((await sandbox.call(leaves)).result.outcome, 'exception')
  // Four hundred such keys would take minutes; what is under way goes on.
  t.equal(await inGuest('return failure(() => host.subtle(mac, new Uint8Array(8)))', 'leaves'), 'went through')
})

await t.test('an account that opens all streams that it may leaves others theirs', async (t) => {
  const OPEN = `
    const opened = await Promise.all(Array.from({ length: ${ZIPS_PER_RUN_MAX} }, () => failure(() => new CompressionStream('gzip').writable.getWriter().write(new Uint8Array(1)))))
    return opened.filter((each) => each !== 'went through')`
  const hold = `const refused = await (async () => { ${OPEN} })(); await new Promise((done) => setTimeout(done, 2_000)); return refused`
  const greedy = Promise.all(Array.from({ length: 14 }, () => inGuest(hold, 'greedy')))
  const other = await inGuest(OPEN, 'other')
  const refused = (await greedy).flat()
  t.ok(refused.length > 0 && refused.every((each) => each === 'ERR_LIMIT_OPERATIONS'), `${refused.length} were refused`)
  t.same(other, [])
  t.same(await inGuest(OPEN, 'greedy'), [], 'they are gone with their invocations')
})
