/** crypto.subtle through a real host: worker, egress thread, and the way back. */
import t from 'tap'
import type { BuildKey, ImageId, RequestId } from '../../../shared/brand.ts'
import { systemClock } from '../../../shared/clock.ts'
import { DEFAULT_FUNCTION_LIMITS } from '../../../shared/limits.ts'
import { silentLog } from '../../../shared/log.ts'
import { decodeManifest } from '../../../shared/microvm/manifest.ts'
import { ProcessImageBuilder } from '../../../shared/microvm/process-builder.ts'
import { blockOf } from '../../../shared/microvm/runtime.ts'
import { createSandboxHost } from '../../../shared/worker/create-host.ts'
import { DEFAULT_FUNCTION_TRAITS, type BuildSpec, type InvocationResult, type SandboxHost } from '../../../shared/worker/types.ts'
import { buildRequest } from '../../support/engine.ts'

const builder = new ProcessImageBuilder({ clock: systemClock, log: silentLog })
const host = await createSandboxHost({ workers: 1, slots: 4, memoryMib: 256, queueMax: 1_000, clock: systemClock, log: silentLog, egressAllowed: [], ownPorts: [], onLogLine: () => undefined, onException: () => undefined })
t.teardown(() => Promise.all([builder.close(), host.close()]))
await host.start()

async function publish(source: string, account = 'a'): Promise<BuildSpec> {
  const built = await builder.build(buildRequest(source, { prime: [] }))
  if (built.kind === 'refused') throw new Error(`${built.error.code} ${built.error.params.join(' ')}`)
  for (const image of built.images) if (!host.hasImage(image.imageId)) host.addImage(image.imageId, decodeManifest(image.encodedManifest, image.imageId), blockOf(image))
  const imageId = built.images.at(-1)?.imageId as ImageId
  return { key: `${account}/f@${imageId}` as BuildKey, imageId, handlerKind: built.handlerKind, account, functionName: 'f', version: '$LATEST', limits: DEFAULT_FUNCTION_LIMITS, traits: DEFAULT_FUNCTION_TRAITS, secrets: {} }
}

function call(to: SandboxHost, build: BuildSpec): Promise<{ readonly text: string; readonly result: InvocationResult }> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    to.invoke({ requestId: 'r' as RequestId, build, kind: 'http', method: 'GET', url: 'http://localhost/', headers: '', body: null, bodyMore: false, clientIp: '127.0.0.1', deadlineAtMs: Date.now() + 20_000, wantLogs: false }, {
      head(_status, _headers, _startKind, body) {
        if (body !== null) chunks.push(Buffer.from(body))
      },
      data(chunk) {
        chunks.push(Buffer.from(chunk))
        return true
      },
      bodyEnd: () => undefined,
      end: (result) => resolve({ text: Buffer.concat(chunks).toString(), result }),
    })
  })
}

await t.test('a JWT is signed and verified, a failure arrives as the standard names it, and keys live on over many operations', async (t) => {
  const build = await publish(`export default { async fetch() {
    const key = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify'])
    const data = new TextEncoder().encode('x'.repeat(100_000))
    const all = await Promise.all(Array.from({ length: 20 }, () => crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, key.privateKey, data)))
    const right = await Promise.all(all.map((mac) => crypto.subtle.verify({ name: 'ECDSA', hash: 'SHA-256' }, key.publicKey, mac, data)))
    let failure
    try { await crypto.subtle.exportKey('pkcs8', key.privateKey) } catch (error) { failure = error.name + (error instanceof DOMException) }
    return Response.json([right.every((r) => r), all.length, failure])
  } }`)
  t.equal((await call(host, build)).text, '[true,20,"InvalidAccessErrortrue"]')
})

await t.test('one account that keeps the queue full does not keep another one waiting', async (t) => {
  const greedy = await publish(`export default { async fetch() {
    await Promise.all(Array.from({ length: 40 }, () => crypto.subtle.generateKey({ name: 'RSA-PSS', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }, false, ['sign', 'verify'])))
    return new Response('made') } }`, 'greedy')
  const modest = await publish(`export default { async fetch() {
    const key = await crypto.subtle.importKey('raw', new Uint8Array(32), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])
    return new Response(String((await crypto.subtle.sign('HMAC', key, new Uint8Array(8))).byteLength)) } }`, 'modest')
  let greedyIsDone = false
  const long = call(host, greedy).then((answer) => {
    greedyIsDone = true
    return answer
  })
  t.equal((await call(host, modest)).text, '32')
  t.notOk(greedyIsDone, 'two operations of the modest one took less than forty keys')
  t.equal((await long).text, 'made')
})

await t.test('a run that ends leaves its operation without effect on the next', async (t) => {
  const build = await publish(`let calls = 0; export default { async fetch() {
    calls++
    crypto.subtle.generateKey({ name: 'RSA-PSS', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }, false, ['sign', 'verify']).then(() => { calls += 100 })
    return new Response(String(calls)) } }`)
  for (let times = 0; times < 5; times++) t.equal((await call(host, build)).text, '1')
})
