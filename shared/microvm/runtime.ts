/**
 * What every image of an engine build stands on: the base image (engine and extensions initialised, no code run) and
 * the prelude's image over it. Both are built in each process from the engine's files, with the clock and randomness
 * pinned, so that equal files give equal images everywhere: a function's image names the prelude's as its parent and
 * runs on no other. Addresses that the host trusts come from here, never from a function's image.
 */
import { createHash } from 'node:crypto'
import type { ImageId } from '../brand.ts'
import { CodedError } from '../errors.ts'
import { GUEST_ENTRIES, HOST_CALLS, STOP_CALL } from '../guest/abi.ts'
import { DEFAULT_FUNCTION_LIMITS } from '../limits.ts'
import { ImageArena, type ResidentImage } from './arena.ts'
import { Binding, type GuestValue, SCRATCH_BYTES } from './binding.ts'
import { BuildMachine } from './build-machine.ts'
import type { BuiltImage } from './build-types.ts'
import { captureImage, tidyHeap } from './capture.ts'
import type { Engine } from './engine.ts'
import { createMemories, type EngineExports, type ExtensionBase, type GuestMemories, type HostImports, linkInstance, type LinkedInstance } from './instance.ts'
import type { ImageManifest } from './manifest.ts'
import { CONTROL_OFFSET, INIT_DATA_EXPORT, START_EXPORT } from './rewrite/layout.ts'
import { Slot } from './slot.ts'
import { findStops, type StopPlaces } from './stop-places.ts'

export type GuestEntryName = (typeof GUEST_ENTRIES)[number]

/** Plain values and compiled modules, so that it can be posted to worker threads. */
export interface MachineRuntime {
  readonly engine: Engine
  readonly arena: WebAssembly.Memory
  readonly bases: readonly ExtensionBase[]
  readonly prelude: ResidentImage
  readonly entries: Readonly<Record<GuestEntryName, GuestValue>>
  readonly scratch: number
  readonly undefinedValue: GuestValue
  /** Address of the 8 bytes of Math.random's state. */
  readonly randomState: number
  readonly stops: StopPlaces
  /** A function of the host, for `stops.prepareStack`. */
  readonly stopHook: GuestValue
  /** Names an image's engine; images of another build are refused. */
  readonly engineBuild: string
  readonly globalNames: readonly string[]
}

export interface RuntimeImages {
  readonly runtime: MachineRuntime
  readonly base: BuiltImage
  readonly prelude: BuiltImage
  readonly preludeId: ImageId
}

/** The engine's own stack check trips before V8's: a guest's deep recursion is then an error that it can catch. */
const GUEST_STACK_BYTES = 256 * 1024
/** No collection while an image is made: the builder collects before capture, and sets what a request may have. */
const GC_THRESHOLD_NEVER = 0x7fff_ffff
const FULL_FUEL = 0x7fff_ffff
const BUILD_CLOCK_NS = 1_700_000_000_000_000_000n
const EVAL_GLOBAL = 0
const STRIP_SOURCE = 1 << 4
/** 128 MiB, far above what base and prelude take. */
const BUILD_LIMIT_PAGES = 2048

/** Refuses what needs a run: nothing in base or prelude may ask the host for anything. */
function quietHost(memories: () => GuestMemories): HostImports {
  return {
    hostCall: () => 0,
    refuel: () => {
      control(memories())[0] = FULL_FUEL
      return 0
    },
    interrupt: () => 0,
    promiseRejection: () => undefined,
    clock: (_id, resultPtr) => {
      new DataView(memories().memory.buffer).setBigUint64(resultPtr >>> 0, BUILD_CLOCK_NS, true)
      return 0
    },
    random: (pointer, length) => {
      new Uint8Array(memories().memory.buffer, pointer >>> 0, length >>> 0).fill(0x5a)
      return 0
    },
  }
}

function control({ flags }: GuestMemories): Int32Array {
  return new Int32Array(flags.buffer, CONTROL_OFFSET, 4)
}

/**
 * Builds base and prelude into `arena`. Takes some hundred milliseconds, once per process. `warmUp` uses the prelude
 * once before it is captured, so that what engine and prelude set up lazily is in the image and not in every request.
 */
export function createRuntime(engine: Engine, preludeSource: string, arena: ImageArena, warmUp: ((machine: BuildMachine) => void) | null = null): RuntimeImages {
  const engineBuild = createHash('sha256').update(engine.fingerprint).update(preludeSource).digest('hex').slice(0, 32)
  const { instance, bases } = bootEngine(engine, arena)
  const globalNames = instance.globals.map((_, index) => `g${index}`)
  const base = capture(instance, globalNames, null, arena, 'base', engineBuild, {})
  const baseResident = arena.add(base.built.imageId, base.manifest, globalValues(base.manifest, globalNames), blockOf(base.built))

  const newSlot = (interrupt: (slot: Slot) => number = () => 0): Slot => {
    const slot: Slot = new Slot(engine, arena.memory, bases, baseResident, { ...quietHost(() => slot.instance), interrupt: () => interrupt(slot) })
    slot.arm(BUILD_LIMIT_PAGES)
    slot.grantFuel(FULL_FUEL)
    return slot
  }
  // Compiled in a machine of its own: a parser's memory would stay in every slot.
  const bytecode = compileScript(newSlot(), preludeSource)
  const slot = newSlot()
  const call = engineCaller(slot.instance.engine)
  const scratch = call('wasm_malloc', SCRATCH_BYTES)
  const undefinedValue = call('qjs_get_undefined')
  const binding = new Binding(slot, scratch, undefinedValue)
  const randomState = findRandomState(binding, call)
  const stops = findStops(newSlot)
  const stopHook = newHostFunction(binding, call, STOP_CALL)
  const handles = installPrelude(binding, call, bytecode)
  call('qjs_set_gc_threshold', GC_THRESHOLD_NEVER)
  tidyHeap(slot, call, scratch)
  const entries = { ...handles, scratch, undefinedValue, randomState, stopHook }
  const capturePrelude = (instance: LinkedInstance): { readonly built: BuiltImage; readonly resident: ResidentImage } => {
    const { manifest, built } = capture(instance, globalNames, { imageId: base.built.imageId, image: baseResident }, arena, 'prelude', engineBuild, entries)
    return { built, resident: arena.add(built.imageId, manifest, globalValues(manifest, globalNames), blockOf(built)) }
  }
  const cold = capturePrelude(slot.instance)
  const runtimeOver = (prelude: ResidentImage): MachineRuntime => ({
    engine, arena: arena.memory, bases, prelude, entries: handles, scratch, undefinedValue, randomState, stops, stopHook, engineBuild, globalNames,
  })
  if (warmUp === null) return { runtime: runtimeOver(cold.resident), base: base.built, prelude: cold.built, preludeId: cold.built.imageId }
  const machine = new BuildMachine(runtimeOver(cold.resident), DEFAULT_FUNCTION_LIMITS)
  warmUp(machine)
  machine.tidy()
  const warm = capturePrelude(machine.slot.instance)
  arena.remove(cold.built.imageId)
  return { runtime: runtimeOver(warm.resident), base: base.built, prelude: warm.built, preludeId: warm.built.imageId }
}

/** The mutable globals of a manifest in the order in which slots restore them. */
export function globalValues(manifest: ImageManifest, names: readonly string[]): number[] {
  return names.map((name) => Number(manifest.globals[name] ?? 0))
}

function bootEngine(engine: Engine, arena: ImageArena): { instance: LinkedInstance; bases: ExtensionBase[] } {
  const bases: ExtensionBase[] = []
  const memories = createMemories(engine.main.initialPages)
  control(memories).set([FULL_FUEL, engine.main.initialPages, BUILD_LIMIT_PAGES])
  const linked = linkInstance(engine, arena.memory, memories, quietHost(() => memories), (extension, exports, table, index) => {
    const call = engineCaller(exports)
    if (index === 0) {
      call(INIT_DATA_EXPORT)
      call('_initialize')
      if (call('qjs_init') !== 0) throw new CodedError('ERR_INTERNAL', ['the engine does not start'])
      call('qjs_set_max_stack_size', GUEST_STACK_BYTES)
      call('qjs_set_interrupt_handler', 1)
    }
    const align = 1 << (extension.dylink?.memoryAlign ?? 0)
    const size = extension.dylink?.memoryBytes ?? 0
    const memory = size === 0 ? 0 : Math.ceil(call('wasm_malloc', size + align) / align) * align
    bases.push({ memory, table: table.length })
    return { memory, table: table.length }
  })
  linked.extensions.forEach((exports, index) => {
    for (const name of [INIT_DATA_EXPORT, START_EXPORT, '__wasm_apply_data_relocs', '__wasm_call_ctors']) exports[name]?.()
    const call = engineCaller(linked.engine)
    const init = `qjs_ext_${(engine.extensions[index]?.name ?? '').replaceAll('-', '_')}_init`
    if (exports[init]?.(call('qjs_get_context_ptr'), call('qjs_get_runtime_ptr')) !== 0) {
      throw new CodedError('ERR_INTERNAL', [`the engine extension ${init} does not start`])
    }
  })
  return { instance: linked, bases }
}

/** Bytecode of a script with its line tables and without its source. */
function compileScript(slot: Slot, source: string): Uint8Array {
  const call = engineCaller(slot.instance.engine)
  const binding = new Binding(slot, call('wasm_malloc', SCRATCH_BYTES), call('qjs_get_undefined'))
  const lengthAt = allocateText(binding, call, '    ')
  const at = call('qjs_compile', allocateText(binding, call, source), Buffer.byteLength(source), allocateText(binding, call, 'outpost:prelude'), EVAL_GLOBAL, STRIP_SOURCE, lengthAt) >>> 0
  if (at === 0) throw new CodedError('ERR_INTERNAL', [`the prelude does not compile: ${binding.takeException().message}`])
  return slot.bytes.slice(at, at + binding.argument(lengthAt, 0))
}

function newHostFunction(binding: Binding, call: EngineCall, character: string): GuestValue {
  const at = allocateText(binding, call, character)
  const hostFunction = call('qjs_new_host_function', at, 1, 0)
  call('wasm_free', at)
  return hostFunction
}

/** Calls the prelude's `install(host)` and returns the handles of what it gives back. */
function installPrelude(binding: Binding, call: EngineCall, bytecode: Uint8Array): Record<GuestEntryName, GuestValue> {
  const host = call('qjs_new_object')
  for (const [name, character] of Object.entries(HOST_CALLS)) {
    setProperty(binding, call, host, name, newHostFunction(binding, call, character))
  }
  const code = call('wasm_malloc', bytecode.length) >>> 0
  binding.writeBytes(code, bytecode)
  const install = call('qjs_eval_bytecode', code, bytecode.length)
  call('wasm_free', code)
  const check = (value: GuestValue, what: string): GuestValue => {
    if (!binding.isException(value)) return value
    const { name, message, stack } = binding.takeException()
    throw new CodedError('ERR_INTERNAL', [`the prelude fails in ${what}: ${name}: ${message}\n${stack}`])
  }
  check(install, 'evaluation')
  const entries = check(binding.call(install, [host]), 'install')
  const handle = (name: GuestEntryName): GuestValue => {
    const at = allocateText(binding, call, name)
    const value = call('qjs_get_prop_string', entries, at)
    call('wasm_free', at)
    if (call('qjs_is_function', value) === 0) throw new CodedError('ERR_INTERNAL', [`the prelude does not give ${name}`])
    return value
  }
  const handles = Object.fromEntries(GUEST_ENTRIES.map((name) => [name, handle(name)])) as Record<GuestEntryName, GuestValue>
  while (binding.runJob() > 0);
  return handles
}

/**
 * Where Math.random keeps its state: the 8-byte word of the engine's context that steps as xorshift64* does when
 * Math.random is called (quickjs.c, `xorshift64star`).
 */
function findRandomState(binding: Binding, call: EngineCall): number {
  const context = call('qjs_get_context_ptr')
  const look = (): BigUint64Array => new BigUint64Array(binding.slot.bytes.slice(context, context + 2048).buffer)
  const before = look()
  const code = allocateText(binding, call, 'Math.random()')
  const file = allocateText(binding, call, 'seed')
  call('qjs_eval', code, 13, file, EVAL_GLOBAL)
  const after = look()
  for (let index = 0; index < before.length; index++) {
    let state = before[index] ?? 0n
    if (state === 0n || state === after[index]) continue
    state ^= state >> 12n
    state = BigInt.asUintN(64, state ^ (state << 25n))
    state ^= state >> 27n
    if (state === after[index]) return context + 8 * index
  }
  throw new CodedError('ERR_INTERNAL', ['the state of Math.random was not found in the engine'])
}

export type EngineCall = (name: string, ...values: number[]) => number

export function engineCaller(exports: EngineExports): EngineCall {
  return (name, ...values) => {
    const found = exports[name]
    if (found === undefined) throw new CodedError('ERR_INTERNAL', [`the engine does not export ${name}`])
    return found(...values)
  }
}

/** A NUL-terminated text on the guest's heap. */
export function allocateText(binding: Binding, call: EngineCall, text: string): number {
  const bytes = Buffer.from(`${text}\0`)
  const at = call('wasm_malloc', bytes.length) >>> 0
  if (at === 0) throw new CodedError('ERR_INTERNAL', ['the engine has no memory'])
  binding.writeBytes(at, bytes)
  return at
}

function setProperty(binding: Binding, call: EngineCall, object: GuestValue, name: string, value: GuestValue): void {
  const at = allocateText(binding, call, name)
  call('qjs_set_prop_string', object, at, value)
  call('wasm_free', at)
}

function capture(
  instance: LinkedInstance, names: readonly string[], parent: { readonly imageId: ImageId; readonly image: ResidentImage } | null,
  arena: ImageArena, layer: ImageManifest['layer'], engineBuild: string, entries: Readonly<Record<string, number>>,
): ReturnType<typeof captureImage> {
  const globals = Object.fromEntries(names.map((name, index) => [name, String(instance.globals[index]?.value)]))
  const bytes = new Uint8Array(instance.memory.buffer)
  const virtualPages = control(instance)[1] ?? 0
  return captureImage(bytes, globals, virtualPages, parent, arena, layer, engineBuild, entries)
}

export function blockOf(built: BuiltImage): (id: Parameters<BuiltImage['blocks']['get']>[0]) => Uint8Array {
  return (id) => {
    const block = built.blocks.get(id)
    if (block === undefined) throw new CodedError('ERR_STORE_BLOCK', [id, 'missing'])
    return block
  }
}
