/**
 * Where a module pays for its running time. Every payment is one unit of fuel, and a unit stands for a bounded number of
 * instructions, whatever path is taken:
 *
 * F1. Every loop pays at its header, each time around.
 * F2. Every circle of calls pays before one of its calls or at the entry of one of its functions (G1 in call-graph.ts).
 * F3. Every path pays once UNIT_INSTRUCTIONS have passed since the last payment. Without that, sixty functions that
 *     each call the next one twice would run for years without a loop or a circle.
 *
 * For F3 one walk over a function suffices, because blocks branch forward except to loops, and those pay. `cost` is
 * the most that can have been spent since the last payment when the walk is at an instruction; branches carry it to
 * their label, where the larger one counts. A call costs what the callee may leave unpaid when it returns. For a call
 * that pays this may not be known yet, and counts as nothing; the true bound on a unit is three times UNIT_INSTRUCTIONS.
 */
import { buildCallGraph, type CallGraph } from './call-graph.ts'
import { InstructionReader } from './instruction-reader.ts'
import { OP } from './opcodes.ts'
import type { DecodedModule } from './module.ts'

/** A few microseconds at worst, and long enough that few paths of real programs pay for F3. */
const UNIT_INSTRUCTIONS = 2_000
/** A call that costs more is paid at once, mostly on a rare path: else each caller's caller would pay for it in turn. */
const DEAR_CALL = UNIT_INSTRUCTIONS / 2
const UNREACHABLE = -1

/** By defined function, ascending byte offsets of instructions before which one unit is paid. */
export type Charges = readonly Uint32Array[]

export function planCharges(module: DecodedModule, resolved: Uint32Array): Charges {
  const graph = buildCallGraph(module, resolved)
  const { order, indirect, outside, first, targets } = graph
  /** What a call of each node leaves unpaid. */
  const callCosts = new Uint32Array(order.length).fill(1)
  const charges = new Array<Uint32Array>(module.bodies.length).fill(new Uint32Array())
  const walk = new PathWalk(module, graph, resolved, callCosts)
  for (const node of order) {
    const defined = node - module.importedFunctionCount
    if (node === indirect || node === outside) {
      let most = 1
      for (let edge = first[node] ?? 0; edge < (first[node + 1] ?? 0); edge++) most = Math.max(most, callCosts[targets[edge] ?? 0] ?? 1)
      callCosts[node] = most
    } else if (defined >= 0) {
      const { points, unpaid } = walk.walk(defined)
      charges[defined] = points
      callCosts[node] = 1 + unpaid
    }
  }
  return charges
}

interface Frame {
  readonly isLoop: boolean
  /** The most that a branch to the end of this block brings with it. */
  arriving: number
  /** Cost at an `if`, for its other branch; UNREACHABLE once that was taken, and for other blocks. */
  otherBranch: number
}

/** Finds the payments of one function after the other. */
class PathWalk {
  readonly #module: DecodedModule
  readonly #graph: CallGraph
  readonly #resolved: Uint32Array
  readonly #callCosts: Uint32Array

  constructor(module: DecodedModule, graph: CallGraph, resolved: Uint32Array, callCosts: Uint32Array) {
    this.#module = module
    this.#graph = graph
    this.#resolved = resolved
    this.#callCosts = callCosts
  }

  walk(defined: number): { readonly points: Uint32Array; readonly unpaid: number } {
    const body = this.#module.bodies[defined]
    if (body === undefined) throw new RangeError(`no function ${defined}`)
    const reader = new InstructionReader(this.#module, body, defined)
    const node = this.#module.importedFunctionCount + defined
    const points: number[] = this.#graph.payingEntries[node] === 1 ? [reader.offset] : []
    const paying = this.#payingCallees(node)
    const frames: Frame[] = [{ isLoop: false, arriving: UNREACHABLE, otherBranch: UNREACHABLE }]
    /** The most that is left unpaid where the function returns. */
    let unpaid = 0
    let cost = 0
    const pay = (offset: number): void => {
      if (points.at(-1) !== offset) points.push(offset)
      cost = 0
    }
    const branch = (label: number): void => {
      const frame = frames[frames.length - 1 - label]
      if (frame?.isLoop === false && cost > frame.arriving) frame.arriving = cost
    }
    while (reader.next()) {
      let dear = false
      if (cost !== UNREACHABLE) {
        const callee = this.#callee(reader)
        if (paying.has(callee)) pay(reader.start)
        const callCost = callee < 0 ? 1 : (this.#callCosts[callee] ?? 1)
        cost += callCost
        dear = callCost > DEAR_CALL
      }
      switch (reader.opcode) {
        case OP.block: frames.push({ isLoop: false, arriving: UNREACHABLE, otherBranch: UNREACHABLE }); break
        case OP.if: frames.push({ isLoop: false, arriving: UNREACHABLE, otherBranch: cost }); break
        case OP.loop:
          frames.push({ isLoop: true, arriving: UNREACHABLE, otherBranch: UNREACHABLE })
          if (cost !== UNREACHABLE) pay(reader.offset)
          break
        case OP.else: {
          const frame = frames.at(-1)
          if (frame === undefined) break
          frame.arriving = Math.max(frame.arriving, cost)
          cost = frame.otherBranch
          frame.otherBranch = UNREACHABLE
          break
        }
        case OP.end: {
          const frame = frames.pop()
          if (frame !== undefined) cost = Math.max(cost, frame.arriving, frame.otherBranch)
          if (frames.length === 0) unpaid = Math.max(unpaid, cost)
          break
        }
        case OP.brIf: case OP.brOnNull: case OP.brOnNonNull: branch(reader.index); break
        case OP.br: case OP.brTable:
          if (reader.opcode === OP.br) branch(reader.index)
          else reader.labels.forEach(branch)
          cost = UNREACHABLE
          break
        case OP.return: case OP.unreachable: case OP.returnCall: case OP.returnCallIndirect: case OP.returnCallRef:
          unpaid = Math.max(unpaid, cost)
          cost = UNREACHABLE
          break
        default:
      }
      if ((cost > UNIT_INSTRUCTIONS || (dear && cost !== UNREACHABLE)) && frames.length > 0) pay(reader.offset)
    }
    return { points: Uint32Array.from(points), unpaid }
  }

  #payingCallees(node: number): Set<number> {
    const { first, targets, payingCalls } = this.#graph
    const found = new Set<number>()
    for (let edge = first[node] ?? 0; edge < (first[node + 1] ?? 0); edge++) if (payingCalls[edge] === 1) found.add(targets[edge] ?? 0)
    return found
  }

  /** The node that an instruction calls; -1 for none. */
  #callee(reader: InstructionReader): number {
    switch (reader.opcode) {
      case OP.call: case OP.returnCall: {
        const target = this.#resolved[reader.index] ?? reader.index
        return target < this.#module.importedFunctionCount ? this.#graph.outside : target
      }
      case OP.callIndirect: case OP.returnCallIndirect: case OP.callRef: case OP.returnCallRef: return this.#graph.indirect
      default: return -1
    }
  }
}
