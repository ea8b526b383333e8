/** Every write to guest memory sets the flags of its pages, no more and no less, and changes nothing else. */
import t from 'tap'
import fc from 'fast-check'
import { STORE_KINDS, type StoreKind } from '../../../../shared/microvm/rewrite/index.ts'
import { machine, outcomeOf, plain, rewrite, wat, type Value } from './modules.ts'

interface Form {
  readonly kind: StoreKind
  /** Text of the instruction, with `OFFSET` for the constant offset. */
  readonly text: string
  readonly bytes: number
  /** Makes the operand of the store from the i64 parameter. */
  readonly value: string
}

const V128 = '(i64x2.splat (local.get 1))'
const STORES: readonly Form[] = [
  { kind: 'i32.store', text: 'i32.store OFFSET', bytes: 4, value: '(i32.wrap_i64 (local.get 1))' },
  { kind: 'i64.store', text: 'i64.store OFFSET', bytes: 8, value: '(local.get 1)' },
  { kind: 'f32.store', text: 'f32.store OFFSET', bytes: 4, value: '(f32.convert_i64_s (local.get 1))' },
  { kind: 'f64.store', text: 'f64.store OFFSET', bytes: 8, value: '(f64.convert_i64_s (local.get 1))' },
  { kind: 'i32.store8', text: 'i32.store8 OFFSET', bytes: 1, value: '(i32.wrap_i64 (local.get 1))' },
  { kind: 'i32.store16', text: 'i32.store16 OFFSET', bytes: 2, value: '(i32.wrap_i64 (local.get 1))' },
  { kind: 'i64.store8', text: 'i64.store8 OFFSET', bytes: 1, value: '(local.get 1)' },
  { kind: 'i64.store16', text: 'i64.store16 OFFSET', bytes: 2, value: '(local.get 1)' },
  { kind: 'i64.store32', text: 'i64.store32 OFFSET', bytes: 4, value: '(local.get 1)' },
  { kind: 'v128.store', text: 'v128.store OFFSET', bytes: 16, value: V128 },
  { kind: 'v128.store8_lane', text: 'v128.store8_lane OFFSET 3', bytes: 1, value: V128 },
  { kind: 'v128.store16_lane', text: 'v128.store16_lane OFFSET 3', bytes: 2, value: V128 },
  { kind: 'v128.store32_lane', text: 'v128.store32_lane OFFSET 3', bytes: 4, value: V128 },
  { kind: 'v128.store64_lane', text: 'v128.store64_lane OFFSET 1', bytes: 8, value: V128 },
]

/** Exports `near` (offset 0) and `far` (offset 70,001), both (address, value), and `bulk` operations. */
function storeModule({ text, value }: Form): Uint8Array<ArrayBuffer> {
  const store = (name: string, offset: number): string =>
    `(func (export "${name}") (param i32 i64) (${text.replace('OFFSET', offset === 0 ? '' : `offset=${offset}`)} (local.get 0) ${value}))`
  return wat(`(module (memory (export "memory") 3) ${store('near', 0)} ${store('far', 70_001)})`)
}

const BULK = wat(`(module (memory (export "memory") 3) (data "0123456789abcdef")
  (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
  (func (export "copy") (param i32 i32 i32) (memory.copy (local.get 0) (local.get 1) (local.get 2)))
  (func (export "init") (param i32 i32 i32) (memory.init 0 (local.get 0) (local.get 1) (local.get 2))))`)

/** The granules of 512 bytes that a range lies in. */
function granules(from: number, length: number): number[] {
  const found = new Set<number>()
  for (let at = from; at < from + length; at++) found.add(Math.floor(at / 512))
  return [...found]
}

t.test('the tests below know every kind of store', async (t) => {
  t.same([...STORES.map(({ kind }) => kind), 'memory.fill', 'memory.copy', 'memory.init'], [...STORE_KINDS])
})

for (const form of STORES) {
  t.test(`${form.kind} marks the granule of its first byte and does what it did`, async (t) => {
    const original = storeModule(form)
    const tracked = machine(original)
    const untracked = plain(original)
    t.same(tracked.rewritten?.storeKinds, [form.kind])
    t.equal(tracked.rewritten?.counts.stores, 2)
    const last = 3 * 65_536 - form.bytes
    for (const [name, offset] of [['near', 0], ['far', 70_001]] as const) {
      for (const address of [0, 1, 511, 512, 513, 4095, 4096, 65_535, 100_000, last - offset]) {
        const value = 0x0123456789abcdefn + BigInt(address)
        tracked.call(name, address, value)
        untracked.call(name, address, value)
        t.same(tracked.drain(), granules(address + offset, 1), `${name} ${address}`)
      }
      t.ok(Buffer.from(tracked.bytes()).equals(untracked.bytes()), 'memory is equal')
      for (const address of [last - offset + 1, 0x7fffffff, -1, -65_536]) {
        const outcome = outcomeOf(() => tracked.call(name, address, 1n))
        t.equal(outcome, outcomeOf(() => untracked.call(name, address, 1n)), `${name} ${address} traps alike`)
        t.match(outcome, /trap: memory access out of bounds/)
      }
      t.ok(Buffer.from(tracked.bytes()).equals(untracked.bytes()), 'a trap writes nothing')
      tracked.drain()
    }
  })

  t.test(`leaving out the marking of ${form.kind} is noticed, and marks nothing else`, async (t) => {
    const tracked = machine(storeModule(form), { rewrite: { omitMarking: form.kind } })
    tracked.call('near', 5000, 1n)
    t.same(tracked.drain(), [])
    const other = machine(storeModule(form), { rewrite: { omitMarking: form.kind === 'i32.store' ? 'i64.store' : 'i32.store' } })
    other.call('near', 5000, 1n)
    t.same(other.drain(), [9])
  })
}

t.test('bulk operations mark every granule of their range', async (t) => {
  const tracked = machine(BULK)
  const untracked = plain(BULK)
  t.same(tracked.rewritten?.storeKinds, ['memory.copy', 'memory.fill', 'memory.init'])
  const cases: readonly (readonly [name: string, args: readonly [number, number, number], marked: readonly number[]])[] = [
    ['fill', [0, 7, 0], []],
    ['fill', [100, 7, 1], [0]],
    ['fill', [511, 7, 1], [0]],
    ['fill', [511, 7, 2], [0, 1]],
    ['fill', [512, 7, 512], [1]],
    ['fill', [512, 7, 513], [1, 2]],
    ['fill', [4096, 7, 4096], [8, 9, 10, 11, 12, 13, 14, 15]],
    ['fill', [5000, 9, 20_000], granules(5000, 20_000)],
    ['fill', [3 * 65_536 - 1, 9, 1], [383]],
    ['fill', [3 * 65_536, 9, 0], []],
    ['copy', [50_000, 5000, 1000], [97, 98, 99]],
    ['copy', [5000, 50_000, 1], [9]],
    ['copy', [1, 2, 0], []],
    ['init', [1022, 2, 4], [1, 2]],
    ['init', [1022, 16, 0], []],
  ]
  for (const [name, args, marked] of cases) {
    tracked.call(name, ...args)
    untracked.call(name, ...args)
    t.same(tracked.drain(), marked, `${name}(${args.join(', ')})`)
    t.ok(Buffer.from(tracked.bytes()).equals(untracked.bytes()), 'memory is equal')
  }
})

t.test('bulk operations out of range trap as before and mark nothing they do not write', async (t) => {
  const tracked = machine(BULK)
  const untracked = plain(BULK)
  const end = 3 * 65_536
  for (const name of ['fill', 'copy', 'init']) {
    for (const args of [[end, 0, 1], [end - 1, 0, 2], [end + 1, 0, 0], [-1, 0, 0], [-1, 0, 1], [-1, 0, 2], [1, 0, -1], [-1, 0, -1], [0, 0, -1], [end - 100, 0, 0x7fffffff]] as const) {
      const outcome = outcomeOf(() => tracked.call(name, ...args))
      t.equal(outcome, outcomeOf(() => untracked.call(name, ...args)), `${name}(${args.join(', ')})`)
      t.match(outcome, /trap/)
      t.same(tracked.drain(), [], 'marks nothing')
    }
  }
  // A source out of range traps too; the destination may be marked, which only costs a page of restoring.
  for (const args of [[0, end, 1], [0, -1, 1], [0, end - 3, 4 * 65_536]] as const) {
    t.equal(outcomeOf(() => tracked.call('copy', ...args)), outcomeOf(() => untracked.call('copy', ...args)))
  }
  t.equal(outcomeOf(() => tracked.call('init', 0, 10, 7)), outcomeOf(() => untracked.call('init', 0, 10, 7)))
  t.ok(Buffer.from(tracked.bytes()).equals(untracked.bytes()))
})

for (const [kind, name] of [['memory.fill', 'fill'], ['memory.copy', 'copy'], ['memory.init', 'init']] as const) {
  t.test(`leaving out the marking of ${kind} is noticed`, async (t) => {
    const tracked = machine(BULK, { rewrite: { omitMarking: kind } })
    for (const each of ['fill', 'copy', 'init']) {
      tracked.call(each, 4096, 0, 1)
      t.same(tracked.drain(), each === name ? [] : [8], each)
    }
  })
}

t.test('stores in unreachable code stay valid', async (t) => {
  const original = wat('(module (memory 1) (func (export "f") unreachable i32.store i64.store offset=9 memory.fill v128.store memory.grow drop (loop (br 0))))')
  t.match(outcomeOf(() => machine(original).call('f')), /trap: unreachable/)
})

t.test('a payment between the value and the store leaves both as they are', async (t) => {
  // Payments of a long path fall on different instructions of the same store.
  let payments = 0
  for (let nops = 1_985; nops < 2_005; nops++) {
    const tracked = machine(wat(`(module (memory (export "memory") 1) (func (export "f") (param i32) ${'nop '.repeat(nops)}
      (i32.store (local.get 0) (i32.const 7)) (i32.store offset=4096 (i32.add (local.get 0) (i32.const 4)) (local.get 0))
      (i32.store offset=8192 (local.get 0) (i32.load (local.get 0)))))`))
    tracked.call('f', 40)
    t.same([40, 4140, 8232].map((address) => new DataView(tracked.memory.buffer).getInt32(address, true)), [7, 40, 7])
    t.same(tracked.drain(), [0, 8, 16])
    payments += tracked.rewritten?.counts.payments ?? 0
  }
  t.ok(payments > 10 && payments < 20, 'some paid before, some behind')
})

t.test('a store keeps the order in which its operands are computed', async (t) => {
  const original = wat(`(module (memory (export "memory") 1) (global $n (mut i32) (i32.const 0))
    (func $next (result i32) (global.set $n (i32.add (global.get $n) (i32.const 4096))) (global.get $n))
    (func (export "f") (i32.store (call $next) (i32.add (i32.store8 (i32.const 9) (i32.const 1)) (call $next)))
                       (i32.store (call $next) (if (result i32) (call $next) (then (i32.store (call $next) (i32.const 3)) (i32.const 4)) (else (i32.const 5))))))`.replace('(i32.add (i32.store8 (i32.const 9) (i32.const 1)) (call $next))', '(block (result i32) (i32.store8 (i32.const 9) (i32.const 1)) (call $next))'))
  const tracked = machine(original)
  const untracked = plain(original)
  tracked.call('f')
  untracked.call('f')
  t.ok(Buffer.from(tracked.bytes()).equals(untracked.bytes()))
  t.same(tracked.drain(), [0, 8, 24, 40])
})

t.test('whatever a program writes, restoring flagged granules and 16 bytes past each undoes it', async (t) => {
  const operation = fc.oneof(
    fc.record({ form: fc.constantFrom(...STORES), address: fc.nat(3 * 65_536), offset: fc.constantFrom(0, 1, 511, 70_001), value: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n) })
      .map(({ form, address, offset, value }) => `(local.set 0 (i32.const ${address})) (local.set 1 (i64.const ${value})) (${form.text.replace('OFFSET', `offset=${offset}`)} (local.get 0) ${form.value})`),
    fc.record({ name: fc.constantFrom('fill', 'copy'), d: fc.nat(3 * 65_536), s: fc.nat(3 * 65_536), n: fc.nat(20_000) })
      .map(({ name, d, s, n }) => `(memory.${name} (i32.const ${d}) (i32.const ${s}) (i32.const ${n}))`),
  )
  fc.assert(fc.property(fc.array(operation, { minLength: 1, maxLength: 12 }), (operations) => {
    const original = wat(`(module (memory (export "memory") 3) (func (export "f") (param i32 i64) ${operations.join('\n')}))`)
    const tracked = machine(original)
    const untracked = plain(original)
    tracked.bytes().forEach((_, index, bytes) => { bytes[index] = untracked.bytes()[index] = index * 7 })
    const image = tracked.bytes().slice()
    const args: Value[] = [0, 0n]
    if (outcomeOf(() => tracked.call('f', ...args)) !== outcomeOf(() => untracked.call('f', ...args))) return false
    if (!Buffer.from(tracked.bytes()).equals(untracked.bytes())) return false
    for (const granule of tracked.drain()) {
      if (granule * 512 >= image.length) continue
      const end = Math.min((granule + 1) * 512 + 16, image.length)
      tracked.bytes().set(image.subarray(granule * 512, end), granule * 512)
    }
    return Buffer.from(tracked.bytes()).equals(image)
  }), { numRuns: 40 })
  t.pass('the property holds')
})

t.test('rewriting is a function of its input', async (t) => {
  for (const form of STORES) t.same(rewrite(storeModule(form)).bytes, rewrite(storeModule(form)).bytes)
})
