/**
 * Library layers: a chunk is evaluated in a machine that holds the prelude and the chunks before it, and captured. A
 * function's image is then a delta over the last layer, and functions that import the same libraries share their pages
 * in the store and in memory.
 *
 * L1  A layer is a function of its chunk and the chunks before it, and of nothing else: no settings, no account, no
 *     limits of a function. So any function may stand on it.
 * L2  Evaluating a chunk ahead must not be noticed: one that asks for entropy, time, a secret or a handle, that throws or
 *     waits, or that changes anything reachable from the global object, is refused. It may add to the global object
 *     what no other code names. It then cannot matter to other code in which order they are evaluated.
 * L3  Layers are kept, least recently used out first, but never one that another stands on.
 */
import { createHash } from 'node:crypto'
import { DEFAULT_FUNCTION_LIMITS, type FunctionLimits, LAYERS_MAX } from '../limits.ts'
import type { ImageArena } from './arena.ts'
import { BuildMachine } from './build-machine.ts'
import type { BuiltImage, Chunk, InseparableChunk } from './build-types.ts'
import { captureSlot, type ParentImage } from './capture.ts'
import { mapLines } from './line-tables/map-lines.ts'
import { OriginalPlaces } from './line-tables/original-places.ts'
import { allocateText, blockOf, globalValues, type RuntimeImages } from './runtime.ts'

export interface Layer extends ParentImage {
  readonly built: BuiltImage
  /** Pages of 4 KiB in which it differs from what it is over. */
  readonly pages: number
  /** Names that it adds to the global object. */
  readonly globals: readonly string[]
}

export type LayerChain =
  | { readonly kind: 'built'; readonly layers: readonly Layer[] }
  /** All chunks of the request that cannot be layers. */
  | { readonly kind: 'refused'; readonly chunks: readonly InseparableChunk[] }

/** A megabyte each, seldom more. */
const LAYERS_KEPT_MAX = 128
/** Of the arena: the rest is for the layers of one request and the candidates of its image. */
const ARENA_SHARE_MAX = 0.5
const REFUSALS_KEPT_MAX = 1_000
const EVALUATION_MAX_MS = 2_000
/** Of every layer, whatever the function's limits are (L1). */
const LIMITS: FunctionLimits = { ...DEFAULT_FUNCTION_LIMITS, memoryMib: 128 }
const COMPILER_LIMITS: FunctionLimits = { ...DEFAULT_FUNCTION_LIMITS, memoryMib: 512 }
const PROMISE_FULFILLED = 1
const NO_CONFIGURATION = { vars: {}, secretNames: [], functionName: '', version: '', memoryMib: 128, accountId: '', arn: '', handlerExport: null }

export class LayerBuilder {
  readonly #images: RuntimeImages
  readonly #arena: ImageArena
  readonly #keptMax: number
  /** By digest of the chunks up to it; least recently used first. */
  readonly #layers = new Map<string, Layer>()
  /** Why not, by digest of the chunk alone. */
  readonly #refusals = new Map<string, string>()

  constructor(images: RuntimeImages, arena: ImageArena, keptMax = LAYERS_KEPT_MAX) {
    this.#images = images
    this.#arena = arena
    this.#keptMax = keptMax
  }

  build(chunks: readonly Chunk[]): LayerChain {
    if (chunks.length > LAYERS_MAX) return { kind: 'refused', chunks: chunks.slice(LAYERS_MAX).map(({ name }) => ({ name, reason: `a function has ${LAYERS_MAX} layers at most` })) }
    // Before anything is built: what this request needs stays until it is done with it.
    this.#evict()
    const layers: Layer[] = []
    const refused: InseparableChunk[] = []
    let key = ''
    chunks.forEach((chunk, index) => {
      const own = createHash('sha256').update(`${chunk.name}\0${chunk.source}\0${chunk.sourceMap ?? ''}`).digest('hex')
      key = createHash('sha256').update(key).update(own).digest('hex')
      const made = this.#refusals.get(own) ?? this.#layers.get(key) ?? this.#make(chunk, chunks.slice(0, index), layers.at(-1))
      if (typeof made === 'string') {
        refused.push({ name: chunk.name, reason: made })
        this.#keep(this.#refusals, own, made)
        return
      }
      layers.push(made)
      this.#keep(this.#layers, key, made)
      const named = nameUsed(made.globals, chunks.filter((other) => other !== chunk))
      if (named !== null) refused.push({ name: chunk.name, reason: `it sets the global ${named}, which other code names` })
    })
    return refused.length > 0 ? { kind: 'refused', chunks: refused } : { kind: 'built', layers }
  }

  /** Or why not. */
  #make(chunk: Chunk, before: readonly Chunk[], over: Layer | undefined): Layer | string {
    const { runtime, preludeId } = this.#images
    const parent: ParentImage = over ?? { imageId: preludeId, image: runtime.prelude }
    const bytecode = this.#compile(chunk, before)
    if (bytecode === null) return 'it does not compile'
    const outcome: { problem: string | null } = { problem: null }
    const { changed, added } = watchGlobals(new BuildMachine(runtime, LIMITS, parent.image), (trial) => {
      outcome.problem = evaluate(trial, bytecode)
    })
    const problem = outcome.problem ?? (changed === null ? null : `it changes ${changed}`)
    if (problem !== null) return problem

    const machine = new BuildMachine(runtime, LIMITS, parent.image)
    const failed = evaluate(machine, bytecode)
    if (failed !== null) return failed
    machine.tidy()
    const { manifest, built } = captureSlot(machine.slot, runtime, parent, this.#arena, 'layer')
    return { imageId: built.imageId, image: this.#arena.add(built.imageId, manifest, globalValues(manifest, runtime.globalNames), blockOf(built)), built, pages: manifest.pages.length, globals: added }
  }

  #compile({ name, source, sourceMap }: Chunk, before: readonly Chunk[]): Uint8Array | null {
    const machine = new BuildMachine(this.#images.runtime, COMPILER_LIMITS)
    const bytecode = machine.within(EVALUATION_MAX_MS, () => {
      for (const earlier of before) machine.compile('', earlier.name)
      return machine.compile(source, name)
    })
    const places = sourceMap === undefined ? null : OriginalPlaces.read(sourceMap, source)
    return bytecode === null || places === null ? bytecode : mapLines(bytecode, places)
  }

  #keep<T>(map: Map<string, T>, key: string, value: T): void {
    map.delete(key)
    map.set(key, value)
  }

  /** L3. */
  #evict(): void {
    for (const [key, { imageId }] of this.#layers) {
      if (this.#layers.size <= this.#keptMax && this.#arena.usedBytes <= this.#arena.maxBytes * ARENA_SHARE_MAX) break
      if (this.#arena.remove(imageId)) this.#layers.delete(key)
    }
    for (const name of this.#refusals.keys()) {
      if (this.#refusals.size <= REFUSALS_KEPT_MAX) break
      this.#refusals.delete(name)
    }
  }
}

/** What went wrong, or what was asked for that no layer may hold (L2). */
function evaluate(machine: BuildMachine, bytecode: Uint8Array): string | null {
  const { binding, call, entries } = machine
  const clockReads = machine.clockReads
  const problem = machine.within(EVALUATION_MAX_MS, () => {
    binding.call(entries.configure, [binding.newString(JSON.stringify(NO_CONFIGURATION))])
    const promise = machine.evaluate(bytecode)
    if (binding.isException(promise)) return `it throws ${binding.takeException().message}`
    return call('qjs_promise_state', promise) === PROMISE_FULFILLED ? '' : 'its top level throws or waits'
  })
  const refusal = machine.refusals[0]
  if (refusal !== undefined) return `it asks for ${refusal.detail} ${refusal.stack}`
  if (machine.warnings.length > 0) return `it asks for ${machine.warnings[0]?.kind ?? ''}`
  if (problem === null) return `it was stopped: ${machine.stopped?.code ?? 'trap'}`
  if (problem !== '') return problem
  return machine.clockReads === clockReads ? null : 'it asks for the time'
}

/**
 * Notes every property of every object that can be reached from the global object, and compares. The completion value is
 * a function that returns the name of the first property that is not what it was, or `+` and the names that the global
 * object has in addition, each with a comma.
 */
const WATCH = `(() => {
  const { ownKeys, getPrototypeOf, getOwnPropertyDescriptor, isExtensible } = Reflect
  const { is } = Object
  const text = String
  const known = new Set()
  const entries = []
  const firstNotIn = (some, others) => {
    for (let i = 0; i < some.length; i++) {
      let j = 0
      while (j < others.length && others[j] !== some[i]) j++
      if (j === others.length) return some[i]
    }
  }
  const note = (object, path) => {
    if ((typeof object !== 'object' && typeof object !== 'function') || object === null || known.has(object)) return
    known.add(object)
    const keys = ownKeys(object)
    const properties = keys.map((key) => getOwnPropertyDescriptor(object, key))
    entries.push({ object, path, keys, properties, prototype: getPrototypeOf(object), extensible: isExtensible(object) })
    keys.forEach((key, index) => {
      const { value, get, set } = properties[index]
      const inner = path + '.' + text(key)
      note(value, inner)
      note(get, inner)
      note(set, inner)
    })
    note(getPrototypeOf(object), path + '.__proto__')
  }
  note(globalThis, 'globalThis')
  const globals = { __proto__: null }
  for (const key of ownKeys(globalThis)) if (typeof key === 'string') globals[key] = true
  return () => {
    let added = ''
    for (let at = 0; at < entries.length; at++) {
      const { object, path, keys, properties, prototype, extensible } = entries[at]
      if (getPrototypeOf(object) !== prototype || isExtensible(object) !== extensible) return path
      const now = ownKeys(object)
      for (let i = 0, next = 0; i < keys.length || next < now.length; i++, next++) {
        // Symbols come last, so what is new stands before them.
        while (at === 0 && typeof now[next] === 'string' && !(now[next] in globals)) added += now[next++] + ','
        if (now[next] !== keys[i]) return path + '.' + text(firstNotIn(now, keys) ?? firstNotIn(keys, now))
        if (i >= keys.length) break
        const before = properties[i]
        const after = getOwnPropertyDescriptor(object, keys[i])
        if (!is(before.value, after.value) || before.get !== after.get || before.set !== after.set || before.writable !== after.writable || before.enumerable !== after.enumerable || before.configurable !== after.configurable) return path + '.' + text(keys[i])
      }
    }
    return '+' + added
  }
})()`

export interface GlobalChanges {
  /** The first property of any object reachable from the global object that is not as it was; null: none. */
  readonly changed: string | null
  /** New properties of the global object itself. */
  readonly added: readonly string[]
}

/** What `work` changes that other code could see. The machine is of no use for a capture afterwards. */
export function watchGlobals(machine: BuildMachine, work: (machine: BuildMachine) => void): GlobalChanges {
  const { binding, call } = machine
  const unseen: GlobalChanges = { changed: 'an object that cannot be looked at', added: [] }
  const watching = machine.within(EVALUATION_MAX_MS, () => {
    binding.call(machine.entries.configure, [binding.newString(JSON.stringify(NO_CONFIGURATION))])
    const code = allocateText(binding, call, WATCH)
    const file = allocateText(binding, call, 'outpost:watch')
    return call('qjs_eval', code, Buffer.byteLength(WATCH), file, 0)
  })
  if (watching === null || binding.isException(watching)) return unseen
  work(machine)
  const found = machine.within(EVALUATION_MAX_MS, () => {
    const value = binding.call(watching, [])
    return binding.isException(value) ? null : binding.string(value)
  })
  if (found === null) return unseen
  return found.startsWith('+') ? { changed: null, added: found.slice(1).split(',').filter((name) => name !== '') } : { changed: found, added: [] }
}

/** The first of the names that stands in any of the sources, in whatever role. */
export function nameUsed(names: readonly string[], modules: readonly { readonly source: string }[]): string | null {
  return names.find((name) => modules.some(({ source }) => source.includes(name))) ?? null
}
