/**
 * Tarjan's algorithm without recursion, on a graph whose edges of node n are `targets[first[n]] .. targets[first[n + 1] - 1]`.
 * Pure. Memory and time are linear in nodes and edges.
 */
export interface StrongComponents {
  /** 1 for each node on a cycle: one with an edge to itself, or in a component with others. */
  readonly cyclic: Uint8Array
  /** A number for each node, the same for nodes that reach each other. */
  readonly component: Uint32Array
  /** All nodes, each after every node that it reaches and that does not reach it. */
  readonly order: Uint32Array
}

/** Edges whose entry in `without` is 1 are not followed. */
export function strongComponents(nodeCount: number, first: Uint32Array, targets: Uint32Array, without: Uint8Array): StrongComponents {
  const cyclic = new Uint8Array(nodeCount)
  const component = new Uint32Array(nodeCount)
  const order = new Uint32Array(nodeCount)
  /** Visit number, from 1; 0 is unvisited. */
  const visit = new Uint32Array(nodeCount)
  const low = new Uint32Array(nodeCount)
  const onStack = new Uint8Array(nodeCount)
  const cursor = first.slice()
  const stack = new Uint32Array(nodeCount)
  const path = new Uint32Array(nodeCount)
  let visits = 0
  let stackSize = 0
  let pathSize = 0
  let ordered = 0
  const enter = (node: number): void => {
    visit[node] = low[node] = ++visits
    onStack[node] = 1
    stack[stackSize++] = node
    path[pathSize++] = node
  }
  for (let root = 0; root < nodeCount; root++) {
    if (at(visit, root) !== 0) continue
    enter(root)
    while (pathSize > 0) {
      const node = at(path, pathSize - 1)
      const edge = at(cursor, node)
      if (edge < at(first, node + 1)) {
        cursor[node] = edge + 1
        if (without[edge] === 1) continue
        const target = at(targets, edge)
        if (target === node) cyclic[node] = 1
        if (at(visit, target) === 0) enter(target)
        else if (onStack[target] === 1) low[node] = Math.min(at(low, node), at(visit, target))
        continue
      }
      pathSize--
      if (pathSize > 0) {
        const parent = at(path, pathSize - 1)
        low[parent] = Math.min(at(low, parent), at(low, node))
      }
      if (at(low, node) !== at(visit, node)) continue
      const alone = at(stack, stackSize - 1) === node
      for (;;) {
        const member = at(stack, --stackSize)
        onStack[member] = 0
        component[member] = node
        order[ordered++] = member
        if (!alone) cyclic[member] = 1
        if (member === node) break
      }
    }
  }
  return { cyclic, component, order }
}

function at(array: Uint32Array, index: number): number {
  return array[index] ?? 0
}
