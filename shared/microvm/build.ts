/**
 * Building a function's image: bundle -> bytecode -> layers -> top level -> priming -> capture.
 *
 * B1  No entropy, no secret and no handle may be in an image: a bundle that asks for one at top level is refused with
 *     its line, even if it catches the error.
 * B2  A primed image is kept only if it answers the probe requests exactly as the unprimed one; whatever goes wrong in
 *     priming keeps the image of before, and the report says why.
 * B3  Equal requests give equal images: the clock and randomness are pinned.
 */
import type { CodedErrorData } from '../errors.ts'
import type { HandlerKind } from '../worker/types.ts'
import type { ImageArena, ResidentImage } from './arena.ts'
import { BuildMachine, framesInLine, type ProbeAnswer, type Refusal, type SyntheticRequest } from './build-machine.ts'
import type { GuestValue } from './binding.ts'
import { OWN_CODE, type BuildRequest, type BuildResult, type BuiltImage, type ImageSize, type InseparableChunk } from './build-types.ts'
import { captureSlot, type ParentImage } from './capture.ts'
import { MADE_BY_BUNDLER, mapLines } from './line-tables/map-lines.ts'
import { mapStack } from './line-tables/map-stack.ts'
import { OriginalPlaces } from './line-tables/original-places.ts'
import { type Layer, LayerBuilder, nameUsed, watchGlobals } from './layers.ts'
import { blockOf, globalValues, type RuntimeImages } from './runtime.ts'

/** What top-level code may take; Workers allow 1 s of start-up, but ours is paid once at publish. */
const TOP_LEVEL_MAX_MS = 10_000
const PRIME_MAX_MS = 1_000
const TOP_LEVEL_FRAMES_MAX = 10
const WASM_PAGES_PER_MIB = 16
const KIB_PER_PAGE = 4
const PROMISE_FULFILLED = 1
const PROMISE_REJECTED = 2

const http = (method: string, url: string, headers = '', body: string | null = null): SyntheticRequest => ({ kind: 'http', method, url, headers, body })
const event = (body: string): SyntheticRequest => ({ kind: 'event', method: 'POST', url: 'arn:aws:lambda:local:000000000000:function:probe', headers: '', body })
const JSON_TYPE = 'content-type\napplication/json'

/** What primes a function that declares nothing: the first that it answers without asking the host for anything. */
const DEFAULT_PRIMES: Readonly<Record<HandlerKind, readonly SyntheticRequest[]>> = {
  fetch: [http('GET', 'http://localhost/'), http('POST', 'http://localhost/', JSON_TYPE, '{}')],
  event: [event('{}')],
}

/** Requests on which a primed and an unprimed image must agree. */
const PROBES: readonly SyntheticRequest[] = [
  http('GET', 'http://localhost/'),
  http('GET', 'http://other.example/', 'accept\ntext/html'),
  http('POST', 'http://localhost/', JSON_TYPE, '{"probe":[1,"two",null]}'),
  http('GET', 'http://localhost/probe/a?b=c', 'x-probe\n1\ncookie\na=b'),
  http('HEAD', 'http://third.example:8080/', 'authorization\nBearer probe'),
  http('DELETE', 'http://localhost/probe'),
  event('{}'),
  event('{"probe":{"a":1},"list":[1,2,3]}'),
]

/** `layers` keeps what was built for earlier requests. */
export function buildImage(images: RuntimeImages, arena: ImageArena, request: BuildRequest, layers = new LayerBuilder(images, arena)): BuildResult {
  const startedAtMs = performance.now()
  const refuse = (code: CodedErrorData['code'], ...params: (string | number)[]): BuildResult => ({ kind: 'refused', error: { code, params } })
  const maps = readMaps(request)
  const compiled = compileBundle(images, request, maps)
  if ('code' in compiled) return { kind: 'refused', error: compiled }

  const chain = layers.build(request.chunks)
  if (chain.kind === 'refused') return refuseChunks(chain.chunks)
  const parent = chain.layers.at(-1) ?? { imageId: images.preludeId, image: images.runtime.prelude }
  const inseparable = findInseparable(images, chain.layers, parent.image, request, compiled.bytecode)
  if (inseparable.length > 0) return refuseChunks(inseparable)

  const machine = new BuildMachine(images.runtime, request.limits, parent.image)
  machine.mapStack = maps.mapStack
  const loaded = load(machine, images, request, compiled.bytecode)
  const refusal = machine.refusals[0]
  if (refusal !== undefined) return { kind: 'refused', error: refusalError(refusal) }
  if ('code' in loaded) return { kind: 'refused', error: loaded }

  machine.tidy()
  const take = (workingSet: readonly number[] | null): Candidate => capture(machine, images, arena, parent, workingSet)
  const unprimed = take(null)
  const priming = prime(machine, take, arena, unprimed, request, loaded.handlerKind)
  const chosen = priming.image ?? unprimed
  const leaked = findSecret(machine, images, arena, chosen, request)
  release(arena, [unprimed, priming.image])
  if (leaked !== null) return refuse('ERR_BUNDLE_SECRET', leaked, 'its value was found in the image')
  const warnings = [...maps.warnings, ...machine.warnings.map(({ kind, stack }) => (kind === 'math-random' ? `Math.random at top level gives every request the same values: ${stack}` : `${kind} ${stack}`))]
  return {
    kind: 'built', images: [images.base, images.prelude, ...chain.layers.map(({ built }) => built), chosen.built], handlerKind: loaded.handlerKind, entrypoints: loaded.entrypoints,
    report: { primed: priming.image !== null, primeNote: priming.note, warnings, buildMs: Math.round(performance.now() - startedAtMs), pages: chosen.pages, layers: request.chunks.map(({ name }) => name), images: imageSizes(request, chain.layers, chosen) },
  }
}

/** The largest first. */
function imageSizes({ chunks }: BuildRequest, layers: readonly Layer[], own: Candidate): ImageSize[] {
  const sizes = layers.map(({ pages }, index) => ({ name: (chunks[index]?.name ?? '').replace(/^npm:|#.*$/g, ''), kib: pages * KIB_PER_PAGE }))
  return [...sizes, { name: OWN_CODE, kib: own.pages * KIB_PER_PAGE }].sort((one, other) => other.kib - one.kib)
}

function refuseChunks(inseparable: readonly InseparableChunk[]): BuildResult {
  const why = inseparable.map(({ name, reason }) => `${name}: ${reason}`).join('; ')
  return { kind: 'refused', error: { code: 'ERR_BUILD_FAILED', params: [`no layers can be made of ${why}`] }, inseparable }
}

/** Layers whose being evaluated first the function could notice (L2 of layers.ts). */
function findInseparable(images: RuntimeImages, layers: readonly Layer[], parent: ResidentImage, request: BuildRequest, bytecode: Uint8Array): InseparableChunk[] {
  const { chunks } = request
  const all = (reason: string): InseparableChunk[] => chunks.map(({ name }) => ({ name, reason }))
  if (chunks.length > 0 && parent.virtualPages > request.limits.memoryMib * WASM_PAGES_PER_MIB) return all('it takes more memory than the function may have')
  const named = chunks.filter((_chunk, index) => nameUsed(layers[index]?.globals ?? [], [request]) !== null)
  if (named.length > 0) return named.map(({ name }) => ({ name, reason: 'the function names a global that it sets' }))
  if (chunks.length === 0 || !request.ownCodeFirst) return []
  const { changed, added } = watchGlobals(new BuildMachine(images.runtime, request.limits, parent), (machine) => {
    machine.within(TOP_LEVEL_MAX_MS, () => evaluateTopLevel(machine, images, request, bytecode))
  })
  const what = changed ?? nameUsed(added, chunks)
  return what === null ? [] : all(`the function sets ${what} and is imported before it`)
}

/** Compiled apart: the parser's garbage would stay in the image. */
function compileBundle(images: RuntimeImages, request: BuildRequest, maps: Maps): { readonly bytecode: Uint8Array } | CodedErrorData {
  const machine = new BuildMachine(images.runtime, { ...request.limits, memoryMib: 512 })
  const bytecode = machine.within(TOP_LEVEL_MAX_MS, () => {
    // Imports are looked up when a module is compiled and linked when it is evaluated: here a name is enough.
    for (const { name } of request.chunks) machine.compile('', name)
    return machine.compile(request.source, maps.own === null ? request.fileName : MADE_BY_BUNDLER)
  })
  if (bytecode !== null) return { bytecode: maps.own === null ? bytecode : mapLines(bytecode, maps.own) }
  if (machine.stopped !== null) return machine.stopped
  machine.mapStack = maps.mapStack
  return { code: 'ERR_BUNDLE_SYNTAX', params: [pendingException(machine)] }
}

interface Loaded {
  readonly handlerKind: HandlerKind
  readonly entrypoints: readonly string[]
}

function load(machine: BuildMachine, images: RuntimeImages, request: BuildRequest, bytecode: Uint8Array): Loaded | CodedErrorData {
  const { binding, call } = machine
  const loaded = machine.within(TOP_LEVEL_MAX_MS, (): Loaded | CodedErrorData => {
    const namespace = evaluateTopLevel(machine, images, request, bytecode)
    if (typeof namespace !== 'number') return namespace
    const kind = binding.call(images.runtime.entries.load, [call('qjs_promise_result', namespace)])
    if (binding.isException(kind)) return thrown(machine)
    machine.drainJobs()
    const [handlerKind, ...entrypoints] = binding.string(kind).split('\n')
    if (handlerKind !== 'fetch' && handlerKind !== 'event') return { code: 'ERR_BUNDLE_NO_HANDLER', params: [request.handlerExport ?? request.fileName] }
    return { handlerKind, entrypoints }
  })
  return machine.stopped ?? loaded ?? { code: 'ERR_BUILD_FAILED', params: ['the top level trapped'] }
}

/** The fulfilled promise of the function's module. */
function evaluateTopLevel(machine: BuildMachine, images: RuntimeImages, request: BuildRequest, bytecode: Uint8Array): GuestValue | CodedErrorData {
  const { binding, call } = machine
  const configuration = JSON.stringify({
    vars: request.vars, secretNames: Object.keys(request.secrets), services: request.services ?? [], origin: request.origin ?? null, functionName: request.functionName, version: request.version,
    memoryMib: request.limits.memoryMib, accountId: request.account, arn: request.arn, handlerExport: request.handlerExport,
  })
  if (binding.isException(binding.call(images.runtime.entries.configure, [binding.newString(configuration)]))) return thrown(machine)
  const promise = machine.evaluate(bytecode)
  if (binding.isException(promise)) return thrown(machine)
  const state = call('qjs_promise_state', promise)
  if (state === PROMISE_REJECTED) {
    call('qjs_throw', call('qjs_promise_result', promise))
    return thrown(machine)
  }
  return state === PROMISE_FULFILLED ? promise : { code: 'ERR_BUNDLE_HANDLE', params: ['a promise that never settles', 'top-level await'] }
}

function thrown(machine: BuildMachine): CodedErrorData {
  return { code: 'ERR_BUNDLE_THROWS', params: [pendingException(machine)] }
}

function pendingException(machine: BuildMachine): string {
  const { name, message, stack } = machine.binding.takeException()
  return `${name}: ${message} ${framesInLine(machine.mapStack(stack), TOP_LEVEL_FRAMES_MAX)}`.trim()
}

interface Maps {
  /** Of the function's own code; null: it has none that can be used. */
  readonly own: OriginalPlaces | null
  /** For what code outside of functions reports; everything else is mapped already (line-tables/map-lines.ts). */
  readonly mapStack: (stack: string) => string
  readonly warnings: readonly string[]
}

function readMaps({ source, sourceMap, fileName, chunks }: BuildRequest): Maps {
  const own = sourceMap === null || sourceMap === undefined ? null : OriginalPlaces.read(sourceMap, source)
  const unusable = own === null && sourceMap !== null && sourceMap !== undefined
  // Read when first asked for: most builds report nothing of a library's top level.
  const placesOf = (module: string): OriginalPlaces | null => {
    if (module === MADE_BY_BUNDLER) return own
    const chunk = chunks.find(({ name }) => name === module)
    return chunk?.sourceMap === undefined ? null : OriginalPlaces.read(chunk.sourceMap, chunk.source)
  }
  return {
    own,
    mapStack: (stack) => mapStack(stack, placesOf),
    warnings: unusable ? [`The source map of ${fileName} cannot be used: stacks name lines of the bundle`] : [],
  }
}

interface Candidate {
  readonly built: BuiltImage
  readonly image: ResidentImage
  readonly pages: number
  /** The arena held it before this build, which therefore must not release it. */
  readonly known: boolean
}

function capture(machine: BuildMachine, images: RuntimeImages, arena: ImageArena, parent: ParentImage, workingSet: readonly number[] | null): Candidate {
  const { manifest, built } = captureSlot(machine.slot, images.runtime, parent, arena, 'function', workingSet)
  const known = arena.get(built.imageId) !== undefined
  const image = arena.add(built.imageId, manifest, globalValues(manifest, images.runtime.globalNames), blockOf(built))
  return { built, image, pages: manifest.pages.length, known }
}

/** B2. */
function prime(
  machine: BuildMachine, take: (workingSet: readonly number[]) => Candidate, arena: ImageArena, unprimed: Candidate, request: BuildRequest, handlerKind: HandlerKind,
): { readonly image: Candidate | null; readonly note: string } {
  if (request.prime?.length === 0) return { image: null, note: 'not primed: switched off' }
  const declared = request.prime?.map((path) => http('GET', `http://localhost${path.startsWith('/') ? path : `/${path}`}`))
  const run = declared === undefined ? runFirst(machine, unprimed, DEFAULT_PRIMES[handlerKind]) : runAll(machine, unprimed, declared)
  if (run.problem !== null) return { image: null, note: `not primed: ${run.problem}` }
  const written = machine.slot.dirtyPageIndexes
  machine.tidy()
  const primed = take(written)
  const differing = PROBES.find((probe) => answerOf(machine, unprimed, probe) !== answerOf(machine, primed, probe))
  if (differing === undefined) return { image: primed, note: `primed with ${run.ran}` }
  release(arena, [primed.image.imageId === unprimed.image.imageId ? null : primed])
  return { image: null, note: `not primed: after ${run.ran}, ${describe(differing)} is answered differently` }
}

interface PrimeRun {
  readonly ran: string
  readonly problem: string | null
}

/** The first request that goes well, each tried from the unprimed image. The first one's problem, if none does. */
function runFirst(machine: BuildMachine, from: Candidate, requests: readonly SyntheticRequest[]): PrimeRun {
  let first: PrimeRun | null = null
  for (const request of requests) {
    const run = runAll(machine, from, [request])
    if (run.problem === null) return run
    first ??= run
  }
  return first ?? { ran: '', problem: 'no synthetic request is known' }
}

function runAll(machine: BuildMachine, from: Candidate, requests: readonly SyntheticRequest[]): PrimeRun {
  machine.restore(from.image)
  const ran = requests.map(describe).join(', ')
  for (const request of requests) {
    const problem = describeProblem(machine.request(PRIME_MAX_MS, request))
    if (problem !== null) return { ran, problem: `${describe(request)}: ${problem}` }
  }
  return { ran, problem: null }
}

/** Everything that a probe shows, as one text. */
function answerOf(machine: BuildMachine, candidate: Candidate, probe: SyntheticRequest): string {
  machine.restore(candidate.image)
  const { text, problem, refusals } = machine.request(PRIME_MAX_MS, probe)
  return JSON.stringify([text, problem, refusals.map(({ call, detail }) => `${call} ${detail}`)])
}

function describe({ kind, method, url, body }: SyntheticRequest): string {
  return kind === 'event' ? `the event ${body ?? ''}` : `${method} ${url.replace('http://localhost', '')}`
}

function describeProblem(answer: ProbeAnswer): string | null {
  const refusal = answer.refusals[0]
  if (refusal !== undefined) return `it uses ${refusal.call} (${refusal.detail}) ${refusal.stack}`
  return answer.problem
}

/** A secret whose value stands in the image, by name. Values below 4 bytes would be found by chance. */
function findSecret(machine: BuildMachine, images: RuntimeImages, arena: ImageArena, candidate: Candidate, request: BuildRequest): string | null {
  const secrets = Object.entries(request.secrets).filter(([, value]) => value.length >= 4)
  if (secrets.length === 0) return null
  machine.restore(candidate.image)
  const memory = Buffer.from(machine.slot.bytes)
  const found = secrets.find(([, value]) => memory.includes(Buffer.from(value, 'utf8')) || memory.includes(Buffer.from(value, 'utf16le')))
  return found?.[0] ?? null
}

function release(arena: ImageArena, candidates: readonly (Candidate | null)[]): void {
  for (const candidate of candidates) if (candidate?.known === false) arena.remove(candidate.image.imageId)
}

function refusalError({ call, detail, stack }: Refusal): CodedErrorData {
  switch (call) {
    case 'entropy': return { code: 'ERR_BUNDLE_ENTROPY', params: [stack] }
    case 'secret': return { code: 'ERR_BUNDLE_SECRET', params: [detail, stack] }
    case 'handle': return { code: 'ERR_BUNDLE_HANDLE', params: [detail, stack] }
  }
}
