/**
 * Where a module pays for its running time: at every loop header, and at the entry of every function that can call
 * itself again through others.
 *
 * The call graph has a node for each function and two more: *indirect*, what call_indirect and call_ref may reach, and
 * *outside*, what an imported function may call back. Functions in a component with a cycle pay at entry.
 */
import { OP } from './opcodes.ts'
import { InstructionReader } from './instruction-reader.ts'
import { EXTERNAL_KIND, type DecodedModule } from './module.ts'
import { strongComponents } from './strong-components.ts'
import type { ConstExpression } from './const-expression.ts'

export interface Charges {
  /** By index among the defined functions: what an entry costs; 0 for free. */
  readonly entries: Uint32Array
  /** By order of the loops in the module: what an iteration costs. */
  readonly loops: Uint32Array
}

/** `resolved` gives for each function the one that is really called in its place. */
export function planCharges(module: DecodedModule, resolved: Uint32Array): Charges {
  const functionCount = module.functionTypes.length
  const indirect = functionCount
  const outside = functionCount + 1
  const taken = addressTaken(module)
  const targets: number[] = []
  const first = new Uint32Array(functionCount + 3)
  for (let index = 0; index < module.importedFunctionCount; index++) {
    first[index] = targets.length
    const target = resolved[index] ?? index
    targets.push(target === index ? outside : target)
  }
  let loopCount = 0
  module.bodies.forEach((body, defined) => {
    const index = module.importedFunctionCount + defined
    first[index] = targets.length
    const reader = new InstructionReader(module, body, module.types[module.functionTypes[index] ?? 0]?.parameterCount ?? 0)
    const seen = new Set<number>()
    while (reader.next()) {
      let target = -1
      switch (reader.opcode) {
        case OP.loop: loopCount++; break
        case OP.call: case OP.returnCall: target = resolved[reader.index] ?? reader.index; break
        case OP.callIndirect: case OP.returnCallIndirect: case OP.callRef: case OP.returnCallRef: target = indirect; break
        case OP.refFunc: taken.add(reader.index); break
        default:
      }
      if (target >= 0 && !seen.has(target)) {
        seen.add(target)
        targets.push(target)
      }
    }
  })
  first[indirect] = targets.length
  for (const index of taken) targets.push(resolved[index] ?? index)
  if (sharesTable(module)) targets.push(outside)
  first[outside] = targets.length
  for (const { kind, index } of module.exports) if (kind === EXTERNAL_KIND.function) targets.push(resolved[index] ?? index)
  if (sharesTable(module)) targets.push(indirect)
  first[functionCount + 2] = targets.length
  const { cyclic } = strongComponents(functionCount + 2, first, Uint32Array.from(targets))
  return { entries: Uint32Array.from(module.bodies, (_, defined) => cyclic[module.importedFunctionCount + defined] ?? 0), loops: new Uint32Array(loopCount).fill(1) }
}

/** Functions in element segments, in initial values and in exports of tables: what an indirect call may reach. */
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

/** Whether functions of other modules may be in a table of this one. */
function sharesTable(module: DecodedModule): boolean {
  return module.importedTableCount > 0 || module.exports.some(({ kind }) => kind === EXTERNAL_KIND.table)
}
