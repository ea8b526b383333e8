/** Whatever runs for long pays, and stops when the host says so. */
import t from 'tap'
import { binary, type Machine, machine, name, outcomeOf, plain, sized, wat } from './modules.ts'

const UNREACHABLE = 'trap: unreachable'

/** Runs `f` with little fuel and a host that grants `grants` more slices of 1,000. */
function limited(text: string, grants = 0): { readonly outcome: string; readonly asked: number; readonly guest: Machine } {
  let asked = 0
  const guest = machine(wat(text), { fuel: 1_000, refuel: () => {
    asked++
    if (asked > grants) return 1
    guest.setFuel(1_000)
    return 0
  } })
  return { outcome: outcomeOf(() => guest.call('f')), asked, guest }
}

const ENDLESS: readonly (readonly [what: string, text: string])[] = [
  ['a loop', '(module (func (export "f") (loop (br 0))))'],
  ['a loop with parameters', '(module (func (export "f") (i32.const 1) (loop (param i32) (i32.add (i32.const 1)) (br 0))))'],
  ['a loop that a br_table goes around', '(module (func (export "f") (loop (block (br_table 0 1 1 (i32.const 1))))))'],
  ['a loop inside of blocks', '(module (func (export "f") (block (loop (if (i32.const 1) (then (block (br 2))))))))'],
  ['mutual tail calls', '(module (func $g (return_call $f)) (func $f (export "f") (return_call $g)))'],
  ['tail calls of itself by the first function', '(module (func $f (export "f") (return_call $f)))'],
  ['tail calls of a function that is large', `(module (func $g (return_call $f)) (func $f (export "f") ${'(drop (i32.const 1000000))'.repeat(400)} (return_call $g)))`],
  ['tail calls through a table', '(module (type $t (func)) (table 1 funcref) (elem (i32.const 0) $f) (func $f (export "f") (return_call_indirect (type $t) (i32.const 0))))'],
]

for (const [what, text] of ENDLESS) {
  t.test(`${what} ends when fuel does`, async (t) => {
    const { outcome, asked } = limited(text)
    t.equal(outcome, UNREACHABLE)
    t.equal(asked, 1)
    t.equal(limited(text, 5).asked, 6, 'it goes on as long as the host grants more')
  })
}

t.test('calls through a reference pay', async (t) => {
  // (module (func (export "f") (call_ref 0 (ref.func 0)))), and with return_call_ref; the export declares the reference.
  for (const opcode of [0x14, 0x15]) {
    const original = binary([1, 1, 0x60, 0, 0], [3, 1, 0], [7, 1, ...name('f'), 0, 0], [10, 1, ...sized([0, 0xd2, 0, opcode, 0, 0x0b])])
    const guest = machine(original, { fuel: 1_000 })
    t.equal(outcomeOf(() => guest.call('f')), UNREACHABLE)
  }
})

t.test('recursion that the stack would bear pays for every call', async (t) => {
  const fibonacci = (call: string, rest: string): string => `(module (type $t (func (param i32) (result i32))) ${rest}
    (func $f (param i32) (result i32) (if (result i32) (i32.lt_u (local.get 0) (i32.const 2)) (then (local.get 0))
      (else (i32.add ${call.replace('N', '(i32.sub (local.get 0) (i32.const 1))')} ${call.replace('N', '(i32.sub (local.get 0) (i32.const 2))')}))))
    (func (export "f") (result i32) (call $f (i32.const 24))))`
  const forms = {
    direct: fibonacci('(call $f N)', ''),
    mutual: fibonacci('(call $g N)', '(func $g (param i32) (result i32) (call $f (local.get 0)))'),
    indirect: fibonacci('(call_indirect (type $t) N (i32.const 0))', '(table 1 funcref) (elem (i32.const 0) $f)'),
  }
  for (const [form, text] of Object.entries(forms)) {
    t.equal(limited(text).outcome, UNREACHABLE, form)
    const generous = limited(text, 1_000)
    t.equal(generous.outcome, '46368', form)
    // 150,049 calls of f.
    t.ok(generous.asked > 100, `${form}: ${generous.asked} slices`)
  }
})

t.test('calls through the host and back pay', async (t) => {
  const guest = machine(wat('(module (import "env" "again" (func $again (param i32))) (func $f (export "f") (param i32) (if (local.get 0) (then (call $again (local.get 0)) (call $again (local.get 0))))))'), {
    fuel: 1_000, imports: { env: { again: (depth: number) => guest.call('f', depth - 1) } },
  })
  t.equal(outcomeOf(() => guest.call('f', 30)), UNREACHABLE)
})

t.test('calls into another module and back pay', async (t) => {
  // Each calls what is in the other's reach: one through the table that it exports, one through an import. Only the first pays.
  const first = machine(wat('(module (table (export "table") 1 funcref) (type $n (func)) (func (export "f") (return_call_indirect (type $n) (i32.const 0))))'), { fuel: 1_000 })
  const second = plain(wat('(module (import "env" "f" (func $f)) (func (export "g") (return_call $f)))'), { imports: { env: { f: first.exports['f'] as () => void } } })
  ;(first.exports['table'] as WebAssembly.Table).set(0, second.exports['g'])
  t.equal(outcomeOf(() => first.call('f')), UNREACHABLE)
})

t.test('calls through the host and a table back pay', async (t) => {
  const guest = machine(wat('(module (import "env" "again" (func $again (param i32))) (table (export "table") 1 funcref) (elem (i32.const 0) $g) (func $g (param i32) (if (local.get 0) (then (call $again (local.get 0)) (call $again (local.get 0))))))'), {
    fuel: 1_000, imports: { env: { again: (depth: number) => { (table.get(0) as (depth: number) => void)(depth - 1) } } },
  })
  const table = guest.exports['table'] as WebAssembly.Table
  t.equal(outcomeOf(() => { (table.get(0) as (depth: number) => void)(30); return 0 }), UNREACHABLE)
})

t.test('calls of an import through a table and back pay', async (t) => {
  const guest = machine(wat('(module (type $t (func (param i32))) (import "env" "again" (func $again (param i32))) (table 1 funcref) (elem (i32.const 0) $again) (func (export "f") (param i32) (if (local.get 0) (then (call_indirect (type $t) (local.get 0) (i32.const 0)) (call_indirect (type $t) (local.get 0) (i32.const 0))))))'), {
    fuel: 1_000, imports: { env: { again: (depth: number) => guest.call('f', depth - 1) } },
  })
  t.equal(outcomeOf(() => guest.call('f', 30)), UNREACHABLE)
})

t.test('sixty functions that each call the next one twice pay, without any loop or circle', async (t) => {
  const functions = Array.from({ length: 60 }, (_, index) => `(func $f${index} (call $f${index + 1}) (call $f${index + 1}))`)
  const { outcome, asked } = limited(`(module ${functions.join('\n')} (func $f60) (func (export "f") (call $f0)))`)
  t.equal(outcome, UNREACHABLE)
  t.equal(asked, 1)
})

t.test('the same through tables, one for each step', async (t) => {
  const functions = Array.from({ length: 60 }, (_, index) => `(func $f${index} (param i32) (call_indirect (type $t) (i32.const 0) (i32.const ${index + 1})) (call_indirect (type $t) (i32.const 0) (i32.const ${index + 1})))`)
  const names = Array.from({ length: 61 }, (_, index) => `$f${index}`).join(' ')
  const { outcome } = limited(`(module (type $t (func (param i32))) (table 61 funcref) (elem (i32.const 0) ${names}) ${functions.join('\n')} (func $f60 (param i32)) (func (export "f") (call $f0 (i32.const 0))))`)
  t.equal(outcome, UNREACHABLE)
})

t.test('a straight path pays for its length, and a short one pays nothing', async (t) => {
  const straight = (count: number): string => `(module (global $g (mut i32) (i32.const 0)) (func (export "f") ${'(global.set $g (i32.const 1))'.repeat(count)}))`
  const spent = (text: string): number => {
    const { outcome, guest } = limited(text)
    t.equal(outcome, 'undefined')
    return 1_000 - guest.fuel()
  }
  t.equal(spent(straight(10)), 0)
  t.equal(spent(straight(900)), 0)
  t.equal(spent(straight(20_000)), 19, '40,000 instructions, a unit once 2,000 are passed')
  const branches = `(module (func (export "f") (block ${'(br_if 0 (i32.const 1)) '.repeat(3_000)})))`
  const long = (count: number): string => '(drop (i32.const 1)) '.repeat(count / 2)
  t.equal(spent(`(module (func (export "f") (if (i32.const 0) (then ${long(1_500)}) (else ${long(10)})) ${long(600)}))`), 1, 'the longer branch counts, taken or not')
  t.equal(spent(`(module (func (export "f") (if (i32.const 0) (then ${long(10)}) (else ${long(1_500)})) ${long(600)}))`), 1)
  t.equal(spent(`(module (func (export "f") (if (i32.const 0) (then ${long(1_200)}) (else ${long(1_200)})) ${long(600)}))`), 0, 'only one branch is taken')
  const leaf = `(type $n (func)) (table 1 funcref) (elem (i32.const 0) $leaf) (func $leaf ${long(700)})`
  t.equal(spent(`(module ${leaf} (func (export "f") ${'(call $leaf) '.repeat(10)}))`), 3, 'what is called counts')
  t.equal(spent(`(module ${leaf} (func (export "f") ${'(call_indirect (type $n) (i32.const 0)) '.repeat(10)}))`), 3, 'what may be called through a table counts')
  t.equal(spent(branches), 1, 'the end of the block is reached by the longest way')
})

t.test('a loop pays once each time around', async (t) => {
  const counted = '(module (func (export "f") (local i32) (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 100))))))'
  t.equal(1_000 - limited(counted).guest.fuel(), 100)
})

t.test('functions that cannot run long pay nothing', async (t) => {
  const { guest } = limited('(module (func $a (result i32) (i32.const 1)) (func $b (result i32) (i32.add (call $a) (call $a))) (func (export "f") (drop (i32.add (call $b) (call $a)))))')
  t.equal(guest.fuel(), 1_000)
  t.equal(guest.rewritten?.counts.payments, 0)
})

t.test('bulk operations pay one unit and one for each 64 bytes or entries', async (t) => {
  const text = `(module (memory 2) (table $t 300 funcref) (data "abc") (elem func $f) (func $f)
    (func (export "fill") (param i32) (memory.fill (i32.const 0) (i32.const 1) (local.get 0)))
    (func (export "copy") (param i32) (memory.copy (i32.const 0) (i32.const 1) (local.get 0)))
    (func (export "init") (param i32) (memory.init 0 (i32.const 0) (i32.const 0) (local.get 0)))
    (func (export "tableFill") (param i32) (table.fill $t (i32.const 0) (ref.null func) (local.get 0)))
    (func (export "tableCopy") (param i32) (table.copy $t $t (i32.const 0) (i32.const 1) (local.get 0)))
    (func (export "tableInit") (param i32) (table.init $t 0 (i32.const 0) (i32.const 0) (local.get 0)))
    (func (export "tableGrow") (param i32) (drop (table.grow $t (ref.null func) (local.get 0)))))`
  const cost = (name: string, count: number): number => {
    const guest = machine(wat(text), { fuel: 5_000 })
    guest.call(name, count)
    return 5_000 - guest.fuel()
  }
  for (const name of ['fill', 'copy', 'tableFill', 'tableCopy', 'tableGrow']) for (const count of [0, 63, 64, 65, 200]) t.equal(cost(name, count), 1 + (count >>> 6), `${name} ${count}`)
  for (const name of ['init', 'tableInit']) t.equal(cost(name, 1), 1, name)
  t.equal(cost('fill', 100_000), 1 + 1_562)
  const poor = machine(wat(text), { fuel: 100 })
  t.equal(outcomeOf(() => poor.call('fill', 6_401)), UNREACHABLE)
  t.same(poor.drain(), [], 'it ended before it wrote')
})

t.test('asking for fuel leaves results as they are', async (t) => {
  const text = `(module (func $f (param i64 f64) (result i64) (local i32)
      (loop (local.set 0 (i64.add (i64.mul (local.get 0) (i64.const 6364136223846793005)) (i64.trunc_sat_f64_s (local.get 1))))
        (local.set 1 (f64.add (local.get 1) (f64.const 0.25)))
        (br_if 0 (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 1))) (i32.const 20000)))) (local.get 0))
    (func (export "f") (result i64) (call $f (i64.const 42) (f64.const 1))))`
  const { outcome, asked } = limited(text, 1_000)
  t.equal(outcome, outcomeOf(() => plain(wat(text)).call('f')))
  t.equal(asked, 19)
})
