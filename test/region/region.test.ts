/** How a region runs functions: for its front door, for POPs, and when images are missing, too many or unusable. */
import t from 'tap'
import { ALL_ZEROS } from '../../shared/store/page-groups.ts'
import type { BuildKey, ImageId } from '../../shared/brand.ts'
import { CodedError, toCodedError } from '../../shared/errors.ts'
import { selectionLine } from '../../shared/guest/selection.ts'
import type { AnswerSink, Placement } from '../../shared/http/types.ts'
import { REQUEST_BODY_MAX_BYTES } from '../../shared/limits.ts'
import type { FunctionVersions, LinkAnswer, LinkRole, OpenInvocation } from '../../shared/link/types.ts'
import { makePopKeys } from '../../shared/store/pop-keys.ts'
import type { InvocationResult } from '../../shared/worker/types.ts'
import { openImage, openPages } from '../../pop/sealed-image.ts'
import { sealedBlockId } from '../../shared/store/block-seal.ts'
import { damageBlock } from '../shared/store/store-fixtures.ts'
import { imageObjectId } from '../../shared/store/page-groups.ts'
import { blocksOf as sealedBlocks, decodeSealedManifest } from '../../shared/store/sealed-manifest.ts'
import { FakeBuilder, FakeHost, answer, answerFailure, handlerZip, okResult, startRegion, type TestRegion, type TestRegionOptions } from './fakes.ts'

const ACCOUNT = '000000000000'
const KEYS = makePopKeys()
const POP = { popId: 'pop-1', publicKey: KEYS.publicKey }

interface Teardown {
  teardown(undo: () => Promise<void>): unknown
}

async function make(test: Teardown, options: TestRegionOptions = {}): Promise<TestRegion> {
  const made = await startRegion(options)
  test.teardown(() => made.close())
  return made
}

async function control({ region }: TestRegion, method: string, path: string, body: unknown = null): Promise<Record<string, unknown>> {
  const reply = await region.control({
    requestId: 'r', method, rawPath: `/2015-03-31/functions${path}`, headers: 'authorization\nAWS4-HMAC-SHA256 any', body: body === null ? new Uint8Array(0) : Buffer.from(JSON.stringify(body)), clientIp: '',
  })
  const text = Buffer.from(reply.body).toString()
  if (reply.status >= 300) throw new Error(`${method} ${path}: ${reply.status} ${text}`)
  return text === '' ? {} : JSON.parse(text) as Record<string, unknown>
}

const zip = (text: string): string => Buffer.from(handlerZip(text)).toString('base64')

async function deploy(made: TestRegion, name: string, text = `export const handler = ${JSON.stringify(name)}`): Promise<void> {
  await control(made, 'POST', '', { FunctionName: name, Code: { ZipFile: zip(text) } })
}

/** Everything that came to a sink, in order. */
class Collector implements AnswerSink, LinkAnswer {
  readonly events: string[] = []
  body = ''
  placement: Placement | null = null
  version: string | null = null
  startKind: string | null = null
  result: InvocationResult | null = null
  failure: CodedError | null = null
  readonly over: Promise<this>
  #done: () => void = () => undefined

  constructor() {
    this.over = new Promise((resolve) => {
      this.#done = () => resolve(this)
    })
  }

  started(): void {
    this.events.push('started')
  }

  head(_status: number, _headers: string, third: Placement | string | null, ...rest: readonly [Uint8Array | null, boolean] | readonly [string | null, Uint8Array | null, boolean]): boolean {
    this.events.push('head')
    if (third !== null && typeof third === 'object') this.placement = third
    else this.startKind = third
    const body = rest.length === 2 ? rest[0] : rest[1]
    if (rest.length === 3) this.version = rest[0]
    if (body !== null) this.body += Buffer.from(body).toString()
    return true
  }

  data(chunk: Uint8Array): boolean {
    this.events.push('data')
    this.body += Buffer.from(chunk).toString()
    return false
  }

  bodyEnd(): void {
    this.events.push('bodyEnd')
  }

  end(result: InvocationResult | null, second: Placement | string | null): void {
    this.events.push('end')
    this.result = result
    if (second !== null && typeof second === 'object') this.placement = second
    else this.version = second
    this.#done()
  }

  fail(error: CodedError): void {
    this.events.push('fail')
    this.failure = error
    this.#done()
  }

  error(data: { readonly code: CodedError['code']; readonly params: readonly (string | number)[] }): void {
    this.events.push('error')
    this.failure = CodedError.fromData(data)
    this.#done()
  }

  resumeBody(): void {
    this.events.push('resumeBody')
  }
}

function invocation(functionName: string, more: { readonly qualifier?: string | null; readonly bodyMore?: boolean; readonly body?: Uint8Array | null } = {}): Parameters<TestRegion['region']['invoke']>[0] {
  return {
    requestId: 'request', account: ACCOUNT, functionName, qualifier: more.qualifier ?? null, invocationKind: 'http', method: 'GET', url: 'http://x/', headers: '', body: more.body ?? null, bodyMore: more.bodyMore ?? false,
    clientIp: '', deadlineAtMs: Date.now() + 10_000, wantLogs: false,
  }
}

function run({ region }: TestRegion, functionName: string, more: Parameters<typeof invocation>[1] = {}): Promise<Collector> {
  const sink = new Collector()
  region.invoke(invocation(functionName, more), sink)
  return sink.over
}

function open(functionName: string, more: Partial<OpenInvocation> = {}): OpenInvocation {
  return {
    kind: 'invoke', requestId: 'request', account: ACCOUNT, functionName, qualifier: null, invocationKind: 'event', method: 'POST', url: 'arn', headers: '', body: Buffer.from('{}'), bodyMore: false,
    clientIp: '', remainingMs: 1000, wantLogs: false, reason: 'not-hot', hops: 1, session: null, ring: null, reservation: null, ...more,
  }
}

/** Sealed blocks of a function's own image, in the order of their pages. */
function sealedBlocksOf(made: TestRegion, functionName: string): string[] {
  const objectId = imageObjectId(made.registry.resolve(ACCOUNT, functionName, null).imageId)
  return sealedBlocks(decodeSealedManifest(made.store.openSealed(ACCOUNT, objectId)?.manifest ?? new Uint8Array(0), objectId))
}

await t.test('what does not exist is refused with a code, before anything is loaded', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  t.match(await run(made, 'none'), { events: ['fail'], failure: { code: 'ERR_FUNCTION_NOT_FOUND' } })
  t.match(await run(made, 'f', { qualifier: 'prod' }), { events: ['fail'], failure: { code: 'ERR_RESOURCE_NOT_FOUND' } })
  t.same(made.host.added, [])
})

await t.test('the first call loads base and image, later ones find them', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  const first = await run(made, 'f')
  t.same(first.events, ['head', 'bodyEnd', 'end'])
  t.match(first.placement, { place: 'region', reason: null, version: '$LATEST', startKind: 'cold', stale: false, memoryMib: 128 })
  t.equal(made.host.added.length, 2, 'the parent first')
  t.match((await run(made, 'f')).placement, { startKind: 'warm' })
  t.equal(made.host.added.length, 2)
})

await t.test('concurrent first calls share one load', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  await deploy(made, 'g')
  const all = await Promise.all(Array.from({ length: 40 }, (_each, index) => run(made, index % 2 === 0 ? 'f' : 'g')))
  t.ok(all.every(({ result }) => result?.outcome === 'ok'))
  t.equal(made.host.added.length, 3, 'one base, two images')
})

await t.test('a full host drops the images unused longest, and never one in use', async (t) => {
  const made = await make(t)
  for (const name of ['a', 'b', 'c', 'd']) await deploy(made, name)
  // The base has 3 pages and each function 4: room for two functions.
  made.host.capacityPages = 11
  for (const dropDelayMs of [0, 20]) {
    made.host.dropDelayMs = dropDelayMs
    for (const name of ['a', 'b', 'a', 'c', 'd', 'b']) t.equal((await run(made, name)).result?.outcome, 'ok', name)
    t.ok(made.host.images.size <= 3)
  }
  const held: (() => void)[] = []
  made.host.onInvoke = (each) => held.push(() => answer(each))
  const [first, second] = [run(made, 'a'), run(made, 'c')]
  while (held.length < 2) await new Promise((resolve) => setTimeout(resolve, 5))
  t.match(await run(made, 'b'), { events: ['fail'], failure: { code: 'ERR_NO_CAPACITY' } }, 'all images are in use')
  for (const release of held.splice(0)) release()
  await Promise.all([first, second])
  const third = run(made, 'b')
  while (held.length < 1) await new Promise((resolve) => setTimeout(resolve, 5))
  held[0]?.()
  t.equal((await third).result?.outcome, 'ok')
})

await t.test('an image that was dropped and is wanted again before the host let go of it is kept', async (t) => {
  const made = await make(t)
  for (const name of ['a', 'b']) await deploy(made, name)
  made.host.capacityPages = 7
  made.host.dropDelayMs = 30
  const runs = await Promise.all(['a', 'b', 'a', 'b', 'a', 'b'].map((name) => run(made, name)))
  t.ok(runs.every(({ result, failure }) => result?.outcome === 'ok' || failure?.code === 'ERR_NO_CAPACITY'))
  t.equal((await run(made, 'a')).result?.outcome, 'ok')
})

await t.test('a body that comes while the image is loaded is not lost', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  const sink = new Collector()
  const body = Buffer.from('begin')
  const answering = made.region.invoke(invocation('f', { body, bodyMore: true }), sink)
  body.fill(0)
  answering.write(Buffer.from('middle '))
  answering.write(Buffer.from('end'))
  answering.writeEnd()
  await sink.over
  t.match(JSON.parse(sink.body), { body: 'begin', more: 'middle end' })
  t.ok(made.host.runs[0]?.writeEnded)
})

await t.test('a body beyond the bound ends the wait', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  const sink = new Collector()
  const answering = made.region.invoke(invocation('f', { bodyMore: true }), sink)
  for (let index = 0; index < 3; index += 1) answering.write(new Uint8Array(REQUEST_BODY_MAX_BYTES / 2))
  t.match(await sink.over, { events: ['fail'], failure: { code: 'ERR_BODY_TOO_LARGE' } })
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.equal(made.host.runs.length, 0, 'it was not run')
})

await t.test('a client that goes away while the image is loaded is not run for', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  const sink = new Collector()
  made.region.invoke(invocation('f'), sink).cancel()
  t.match(await sink.over, { events: ['fail'], failure: { code: 'ERR_CANCELED' } })
  await run(made, 'f')
  t.equal(made.host.runs.length, 1)
  made.host.onInvoke = () => undefined
  const running = new Collector()
  const answering = made.region.invoke(invocation('f'), running)
  answering.resume()
  answering.cancel()
  answering.cancel()
  t.match(await running.over, { events: ['end'], result: { outcome: 'canceled' } })
})

await t.test('an update while a call waits runs the new image, not an error', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  const waiting = run(made, 'f')
  const before = made.registry.resolve(ACCOUNT, 'f', null)
  await control(made, 'PUT', '/f/code', { ZipFile: zip('export const handler = "new"') })
  t.equal((await waiting).result?.outcome, 'ok')
  const after = await run(made, 'f')
  t.not((JSON.parse(after.body) as { key: string }).key, before.key)
  t.notOk(made.host.hasImage(before.imageId), 'the old image is dropped')
})

await t.test('an image that is altered on disk is built again, once for all who wait', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  const [block] = sealedBlocksOf(made, 'f')
  const raw = made.environment.table<Buffer>('sealedBlocks', 'binary')
  await made.environment.write({ kind: 'removes' }, () => void raw.put(Buffer.from(block ?? '', 'hex'), Buffer.alloc(4096, 7)))
  const all = await Promise.all(Array.from({ length: 10 }, () => run(made, 'f')))
  t.ok(all.every(({ result, placement }) => result?.outcome === 'ok' && placement?.startKind === 'cold'))
  t.equal(made.builder.requests.length, 2)
  t.same(made.audit(), [])
})

await t.test('an image that cannot be built again is an error with its code', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  const objectId = imageObjectId(made.registry.resolve(ACCOUNT, 'f', null).imageId)
  await made.environment.write({ kind: 'removes' }, () => made.store.tables.removeObject({ account: ACCOUNT, objectId }))
  made.builder.gate = Promise.reject(new CodedError('ERR_BUILD_FAILED', ['broken']))
  made.builder.gate.catch(() => undefined)
  t.match(await run(made, 'f'), { events: ['fail'], failure: { code: 'ERR_STORE_BLOCK' } })
})

await t.test('a builder of another engine than the sandboxes is not asked for every call', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  made.host.engineBuild = 'engine-2'
  for (let call = 0; call < 5; call += 1) t.match(await run(made, 'f'), { failure: { code: 'ERR_STORE_BLOCK' } })
  t.equal(made.builder.requests.length, 2)
})

await t.test('a new engine rebuilds every image in the background, and what is called first is built first', async (t) => {
  const path = (await import('./fakes.ts')).tempDir()
  const builder = new FakeBuilder()
  const old = await startRegion({ path, builder })
  await deploy(old, 'a')
  await control(old, 'POST', '/a/versions', {})
  await control(old, 'PUT', '/a/code', { ZipFile: zip('export const handler = "newer"') })
  await deploy(old, 'b')
  const revision = old.registry.read(ACCOUNT, 'a').function()?.latest.revisionId
  await old.close()
  builder.engineBuild = 'engine-2'
  const host = new FakeHost()
  host.engineBuild = 'engine-2'
  const made = await make(t, { path, builder, host })
  t.match(await run(made, 'b'), { result: { outcome: 'ok' }, placement: { startKind: 'cold' } })
  while (made.registry.staleVersions('engine-2').length > 0) await new Promise((resolve) => setTimeout(resolve, 5))
  t.match(await run(made, 'a', { qualifier: '1' }), { result: { outcome: 'ok' }, placement: { version: '1' } })
  t.equal(made.registry.read(ACCOUNT, 'a').function()?.latest.revisionId, revision, 'clients see no change')
  await made.region.drain(1)
  t.same(made.audit(), [])
  await made.collect()
  t.equal(made.storedImages().length, 4, 'the base and three images, none of the old engine')
})

await t.test('failures of a function reach the front door as they are', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  made.host.onInvoke = (each) => answerFailure(each, 'exceededCpu', { code: 'ERR_LIMIT_CPU', params: [50, 51] })
  t.match(await run(made, 'f'), { events: ['end'], result: { outcome: 'exceededCpu', error: { code: 'ERR_LIMIT_CPU' } }, placement: { version: '$LATEST' } })
})

await t.test('Invoke as a control call answers as Lambda does', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  const invoke = async (body: string, headers = '', path = '/f/invocations'): Promise<{ status: number; headers: string; body: string }> => {
    const reply = await made.region.control({ requestId: 'r', method: 'POST', rawPath: `/2015-03-31/functions${path}`, headers: `authorization\nAWS4-HMAC-SHA256 any${headers}`, body: Buffer.from(body), clientIp: '' })
    return { ...reply, body: Buffer.from(reply.body).toString() }
  }
  t.match(await invoke('', '\nx-amz-client-context\ne30='), { status: 200, headers: /x-amz-executed-version\n\$LATEST/, body: /"body":"{}"/ })
  made.host.onInvoke = (each) => answerFailure(each, 'exception', { code: 'ERR_FUNCTION_EXCEPTION', params: ['boom'] }, { name: 'Error', message: 'boom', stack: 'Error: boom\n    at x' })
  t.match(await invoke('{}', '\nx-amz-log-type\nTail'), { status: 200, headers: /x-amz-log-result\n[\s\S]*x-amz-function-error\nUnhandled/, body: /"errorMessage":"boom"/ })
  made.host.onInvoke = (each) => answerFailure(each, 'loadShed', { code: 'ERR_QUEUE_FULL', params: [9] })
  t.match(await invoke('{}'), { status: 503, headers: /x-amzn-errortype\nServiceException/ })
  made.host.onInvoke = (each) => {
    each.sink.head(200, '', 'warm', null, false)
    for (let index = 0; index < 13; index += 1) each.sink.data(Buffer.alloc(500_000, 0x31))
    each.sink.bodyEnd()
    each.sink.end(okResult)
  }
  t.match(await invoke('{}'), { status: 200, headers: /x-amz-function-error/, body: /Function.ResponseSizeTooLarge/ })
  made.host.onInvoke = (each) => {
    each.sink.head(200, '', 'warm', null, true)
    each.sink.bodyEnd()
    each.sink.end(okResult)
  }
  t.match(await invoke('{}'), { status: 200, body: 'null' })
  t.match(await invoke('{'), { status: 400, headers: /InvalidRequestContentException/ })
  t.match(await invoke('{}', '\nx-amz-invocation-type\nEvent'), { status: 400 })
  t.match(await invoke('{}', '', '/arn%3Aaws%3Alambda%3Aus-east-1%3A999999999999%3Afunction%3Af/invocations'), { status: 404 }, "another account's function is not there")
  t.match(await invoke('{}', '', '/f/invocations?Qualifier=9'), { status: 404 })
  t.match(await invoke('{}', '', '/%E0%A4%A/invocations'), { status: 400 })
})

await t.test('a POP: hops, grants and what does not exist', async (t) => {
  const made = await make(t, { grants: { allows: (popId, _account, name) => popId === 'pop-1' || name !== 'secret' } })
  await deploy(made, 'f')
  await deploy(made, 'secret')
  const { links } = made.region
  const attempt = (popId: string, frame: OpenInvocation, role: LinkRole = 'pop'): string => {
    try {
      links.invoke({ popId, publicKey: '', role }, frame, Date.now() + 1000, new Collector())
      return 'accepted'
    } catch (error) {
      return toCodedError(error).code
    }
  }
  t.equal(attempt('pop-1', open('f', { hops: 2 })), 'ERR_LINK_LOOP')
  t.equal(attempt('node-2', open('f', { hops: 2 }), 'node'), 'accepted')
  t.equal(attempt('node-2', open('secret', { hops: 2 }), 'node'), 'accepted', 'a node has looked at the grants')
  t.equal(attempt('node-2', open('f', { hops: 3 }), 'node'), 'ERR_LINK_LOOP')
  t.equal(attempt('pop-1', open('none')), 'ERR_FUNCTION_NOT_FOUND')
  t.equal(attempt('pop-2', open('secret')), 'ERR_LINK_IDENTITY')
  t.equal(attempt('pop-1', open('secret')), 'accepted')
  t.equal(await links.describe('pop-2', ACCOUNT, 'secret', null), null)
  t.match((await links.snapshot('pop-2', [{ account: ACCOUNT, functionName: 'secret' }])).functions, [{ functionName: 'secret', builds: [] }], 'taken from it, not unknown')
})

await t.test('a POP: what a granted function calls by its bindings runs here, just so and nothing else', async (t) => {
  const made = await make(t, { grants: { allows: (_popId, _account, name) => name === 'front' || name === 'other' } })
  for (const name of ['secret', 'hidden', 'other']) await deploy(made, name)
  await control(made, 'POST', '', { FunctionName: 'front', Code: { ZipFile: zip('export default { fetch() {} }') }, Outpost: { Services: [{ Binding: 'S', Service: 'secret', Entrypoint: 'Named', Props: { tier: 1 } }] } })
  const { links } = made.region
  const attempt = (name: string, change: Partial<OpenInvocation> = {}): string => {
    try {
      links.invoke({ popId: 'pop-1', publicKey: '', role: 'pop' }, open(name, change), Date.now() + 1000, new Collector())
      return 'accepted'
    } catch (error) {
      return toCodedError(error).code
    }
  }
  const by = (functionName: string, version = '$LATEST'): Partial<OpenInvocation> => ({ invocationKind: 'http', chain: { depth: 1, calls: { count: 1 }, caller: { functionName, version } }, selection: selectionLine({ entrypoint: 'Named', handler: 'fetch', props: { tier: 1 } }) })
  t.equal(attempt('secret', by('front')), 'accepted')
  for (const [name, change] of [
    ['secret', {}], ['hidden', by('front')], ['secret', by('other')], ['secret', by('hidden')], ['secret', by('front', '7')],
    ['secret', { ...by('front'), selection: null }], ['secret', { ...by('front'), selection: selectionLine({ entrypoint: 'Named', handler: 'fetch', props: { tier: 2 } }) }],
    ['secret', { ...by('front'), qualifier: '1' }], ['secret', { ...by('front'), invocationKind: 'event' }],
  ] as const) t.equal(attempt(name, change), 'ERR_LINK_IDENTITY', `${name} ${JSON.stringify(change)}`)
  t.equal(await links.describe('pop-1', ACCOUNT, 'secret', null), null, 'and it goes nowhere')
})

await t.test('a POP: the run is announced, relayed with its version and paused', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  await control(made, 'POST', '/f/versions', {})
  await control(made, 'POST', '/f/aliases', { Name: 'prod', FunctionVersion: '1' })
  const whole = new Collector()
  made.region.links.invoke({ popId: 'pop-1', publicKey: '', role: 'pop' }, open('f', { qualifier: 'prod' }), Date.now() + 1000, whole)
  await whole.over
  t.same(whole.events, ['started', 'head', 'bodyEnd', 'end'])
  t.match(whole, { version: '1', startKind: 'cold' })
  const asked: boolean[] = []
  made.host.onInvoke = (each) => {
    each.sink.head(200, '', 'warm', null, false)
    asked.push(each.sink.data(Buffer.from('piece')))
    setImmediate(() => {
      each.sink.bodyEnd()
      each.sink.end(okResult)
    })
  }
  const streamed = new Collector()
  const stream = made.region.links.invoke({ popId: 'pop-1', publicKey: '', role: 'pop' }, open('f', { bodyMore: true }), Date.now() + 1000, streamed)
  const chunk = Buffer.from('more')
  stream.write(chunk)
  chunk.fill(0)
  stream.writeEnd()
  stream.resume()
  await streamed.over
  t.same(streamed.events, ['started', 'head', 'data', 'bodyEnd', 'end'])
  t.same(asked, [false])
  t.match(made.host.runs.at(-1), { resumed: 1, writeEnded: true })
  t.equal(Buffer.concat(made.host.runs.at(-1)?.written ?? []).toString(), 'more', 'bytes of the link are copied')
  made.host.onInvoke = () => undefined
  const canceled = new Collector()
  made.region.links.invoke({ popId: 'pop-1', publicKey: '', role: 'pop' }, open('f'), Date.now() + 1000, canceled).cancel()
  t.match(await canceled.over, { result: { outcome: 'canceled' } })
})

await t.test('a POP: what it needs to run a function itself', async (t) => {
  const made = await make(t)
  const { links } = made.region
  await control(made, 'POST', '', { FunctionName: 'f', Code: { ZipFile: zip('export default { fetch() {} }') }, Outpost: { Secrets: { TOKEN: 'value' } } })
  const described = await links.describe('pop-1', ACCOUNT, 'f', null)
  t.match(described, { seq: 1, routes: [{ weight: 1, build: { functionName: 'f', version: '$LATEST', handlerKind: 'fetch', secrets: { TOKEN: 'value' } } }] })
  t.equal(await links.describe('pop-1', ACCOUNT, 'f', 'none'), null)
  const imageId = described?.routes[0]?.build.imageId
  if (imageId === undefined) return
  const image = { account: ACCOUNT, functionName: 'f', imageId }
  const chain = await links.chain(POP, image, imageId, new Set())
  t.same(chain?.links.map((link) => link.imageId), [...(made.registry.versionOfImage(ACCOUNT, 'f', imageId)?.build.imageIds ?? [])].reverse())
  const under = new Map<number, Uint8Array>()
  for (const { imageId: id, manifest, wrappedKey } of [...(chain?.links ?? [])].reverse()) {
    const opened = openImage(KEYS, id, manifest, wrappedKey)
    const read = links.blocks('pop-1', image, [{ imageId: id, numbers: opened.blocks.map((_, number) => number) }])
    const blocks = await Promise.all(opened.blocks.map(async (_, at) => await read(at)))
    const pages = await openPages(opened, (blockId) => blocks[opened.blocks.indexOf(blockId)] ?? undefined, (index) => under.get(index) ?? ALL_ZEROS(index))
    t.ok(opened.plain.pages.every(([, page]) => pages.has(page)), 'all pages of the image are in it')
    for (const [index, page] of opened.plain.pages) under.set(index, pages.get(page) ?? ALL_ZEROS(index))
  }
  const base = chain?.links.at(-1)?.imageId
  if (base === undefined) return
  t.same((await links.chain(POP, image, imageId, new Set([base])))?.links.map((link) => link.imageId), [imageId], 'what the POP knows is left out')
  t.same((await links.chain(POP, image, base, new Set()))?.links.map((link) => link.imageId), [base])
  t.equal(await links.chain(POP, image, 'f'.repeat(64) as ImageId, new Set()), null)
  t.equal(await links.chain(POP, { ...image, imageId: base }, base, new Set()), null, 'no build runs it')
})

await t.test('a POP: images only in the name of a function that is granted to it, and only of that function', async (t) => {
  const made = await make(t, { grants: { allows: (popId, _account, name) => popId === 'pop-1' || name !== 'secret' } })
  await deploy(made, 'f')
  await control(made, 'POST', '', { FunctionName: 'secret', Code: { ZipFile: zip('export const handler = "of the secret one"') } })
  const { links } = made.region
  const secret = { account: ACCOUNT, functionName: 'secret', imageId: made.registry.resolve(ACCOUNT, 'secret', null).imageId }
  const mine = { account: ACCOUNT, functionName: 'f', imageId: made.registry.resolve(ACCOUNT, 'f', null).imageId }
  const wanted = [{ imageId: secret.imageId, numbers: [0] }]
  t.ok(await links.chain(POP, secret, secret.imageId, new Set()))
  t.ok(await links.blocks('pop-1', secret, wanted)(0))
  await t.rejects(async () => await links.chain({ ...POP, popId: 'pop-2' }, secret, secret.imageId, new Set()), { code: 'ERR_LINK_IDENTITY' })
  t.throws(() => links.blocks('pop-2', secret, wanted), { code: 'ERR_LINK_IDENTITY' })
  t.equal(await links.chain({ ...POP, popId: 'pop-2' }, { ...mine, imageId: secret.imageId }, secret.imageId, new Set()), null, 'in the name of another function')
  t.equal(await links.chain({ ...POP, popId: 'pop-2' }, mine, secret.imageId, new Set()), null)
  t.throws(() => links.blocks('pop-2', mine, wanted), { code: 'ERR_STORE_BLOCK' })
  t.ok(await links.blocks('pop-2', mine, [{ imageId: mine.imageId, numbers: [0] }])(0))
})

await t.test('a POP: a block that is altered on disk is built again while the POP waits', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  const { links } = made.region
  const image = { account: ACCOUNT, functionName: 'f', imageId: made.registry.resolve(ACCOUNT, 'f', null).imageId }
  const [link] = (await links.chain(POP, image, image.imageId, new Set()))?.links ?? []
  if (link === undefined) throw new Error('no chain')
  const { blocks } = openImage(KEYS, image.imageId, link.manifest, link.wrappedKey)
  for (const id of blocks) await damageBlock(made, id)
  const builds = made.builder.requests.length
  const read = links.blocks('pop-1', image, [{ imageId: image.imageId, numbers: blocks.map((_, number) => number) }])
  for (const [at, id] of blocks.entries()) t.equal(sealedBlockId((await read(at)) ?? new Uint8Array(0)), id)
  t.equal(made.builder.requests.length, builds + 1)
  t.same(made.audit(), [])
})

await t.test('a POP: versions of many builds are answered in parts', async (t) => {
  const made = await make(t)
  await deploy(made, 'f')
  const { registry } = made
  const liveBuilds = registry.liveBuilds.bind(registry)
  registry.liveBuilds = (account, name) => (name === 'f' ? liveBuilds(account, name) : { seq: 1, keys: Array.from({ length: 25 }, (_, index) => `${account}/${name}@${index}` as BuildKey) })
  const held = Array.from({ length: 10_000 }, (_, index) => ({ account: ACCOUNT, functionName: `f-${index}` }))
  let answered = 0
  while (answered < held.length) {
    const part = await made.region.links.snapshot('pop-1', held.slice(answered))
    t.ok(part.answered > 0 && part.functions.length * 25 < 4_025)
    if (part.functions[0]?.functionName !== `f-${answered}`) t.fail('out of order')
    answered += part.answered
  }
  t.equal(answered, held.length)
})

await t.test('a POP: every change is told, in order, with the builds that are left', async (t) => {
  const made = await make(t)
  const told: FunctionVersions[] = []
  const stop = made.region.onVersions((versions) => told.push(versions))
  await deploy(made, 'f')
  const first = made.registry.resolve(ACCOUNT, 'f', null).key
  await control(made, 'POST', '/f/versions', {})
  await control(made, 'PUT', '/f/code', { ZipFile: zip('export const handler = 2') })
  const second = made.registry.resolve(ACCOUNT, 'f', null).key
  await control(made, 'DELETE', '/f?Qualifier=1')
  const { links } = made.region
  t.match(await links.snapshot('pop-1', [{ account: ACCOUNT, functionName: 'f' }, { account: ACCOUNT, functionName: 'none' }]), { seq: 4, answered: 2, functions: [{ functionName: 'f', seq: 4, builds: [second] }] })
  const host = made.host.stats()
  t.same(await links.report('pop-1', { epoch: 'e', area: '', sequence: 1, part: 0, parts: 1, periodMs: 1, functions: [], held: [{ account: ACCOUNT, functionName: 'f', builds: [first] }], host }), { seq: 4, load: 0, versions: [{ account: ACCOUNT, functionName: 'f', seq: 4, builds: [second] }], pull: [] })
  await control(made, 'DELETE', '/f')
  stop()
  await deploy(made, 'f')
  t.same(told.map(({ seq }) => seq), [1, 2, 3, 4, 5])
  t.same(told.map(({ builds }) => builds.length), [1, 1, 2, 1, 0])
  t.same(told[2]?.builds, [second, first])
})
