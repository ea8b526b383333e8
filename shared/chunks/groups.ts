/**
 * Which files of a bundle can be libraries of their own. Pure: a graph of files in, groups out.
 *
 * An entry is a package's file that the function's own code imports. A group is one or more entries with everything
 * that they import. Entries whose files overlap are one group, unless one of them imports the other as the function
 * does, by its entry: then it depends on it.
 *
 * G1  Every file is in one group or in none: no module is evaluated twice.
 * G2  Files outside of a group import only its entries; what it imports is its own or an entry of a group before it.
 */
export interface FileNode {
  /** In the order of imports. */
  readonly imports: readonly { readonly file: string; readonly kind: 'static' | 'call' | 'dynamic' }[]
  readonly format: 'esm' | 'cjs'
  /** Of a package, not the function's own. */
  readonly isLibrary: boolean
  /** What is left of it when all that the function does not use is gone. */
  readonly usedBytes: number
}

export type FileGraph = ReadonlyMap<string, FileNode>

export interface Group {
  /** Sorted. */
  readonly entries: readonly string[]
  readonly files: ReadonlySet<string>
  readonly dependsOn: readonly Group[]
  readonly usedBytes: number
  /** Some of the function's own code is evaluated before it. */
  readonly ownCodeFirst: boolean
}

interface Draft {
  readonly entries: Set<string>
  readonly closure: Set<string>
}

/** Groups that may be evaluated before the function, in an order in which each comes after those it depends on. */
export function findGroups(graph: FileGraph, start: string): Group[] {
  const entries = new Set<string>()
  const onlyDynamic = new Set<string>()
  for (const { isLibrary, imports } of graph.values()) {
    if (isLibrary) continue
    for (const { file, kind } of imports) {
      if (graph.get(file)?.isLibrary !== true) continue
      if (kind === 'dynamic' && !entries.has(file)) onlyDynamic.add(file)
      if (kind !== 'dynamic') onlyDynamic.delete(file)
      entries.add(file)
    }
  }
  const drafts = merge(graph, [...entries].sort().map((entry) => ({ entries: new Set([entry]), closure: closureOf(graph, entry) })))
  drafts.sort((a, b) => a.closure.size - b.closure.size || (first(a) < first(b) ? -1 : 1))
  const order = evaluationOrder(graph, start)
  const made = new Map<Draft, Group>()
  for (const draft of drafts) {
    const below = drafts.filter((other) => other !== draft && isWithin(other.closure, draft.closure))
    const dependsOn = below.map((other) => made.get(other))
    const files = new Set([...draft.closure].filter((file) => !below.some(({ closure }) => closure.has(file))))
    if (dependsOn.includes(undefined)) continue
    if ([...draft.entries].some((entry) => onlyDynamic.has(entry)) || [...files].some((file) => graph.get(file)?.isLibrary !== true)) continue
    const ownCodeFirst = order.slice(0, Math.max(...[...draft.entries].map((entry) => order.indexOf(entry)))).some((file) => graph.get(file)?.isLibrary === false)
    // Own code could set something up in one library that another reads when it is evaluated.
    if (ownCodeFirst && (draft.entries.size > 1 || dependsOn.length > 0)) continue
    const usedBytes = [...files].reduce((sum, file) => sum + (graph.get(file)?.usedBytes ?? 0), 0)
    made.set(draft, { entries: [...draft.entries].sort(), files, dependsOn: dependsOn.filter((group) => group !== undefined), usedBytes, ownCodeFirst })
  }
  return [...made.values()]
}

/**
 * `groups`, heaviest first, equal ones by name, each after what it depends on: functions that share libraries then share
 * the beginnings of their chains. At most `max`.
 */
export function orderGroups(groups: readonly Group[], bytesOf: (group: Group) => number, max: number): Group[] {
  const ordered: Group[] = []
  const place = (group: Group): void => {
    if (ordered.includes(group)) return
    for (const below of group.dependsOn) place(below)
    ordered.push(group)
  }
  const sorted = [...groups].sort((a, b) => bytesOf(b) - bytesOf(a) || ((a.entries[0] ?? '') < (b.entries[0] ?? '') ? -1 : 1))
  for (const group of sorted) place(group)
  return ordered.slice(0, max)
}

function merge(graph: FileGraph, drafts: Draft[]): Draft[] {
  for (;;) {
    const pair = findOverlap(graph, drafts)
    if (pair === null) return drafts
    const [a, b] = pair
    drafts = [...drafts.filter((draft) => draft !== a && draft !== b), { entries: new Set([...a.entries, ...b.entries]), closure: new Set([...a.closure, ...b.closure]) }]
  }
}

function findOverlap(graph: FileGraph, drafts: readonly Draft[]): readonly [Draft, Draft] | null {
  for (const [index, a] of drafts.entries()) {
    for (const b of drafts.slice(index + 1)) {
      const overlap = [...a.closure].some((file) => b.closure.has(file))
      if (overlap && !isBelow(graph, a, b) && !isBelow(graph, b, a)) return [a, b]
    }
  }
  return null
}

/** G2: all of `below` is within `above`, which reaches it by its entries only. */
function isBelow(graph: FileGraph, below: Draft, above: Draft): boolean {
  if (below.closure.size >= above.closure.size || !isWithin(below.closure, above.closure)) return false
  if ([...above.entries].some((entry) => below.closure.has(entry))) return false
  for (const file of above.closure) {
    if (below.closure.has(file)) continue
    for (const imported of graph.get(file)?.imports ?? []) if (below.closure.has(imported.file) && !below.entries.has(imported.file)) return false
  }
  return true
}

function isWithin(inner: ReadonlySet<string>, outer: ReadonlySet<string>): boolean {
  return inner.size < outer.size && [...inner].every((file) => outer.has(file))
}

function closureOf(graph: FileGraph, entry: string): Set<string> {
  const closure = new Set([entry])
  // A Set takes additions while it is walked.
  for (const file of closure) for (const imported of graph.get(file)?.imports ?? []) closure.add(imported.file)
  return closure
}

/** As modules are evaluated; a CommonJS file runs its own code before what it requires. */
function evaluationOrder(graph: FileGraph, start: string): string[] {
  const order: string[] = []
  const seen = new Set<string>()
  const stack: { readonly file: string; next: number }[] = [{ file: start, next: 0 }]
  seen.add(start)
  if (graph.get(start)?.format === 'cjs') order.push(start)
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const node = graph.get(top.file)
    const imported = node?.imports[top.next++]
    if (imported === undefined) {
      if (node?.format !== 'cjs') order.push(top.file)
      stack.pop()
    } else if (!seen.has(imported.file)) {
      seen.add(imported.file)
      if (graph.get(imported.file)?.format === 'cjs') order.push(imported.file)
      stack.push({ file: imported.file, next: 0 })
    }
  }
  return order
}

function first({ entries }: Draft): string {
  return [...entries].sort()[0] ?? ''
}
