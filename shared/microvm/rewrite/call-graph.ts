/**
 * Who may call whom, and which calls must pay so that nothing can call in circles for free.
 *
 * The graph has a node for each function and two more: *indirect*, what call_indirect and call_ref may reach, and
 * *outside*, what an imported function may call back into this module. If functions of others may be in our tables, or
 * ours in theirs, both reach all that is exported or has its address taken.
 *
 * G1. Without its paying edges the graph has no circle.
 * G2. Few calls pay. Circles are cut at their largest function, whose own work outweighs the payment, which it makes at
 *     its entry. If even the largest is small, only calls that can be part of the circle pay: a small function that
 *     may call itself in a rare case, as those that free nested values do, costs nothing more when called from elsewhere.
 */
import { OP } from './opcodes.ts'
import { InstructionReader } from './instruction-reader.ts'
import { EXTERNAL_KIND, type DecodedModule } from './module.ts'
import { strongComponents } from './strong-components.ts'
import type { ConstExpression } from './const-expression.ts'

export interface CallGraph {
  readonly indirect: number
  readonly outside: number
  /** Edges of node n are `targets[first[n]]` up to `targets[first[n + 1] - 1]`. */
  readonly first: Uint32Array
  readonly targets: Uint32Array
  /** By edge: 1 if these calls pay before they call. */
  readonly payingCalls: Uint8Array
  /** By node: 1 for a function that pays at its entry. */
  readonly payingEntries: Uint8Array
  /** All nodes, each after every node that it calls without a payment. */
  readonly order: Uint32Array
}

/** More than any function has, for the two nodes that are none. */
const VIRTUAL_SIZE = 0xffffffff
/** Bytes of code from which a function pays at its entry: some hundred instructions. */
const ENTRY_BYTES_MIN = 1_000
/** Rounds of choosing where to cut, and edges looked at in all of them together; then every call within a circle pays. */
const ROUNDS_MAX = 64
const EDGE_VISITS_MAX = 20_000_000

/** `resolved` gives for each function the one that is really called in its place. */
export function buildCallGraph(module: DecodedModule, resolved: Uint32Array): CallGraph {
  const functionCount = module.functionTypes.length
  const indirect = functionCount
  const outside = functionCount + 1
  const taken = addressTaken(module)
  const targets: number[] = []
  const first = new Uint32Array(functionCount + 3)
  /** The node of a function: all imported ones are one. */
  const nodeOf = (index: number): number => {
    const target = resolved[index] ?? index
    return target < module.importedFunctionCount ? outside : target
  }
  // The last function that named a target, so that an edge is listed once.
  const namedBy = new Int32Array(functionCount + 2).fill(-1)
  module.bodies.forEach((body, defined) => {
    const index = module.importedFunctionCount + defined
    first[index] = targets.length
    const reader = new InstructionReader(module, body, defined)
    while (reader.next()) {
      let target = -1
      switch (reader.opcode) {
        case OP.call: case OP.returnCall: target = nodeOf(reader.index); break
        case OP.callIndirect: case OP.returnCallIndirect: case OP.callRef: case OP.returnCallRef: target = indirect; break
        case OP.refFunc: taken.add(reader.index); break
        default:
      }
      if (target < 0 || namedBy[target] === index) continue
      namedBy[target] = index
      targets.push(target)
    }
  })
  // No edge joins the two nodes that are none, or a circle could be cut where no call is.
  const ownTaken = [...taken].map(nodeOf).filter((node) => node !== outside)
  const ownExported = module.exports.flatMap(({ kind, index }) => (kind === EXTERNAL_KIND.function ? [nodeOf(index)] : [])).filter((node) => node !== outside)
  const shared = sharesFunctions(module)
  first[indirect] = targets.length
  for (const node of ownTaken) targets.push(node)
  if (shared || ownTaken.length < taken.size) for (const node of ownExported) targets.push(node)
  first[outside] = targets.length
  for (const node of ownExported) targets.push(node)
  if (shared) for (const node of ownTaken) targets.push(node)
  first[functionCount + 2] = targets.length
  const edges = Uint32Array.from(targets)
  const sizes = Uint32Array.from({ length: functionCount + 2 }, (_, node) => {
    const body = module.bodies[node - module.importedFunctionCount]
    // Calls through a table or to the host are slow anyway: circles through them are cut there first.
    return node >= functionCount ? VIRTUAL_SIZE : body === undefined ? 0 : body.end - body.start
  })
  return { ...choosePaying(first, edges, sizes), indirect, outside, first, targets: edges }
}

/**
 * Cuts each component that has a circle at its largest node, until no circle is left. `indirect` and `outside` come
 * first, so that what is cut are edges from functions, which stand for calls.
 */
function choosePaying(first: Uint32Array, targets: Uint32Array, sizes: Uint32Array): Pick<CallGraph, 'payingCalls' | 'payingEntries' | 'order'> {
  const nodeCount = sizes.length
  const cut = new Uint8Array(targets.length)
  const payingCalls = new Uint8Array(targets.length)
  const payingEntries = new Uint8Array(nodeCount)
  for (let round = 1; ; round++) {
    const { cyclic, component, order } = strongComponents(nodeCount, first, targets, cut)
    if (!cyclic.includes(1)) return { payingCalls, payingEntries, order }
    const all = round > ROUNDS_MAX || round * targets.length > EDGE_VISITS_MAX
    /** By component, one more than its largest node; 0 for a component without a circle. */
    const largest = new Uint32Array(nodeCount)
    for (let node = 0; node < nodeCount; node++) {
      if (cyclic[node] === 0) continue
      const id = component[node] ?? 0
      const best = largest[id] ?? 0
      if (best === 0 || (sizes[node] ?? 0) > (sizes[best - 1] ?? 0)) largest[id] = node + 1
    }
    for (let node = 0; node < nodeCount; node++) {
      if (cyclic[node] === 0) continue
      for (let edge = first[node] ?? 0; edge < (first[node + 1] ?? 0); edge++) {
        const target = targets[edge] ?? 0
        if (component[target] !== component[node] || (!all && largest[component[node] ?? 0] !== target + 1)) continue
        cut[edge] = 1
        const size = sizes[target] ?? 0
        if (size >= ENTRY_BYTES_MIN && size < VIRTUAL_SIZE) payingEntries[target] = 1
        else payingCalls[edge] = 1
      }
    }
  }
}

/** Functions in element segments and in initial values: what an indirect call may reach, with those of ref.func. */
function addressTaken(module: DecodedModule): Set<number> {
  const taken = new Set<number>()
  const add = (expression: ConstExpression | null): void => {
    for (const { index } of expression?.functions ?? []) taken.add(index)
  }
  for (const { content } of module.elements) {
    if (content.kind === 'functions') for (const index of content.indices) taken.add(index)
    else content.expressions.forEach(add)
  }
  for (const { initial } of module.globals) add(initial)
  for (const { initial } of module.tables) add(initial)
  return taken
}

/** Whether functions of other modules may be in a table of this one, or come in as references. */
function sharesFunctions(module: DecodedModule): boolean {
  return module.takesReferences || module.importedTableCount > 0 || module.exports.some(({ kind }) => kind === EXTERNAL_KIND.table)
}
