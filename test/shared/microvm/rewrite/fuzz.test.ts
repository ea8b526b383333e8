/** Broken modules give a refusal or a valid module, never anything else, and in bounded time. */
import t from 'tap'
import fc from 'fast-check'
import { engineFile } from './engine.ts'
import { binary, machine, name, outcomeOf, plain, refusalOf, rewrite, sized, wat } from './modules.ts'

const SEEDS: readonly Uint8Array<ArrayBuffer>[] = [
  wat(`(module (import "env" "h" (func $h (param i32) (result i32))) (memory (export "memory") 1 4) (table (export "t") 3 funcref) (global $g (mut i64) (i64.const -5))
    (data (i32.const 3) "active") (data $p "passive") (elem (i32.const 0) $h $f) (elem $e funcref (ref.func $f) (ref.null func)) (type $u (func (param i32) (result i32)))
    (func $f (export "f") (param i32) (result i32) (local f64 v128)
      (loop $l (block $b (br_table $l $b 0 (local.get 0))) (memory.init $p (i32.const 0) (i32.const 1) (i32.const 2)) (data.drop $p) (elem.drop $e)
        (i64.store offset=300 (local.get 0) (global.get $g)) (v128.store (i32.const 16) (v128.const i64x2 1 2)) (f64.store (i32.const 8) (local.get 1))
        (memory.fill (i32.const 1) (i32.const 2) (i32.const 3)) (memory.copy (i32.const 1) (i32.const 2) (i32.const 3)) (table.init $e (i32.const 0) (i32.const 0) (i32.const 1)))
      (if (result i32) (call $h (memory.grow (i32.const 1))) (then (call_indirect (type $u) (i32.const 1) (i32.const 0))) (else (memory.size)))) (start $s) (func $s))`),
  engineFile('structured-clone'), engineFile('encoding'),
]

/** True if a module is refused as it must be, or taken and valid. Anything else throws. */
function holds(module: Uint8Array<ArrayBuffer>): boolean {
  const refusal = refusalOf(module)
  if (refusal === null) return WebAssembly.validate(module) && WebAssembly.validate(rewrite(module).bytes)
  return refusal.reason !== '' && refusal.opcodeName !== '' && refusal.byteOffset >= 0 && refusal.byteOffset <= module.length
}

t.test('modules with bytes changed, put in or taken out', async (t) => {
  const edit = fc.record({ kind: fc.constantFrom('set', 'insert', 'remove', 'flip'), at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), value: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x40, 0x7f, 0x80, 0xfb, 0xfc, 0xfd, 0xfe, 0xff)), count: fc.integer({ min: 1, max: 6 }) })
  fc.assert(fc.property(fc.constantFrom(...SEEDS), fc.array(edit, { minLength: 1, maxLength: 3 }), (seed, edits) => {
    const bytes = [...seed]
    for (const { kind, at, value, count } of edits) {
      const index = 8 + Math.floor(at * (bytes.length - 8))
      if (kind === 'set') bytes[index] = value
      else if (kind === 'flip') bytes[index] = (bytes[index] ?? 0) ^ (1 << (value & 7))
      else if (kind === 'insert') bytes.splice(index, 0, ...Array.from({ length: count }, () => value))
      else bytes.splice(index, count)
    }
    return holds(Uint8Array.from(bytes))
  }), { numRuns: 1_500 })
  t.pass('the property holds')
})

t.test('modules cut short at every byte', async (t) => {
  const [seed = new Uint8Array()] = SEEDS
  for (let length = 0; length < seed.length; length++) if (!holds(seed.slice(0, length))) t.fail(`cut at ${length}`)
  t.pass('all refused or valid')
})

t.test('code of random instructions', async (t) => {
  const instruction = fc.oneof(
    fc.nat(255).map((opcode) => [opcode]),
    fc.tuple(fc.constantFrom(0x02, 0x03, 0x04), fc.constantFrom(0x40, 0x7f, 0, 1, 0x63, 0x70)).map((bytes) => [...bytes]),
    fc.tuple(fc.constantFrom(0x0c, 0x0d, 0x10, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0xd2, 0x41, 0x42), fc.nat(3)).map((bytes) => [...bytes]),
    fc.tuple(fc.integer({ min: 0x28, max: 0x3e }), fc.constantFrom(0, 1, 2, 3, 0x40, 0x42), fc.nat(2)).map((bytes) => [...bytes]),
    fc.tuple(fc.constantFrom(0xfc, 0xfd, 0xfe, 0xfb), fc.nat(0x7f), fc.nat(1), fc.nat(1)).map((bytes) => [...bytes]),
  )
  fc.assert(fc.property(fc.array(instruction, { maxLength: 12 }), (instructions) => holds(binary(
    [1, 2, 0x60, 0, 0, 0x60, 1, 0x7f, 1, 0x7f], [2, 1, ...name('e'), ...name('f'), 0, 0], [3, 1, 1], [4, 1, 0x70, 0, 1], [5, 1, 0, 1], [6, 1, 0x7f, 1, 0x41, 0, 0x0b], [12, 1],
    [10, 1, ...sized([1, 2, 0x7f, ...instructions, 0x0b])], [11, 1, 1, 1, 0x61],
  ))), { numRuns: 3_000 })
  t.pass('the property holds')
})

/** Text of an i32 expression or a statement over locals 0 to 2 of type i32, valid by construction. */
const { statement } = fc.letrec<{ expression: string; statement: string }>((tie) => ({
  expression: fc.oneof({ maxDepth: 4, depthIdentifier: 'program' },
    fc.integer({ min: -9, max: 70_000 }).map((value) => `(i32.const ${value})`),
    fc.nat(2).map((local) => `(local.get ${local})`),
    fc.tuple(fc.constantFrom('add', 'sub', 'mul', 'and', 'xor', 'shr_u', 'lt_s', 'eq'), tie('expression'), tie('expression')).map(([name, a, b]) => `(i32.${name} ${a} ${b})`),
    tie('expression').map((address) => `(i32.load16_u (i32.and ${address} (i32.const 0xffff)))`),
    tie('expression').map((pages) => `(memory.grow (i32.and ${pages} (i32.const 3)))`),
    fc.constant('(memory.size)'),
    fc.tuple(tie('expression'), tie('expression'), tie('expression')).map(([c, a, b]) => `(if (result i32) ${c} (then ${a}) (else ${b}))`),
    fc.tuple(tie('expression'), tie('expression')).map(([a, b]) => `(call $leaf ${a} ${b})`),
    tie('statement').map((body) => `(block (result i32) ${body} (local.get 1))`),
  ),
  statement: fc.oneof({ maxDepth: 4, depthIdentifier: 'program' },
    fc.tuple(fc.nat(2), tie('expression')).map(([local, value]) => `(local.set ${local} ${value})`),
    fc.tuple(fc.constantFrom('i32.store8', 'i32.store16', 'i32.store', 'i32.store offset=4093'), tie('expression'), tie('expression')).map(([name, address, value]) => `(${name} (i32.and ${address} (i32.const 0x7fff)) ${value})`),
    fc.tuple(fc.constantFrom('fill', 'copy'), tie('expression'), tie('expression'), tie('expression')).map(([name, d, s, n]) => `(memory.${name} (i32.and ${d} (i32.const 0x3fff)) (i32.and ${s} (i32.const 0x3fff)) (i32.and ${n} (i32.const 0x1fff)))`),
    fc.array(tie('statement'), { minLength: 1, maxLength: 3 }).map((body) => `(block ${body.join(' ')} (br_if 0 (local.get 0)) ${body.join(' ')})`),
    fc.tuple(tie('expression'), tie('statement')).map(([c, body]) => `(if ${c} (then ${body}))`),
    // Loops go around 60 times in all, counted in a global, and once each after that.
    tie('statement').map((body) => `(loop ${body} (global.set $n (i32.add (global.get $n) (i32.const 1))) (br_if 0 (i32.lt_u (global.get $n) (i32.const 60))))`),
  ),
}))

t.test('random programs do what they did, and what they wrote can be undone', async (t) => {
  fc.assert(fc.property(fc.array(statement, { minLength: 1, maxLength: 5 }), fc.nat(0xffff), (statements, argument) => {
    const original = wat(`(module (memory (export "memory") 1 64) (global $n (mut i32) (i32.const 0))
      (func $leaf (param i32 i32) (result i32) (i32.store8 offset=50000 (i32.and (local.get 0) (i32.const 0xfff)) (local.get 1)) (i32.add (local.get 0) (local.get 1)))
      (func (export "f") (param i32) (result i32) (local i32 i32) ${statements.join('\n')} (i32.xor (local.get 0) (i32.xor (local.get 1) (local.get 2)))))`)
    const untracked = plain(original)
    // Little fuel at a time, so that asking for more happens in all places.
    const tracked = machine(original, { fuel: 3, refuel: () => {
      tracked.setFuel(3)
      return 0
    } })
    const image = tracked.bytes().slice()
    if (outcomeOf(() => tracked.call('f', argument)) !== outcomeOf(() => untracked.call('f', argument))) return false
    const size = untracked.bytes().length
    if (tracked.virtualPages() * 65_536 !== size || !Buffer.from(tracked.bytes().subarray(0, size)).equals(untracked.bytes())) return false
    for (const granule of tracked.drain()) {
      const end = Math.min((granule + 1) * 512 + 16, tracked.bytes().length)
      if (granule * 512 >= end) continue
      tracked.bytes().fill(0, granule * 512, end)
      tracked.bytes().set(image.subarray(granule * 512, end), granule * 512)
    }
    return Buffer.from(tracked.bytes().subarray(0, image.length)).equals(image) && tracked.bytes().subarray(image.length).every((byte) => byte === 0)
  }), { numRuns: 150 })
  t.pass('the property holds')
})
