import t from 'tap'
import fc from 'fast-check'
import { IdTable } from '../../shared/id-table.ts'

const id = fc.integer({ min: 1, max: 400 })
const step = fc.oneof(
  fc.record({ kind: fc.constant('add' as const), id }),
  fc.record({ kind: fc.constant('delete' as const), id }),
)

t.test('after any additions and deletions it holds what a Map holds', async (t) => {
  t.doesNotThrow(() => fc.assert(fc.property(fc.array(step, { maxLength: 600 }), fc.constantFrom(1, 64, 65_536), (steps, stride) => {
    const table = new IdTable<string>()
    const model = new Map<number, string>()
    steps.forEach(({ kind, id: number }, index) => {
      // Ids a table's length apart have the same home cell.
      const key = number * stride
      if (kind === 'delete') {
        if (table.delete(key) !== model.delete(key)) throw new Error(`deleting ${key}`)
      } else if (!model.has(key)) {
        table.add(key, `${index}`)
        model.set(key, `${index}`)
      }
    })
    if (table.size !== model.size) throw new Error(`size ${table.size}, not ${model.size}`)
    for (let number = 0; number <= 400; number++) if (table.get(number * stride) !== model.get(number * stride)) throw new Error(`entry ${number * stride}`)
    if ([...table.values()].sort().join() !== [...model.values()].sort().join()) throw new Error('values')
  }), { numRuns: 300 }))
})

t.test('one that stays while millions come and go is still found', async (t) => {
  const table = new IdTable<number>()
  table.add(1, -1)
  for (let number = 2; number < 200_000; number++) {
    table.add(number, number)
    if (number > 40) table.delete(number - 38)
  }
  t.equal(table.get(1), -1)
  t.equal(table.get(199_999), 199_999)
  t.equal(table.size, 40)
})
