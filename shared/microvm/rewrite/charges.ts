/**
 * What a module pays, and where. One unit of fuel stands for up to UNIT_INSTRUCTIONS instructions, whatever path is taken:
 *
 * F1. A loop pays at its header, each time around, for the longest way through its body.
 * F2. A function that the call graph tells to pay does so at its entry, for the longest way through it outside of
 *     loops. So does one whose way is longer than FREE_INSTRUCTIONS: without that, sixty functions that each call the
 *     next one twice would run for years without a loop or a cycle.
 * F3. What a call of a function that does not pay costs is counted where it is called, so nothing goes unpaid but up
 *     to FREE_INSTRUCTIONS of a call from the host.
 *
 * The longest way is found in one walk, because wasm's blocks only branch forward but for loops: `cost` is the most that
 * can have been spent since the last payment when the walk is at an instruction, and branches carry it to their label.
 */
import { buildCallGraph, type CallGraph } from './call-graph.ts'
import { InstructionReader } from './instruction-reader.ts'
import { OP } from './opcodes.ts'
import type { DecodedModule } from './module.ts'

/** Instructions that one unit stands for at most: two to the power of this. */
const UNIT_SHIFT = 7
/** The longest way through a function that may be free. */
const FREE_INSTRUCTIONS = 2_000
/** Costs stop here, which keeps every charge far from the sign of fuel. */
const COST_MAX = 1 << 28
const UNREACHABLE = -1

export interface Charges {
  /** By index among the defined functions: what an entry costs; 0 for free. */
  readonly entries: Uint32Array
  /** By defined function: what an iteration of each of its loops costs, in the order of their headers. */
  readonly loops: readonly (readonly number[])[]
  /** What a call through a table or a reference costs, and a call of an import; 0 for free. */
  readonly indirectCall: number
  readonly outsideCall: number
}

export function planCharges(module: DecodedModule, resolved: Uint32Array): Charges {
  const graph = buildCallGraph(module, resolved)
  const { order, paying, indirect, outside, first, targets } = graph
  /** What a call of each node costs its caller: 1, and the whole way if the node does not pay. */
  const callCosts = new Float64Array(paying.length).fill(1)
  const entries = new Uint32Array(module.bodies.length)
  const loops = new Array<readonly number[]>(module.bodies.length).fill([])
  const walk = new PathWalk(module, graph, resolved, callCosts)
  for (const node of order) {
    const defined = node - module.importedFunctionCount
    if (node === indirect || node === outside) {
      let most = 1
      for (let edge = first[node] ?? 0; edge < (first[node + 1] ?? 0); edge++) most = Math.max(most, callCosts[targets[edge] ?? 0] ?? 1)
      callCosts[node] = most
    } else if (defined >= 0) {
      const way = walk.longest(defined)
      loops[defined] = way.loops.map(unitsOf)
      if (paying[node] === 1 || way.cost > FREE_INSTRUCTIONS) entries[defined] = unitsOf(way.cost)
      else callCosts[node] = 1 + way.cost
    }
  }
  return { entries, loops, indirectCall: paying[indirect] ?? 0, outsideCall: paying[outside] ?? 0 }
}

function unitsOf(cost: number): number {
  return 1 + (cost >>> UNIT_SHIFT)
}

interface Frame {
  /** The loop that the block is in, as a depth in `#loops`; its own for a loop. */
  loopDepth: number
  isLoop: boolean
  /** The most that a branch to the end of this block brings with it. */
  arriving: number
  /** Cost at an `if`, for its other branch; UNREACHABLE once that was taken, and for other blocks. */
  otherBranch: number
}

/** Finds the longest ways through a function. */
class PathWalk {
  readonly #module: DecodedModule
  readonly #graph: CallGraph
  readonly #resolved: Uint32Array
  readonly #callCosts: Float64Array

  constructor(module: DecodedModule, graph: CallGraph, resolved: Uint32Array, callCosts: Float64Array) {
    this.#module = module
    this.#graph = graph
    this.#resolved = resolved
    this.#callCosts = callCosts
  }

  longest(defined: number): { readonly cost: number; readonly loops: readonly number[] } {
    const body = this.#module.bodies[defined]
    if (body === undefined) throw new RangeError(`no function ${defined}`)
    const reader = new InstructionReader(this.#module, body, defined)
    /** Longest ways through the function and each loop, by the order of their headers. */
    const ways = [0]
    /** The function and the loops around the walk: index in `ways`, and the cost outside when the loop was entered. */
    const around = [{ way: 0, costBefore: 0 }]
    const frames: Frame[] = [{ loopDepth: 0, isLoop: false, arriving: UNREACHABLE, otherBranch: UNREACHABLE }]
    let cost = 0

    const reach = (): void => {
      const way = around.at(-1)?.way ?? 0
      if (cost > (ways[way] ?? 0)) ways[way] = cost
    }
    const branch = (label: number): void => {
      const frame = frames[frames.length - 1 - label]
      if (frame === undefined || cost === UNREACHABLE) return
      // Leaving loops leaves behind what they paid for; what was spent before the outermost of them comes along.
      const brought = frame.loopDepth === around.length - 1 ? cost : (around[frame.loopDepth + 1]?.costBefore ?? 0)
      if (!frame.isLoop && brought > frame.arriving) frame.arriving = brought
    }
    const end = (): void => {
      reach()
      cost = UNREACHABLE
    }

    while (reader.next()) {
      if (cost !== UNREACHABLE) cost = Math.min(cost + this.#costOf(reader), COST_MAX)
      switch (reader.opcode) {
        case OP.block: case OP.if:
          frames.push({ loopDepth: around.length - 1, isLoop: false, arriving: UNREACHABLE, otherBranch: reader.opcode === OP.if ? cost : UNREACHABLE })
          break
        case OP.loop:
          reach()
          around.push({ way: ways.length, costBefore: cost })
          ways.push(0)
          frames.push({ loopDepth: around.length - 1, isLoop: true, arriving: UNREACHABLE, otherBranch: UNREACHABLE })
          if (cost !== UNREACHABLE) cost = 0
          break
        case OP.else: {
          reach()
          const frame = frames.at(-1)
          if (frame === undefined) break
          frame.arriving = Math.max(frame.arriving, cost)
          cost = frame.otherBranch
          frame.otherBranch = UNREACHABLE
          break
        }
        case OP.end: {
          reach()
          const frame = frames.pop()
          if (frame === undefined) break
          if (frame.isLoop) {
            const loop = around.pop()
            if (cost !== UNREACHABLE) cost = loop?.costBefore ?? 0
          } else cost = Math.max(cost, frame.arriving, frame.otherBranch)
          break
        }
        case OP.br:
          branch(reader.index)
          end()
          break
        case OP.brIf: case OP.brOnNull: case OP.brOnNonNull: branch(reader.index); reach(); break
        case OP.brTable:
          reader.labels.forEach(branch)
          end()
          break
        case OP.return: case OP.unreachable: case OP.returnCall: case OP.returnCallIndirect: case OP.returnCallRef: end(); break
        default:
      }
    }
    return { cost: ways[0] ?? 0, loops: ways.slice(1) }
  }

  #costOf(reader: InstructionReader): number {
    switch (reader.opcode) {
      case OP.call: case OP.returnCall: return this.#callCosts[this.#resolved[reader.index] ?? reader.index] ?? 1
      case OP.callIndirect: case OP.returnCallIndirect: case OP.callRef: case OP.returnCallRef: return this.#callCosts[this.#graph.indirect] ?? 1
      default: return 1
    }
  }
}
