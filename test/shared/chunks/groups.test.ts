/** Which libraries may be evaluated apart, and in what order, on graphs drawn by hand. */
import t from 'tap'
import { type FileGraph, type FileNode, findGroups, type Group, orderGroups } from '../../../shared/chunks/groups.ts'

/** `a -> b c` lines: an import each; `?b` dynamic, `!b` by a call. Upper case: libraries. `name:cjs` sets the format. */
function graph(text: string): FileGraph {
  const kindOf = (mark: string): FileNode['imports'][number]['kind'] => (mark === '?' ? 'dynamic' : mark === '!' ? 'call' : 'static')
  const nodes = new Map<string, FileNode>()
  for (const line of text.trim().split('\n')) {
    const [head = '', tail = ''] = line.split('->')
    const [file = '', format = 'esm'] = head.trim().split(':')
    const imports = tail.trim().split(/\s+/).filter((each) => each !== '').map((each) => ({ file: each.replace(/^[?!]/, ''), kind: kindOf(each.slice(0, 1)) }))
    nodes.set(file, { imports, format: format === 'cjs' ? 'cjs' : 'esm', isLibrary: /^[A-Z]/.test(file), usedBytes: 10 })
  }
  return nodes
}

/** A bundle has no other files. */
function reachable(nodes: FileGraph): FileGraph {
  const files = new Set(['main'])
  for (const file of files) for (const imported of nodes.get(file)?.imports ?? []) files.add(imported.file)
  return new Map([...nodes].filter(([file]) => files.has(file)))
}

const show = (groups: readonly Group[]): string[] => groups.map(({ entries, files, dependsOn, ownCodeFirst }) => {
  const below = dependsOn.map((group) => group.entries.join('+')).join(',')
  return `${entries.join('+')} = ${[...files].sort().join(' ')}${below === '' ? '' : ` over ${below}`}${ownCodeFirst ? ' late' : ''}`
}).sort()

for (const [what, text, expected] of [
  ['one library', 'main -> A\nA -> A1\nA1 ->', ['A = A A1']],
  ['two that share nothing', 'main -> A B\nA ->\nB ->', ['A = A', 'B = B']],
  ['two entries with a file in common are one', 'main -> A B\nA -> S\nB -> S\nS ->', ['A+B = A B S']],
  ['one that imports the other by its entry stands on it', 'main -> A B\nA -> A1\nA1 ->\nB -> A B1\nB1 ->', ['A = A A1', 'B = B B1 over A']],
  ['one that reaches into the other is one with it', 'main -> A B\nA -> A1\nA1 ->\nB -> A1\n', ['A+B = A A1 B']],
  ['libraries in a circle are one', 'main -> A B\nA -> B\nB -> A', ['A+B = A B']],
  ['a library that imports own code is none', 'main -> A\nA -> own\nown ->', []],
  ['imported when it runs only', 'main -> ?A\nA ->', []],
  ['imported when it runs and before', 'main -> ?A other\nother -> A\nA ->', ['A = A']],
  ['own code before it', 'main -> own A\nown ->\nA ->', ['A = A late']],
  ['own CommonJS code runs before what it requires', 'main:cjs -> !A\nA:cjs ->', ['A = A late']],
  ['own code between two that know each other', 'main -> A own B\nown -> A\nA ->\nB -> A', ['A = A']],
  ['own code between two entries of one', 'main -> A own B\nown ->\nA -> S\nB -> S\nS ->', []],
] as const) {
  t.test(what, (t) => {
    t.same(show(findGroups(graph(text), 'main')), expected)
    t.end()
  })
}

t.test('the order: heaviest first, then by name, each after what it depends on, and no more than there may be', (t) => {
  const groups = findGroups(graph('main -> A B C D\nA ->\nB -> A\nC ->\nD ->'), 'main')
  const bytes: Record<string, number> = { A: 1, B: 50, C: 20, D: 20 }
  const ordered = (max: number): string[] => orderGroups(groups, ({ entries }) => bytes[entries[0] ?? ''] ?? 0, max).map(({ entries }) => entries.join('+'))
  t.same(ordered(9), ['A', 'B', 'C', 'D'])
  t.same(ordered(2), ['A', 'B'])
  t.end()
})

t.test('no file is in two groups, whatever the graph is', (t) => {
  const broken: string[] = []
  let seed = 1
  const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below
  for (let round = 0; round < 500; round++) {
    const names = Array.from({ length: 3 + random(9) }, (_each, index) => (index === 0 ? 'main' : index % 4 === 3 ? `own${index}` : `L${index}`))
    const text = names.map((name) => `${name} -> ${names.filter((other) => other !== 'main' && !(name.startsWith('L') && other.startsWith('own')) && random(4) === 0).join(' ')}`).join('\n')
    const nodes = reachable(graph(text))
    const groups = findGroups(nodes, 'main')
    const all = groups.flatMap(({ files }) => [...files])
    if (new Set(all).size !== all.length) broken.push(text)
    for (const { files } of groups) {
      for (const [file, { imports }] of nodes) {
        if (files.has(file)) continue
        const entries = new Set(groups.flatMap((group) => group.entries))
        for (const imported of imports) if (files.has(imported.file) && !entries.has(imported.file)) broken.push(`${file} reaches into a group at ${imported.file}:\n${text}`)
      }
    }
  }
  t.same(broken, [])
  t.end()
})
