/** crypto.subtle through a real host: worker, egress thread, and the way back. */
import t from 'tap'
import { startSandbox } from '../../support/sandbox.ts'

const sandbox = await startSandbox(t)

await t.test('a JWT is signed and verified, a failure arrives as the standard names it, and keys live on over many operations', async (t) => {
  const build = await sandbox.publish(`export default { async fetch() {
    const key = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify'])
    const data = new TextEncoder().encode('x'.repeat(100_000))
    const all = await Promise.all(Array.from({ length: 20 }, () => crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, key.privateKey, data)))
    const right = await Promise.all(all.map((mac) => crypto.subtle.verify({ name: 'ECDSA', hash: 'SHA-256' }, key.publicKey, mac, data)))
    let failure
    try { await crypto.subtle.exportKey('pkcs8', key.privateKey) } catch (error) { failure = error.name + (error instanceof DOMException) }
    return Response.json([right.every((r) => r), all.length, failure])
  } }`)
  t.equal((await sandbox.call(build)).text, '[true,20,"InvalidAccessErrortrue"]')
})

await t.test('one account that keeps the queue full does not keep another one waiting', async (t) => {
  const greedy = await sandbox.publish(`export default { async fetch() {
    await Promise.all(Array.from({ length: 40 }, () => crypto.subtle.generateKey({ name: 'RSA-PSS', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }, false, ['sign', 'verify'])))
    return new Response('made') } }`, { account: 'greedy' })
  const modest = await sandbox.publish(`export default { async fetch() {
    const key = await crypto.subtle.importKey('raw', new Uint8Array(32), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])
    return new Response(String((await crypto.subtle.sign('HMAC', key, new Uint8Array(8))).byteLength)) } }`, { account: 'modest' })
  let greedyIsDone = false
  const long = sandbox.call(greedy).then((answer) => {
    greedyIsDone = true
    return answer
  })
  t.equal((await sandbox.call(modest)).text, '32')
  t.notOk(greedyIsDone, 'two operations of the modest one took less than forty keys')
  t.equal((await long).text, 'made')
})

await t.test('a run that ends leaves its operation without effect on the next', async (t) => {
  const build = await sandbox.publish(`let calls = 0; export default { async fetch() {
    calls++
    crypto.subtle.generateKey({ name: 'RSA-PSS', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }, false, ['sign', 'verify']).then(() => { calls += 100 })
    return new Response(String(calls)) } }`)
  for (let times = 0; times < 5; times++) t.equal((await sandbox.call(build)).text, '1')
})
