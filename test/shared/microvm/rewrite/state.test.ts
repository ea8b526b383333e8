/** Nothing happens at instantiation, and all state that a module has can be seen and set from outside. */
import t from 'tap'
import { type Machine, machine, outcomeOf, plain, rewrite, type Value, wat } from './modules.ts'

t.test('start function and data wait for the host', async (t) => {
  const original = wat(`(module (memory (export "memory") 1) (global $at i32 (i32.const 100))
    (data (i32.const 5) "first") (data $p "passive") (data (i32.const 7) "second") (data (global.get $at) "third")
    (func $start (i32.store8 (i32.const 9000) (i32.const 1)))
    (start $start))`, { check: false })
  const guest = machine(original, { bare: true })
  t.ok(guest.bytes().every((byte) => byte === 0), 'nothing is written')
  t.ok(guest.rewritten?.hasStart)
  t.ok(guest.rewritten?.hasInitData)
  guest.call('outpost.initData')
  t.equal(Buffer.from(guest.bytes().subarray(5, 13)).toString(), 'fisecond', 'in order')
  t.same(guest.drain(), [0], 'with marking')
  t.equal(guest.bytes()[9000], 0)
  guest.call('outpost.start')
  t.same(guest.drain(), [17])
  t.ok(Buffer.from(guest.bytes()).equals(plain(original).bytes()))
  guest.bytes().fill(0)
  guest.call('outpost.initData')
  t.equal(Buffer.from(guest.bytes().subarray(100, 105)).toString(), 'third', 'data may be written again')
})

t.test('data out of range traps when it is written, and what comes before is there', async (t) => {
  const guest = machine(wat('(module (memory (export "memory") 1) (data (i32.const 1) "ab") (data (i32.const 65535) "cd") (data (i32.const 3) "ef"))'), { bare: true })
  t.match(outcomeOf(() => guest.call('outpost.initData')), /trap: .*out of bounds/)
  t.same([...guest.bytes().subarray(0, 5)], [0, 0x61, 0x62, 0, 0])
  t.same(guest.drain(), [0])
})

t.test('modules without them export neither', async (t) => {
  const { exports, rewritten } = machine(wat('(module (memory 1) (data "x"))'))
  t.notOk('outpost.initData' in exports || 'outpost.start' in exports)
  t.notOk(rewritten?.hasStart === true || rewritten?.hasInitData === true)
})

t.test('every mutable number is exported and can be set', async (t) => {
  const shared = new WebAssembly.Global({ value: 'i32', mutable: true }, 5)
  const guest = machine(wat(`(module (import "env" "sp" (global $sp (mut i32))) (import "env" "base" (global $base i32))
    (global $a (mut i64) (i64.const 1)) (global $b f32 (f32.const 2)) (global $c (export "c") (mut f64) (f64.const 3)) (global $d (mut f32) (f32.const 4)) (global $e (mut i32) (global.get $base))
    (func (export "sum") (result f64) (f64.add (f64.add (f64.convert_i32_s (global.get $sp)) (f64.convert_i64_s (global.get $a))) (f64.add (global.get $c) (f64.promote_f32 (global.get $d)))))
    (func (export "e") (result i32) (global.get $e)))`), { imports: { env: { sp: shared, base: 77 } } })
  t.same(guest.rewritten?.mutableGlobals, [
    { exportName: 'outpost.global.0', type: 'i32' }, { exportName: 'outpost.global.2', type: 'i64' }, { exportName: 'c', type: 'f64' },
    { exportName: 'outpost.global.5', type: 'f32' }, { exportName: 'outpost.global.6', type: 'i32' },
  ])
  t.equal(guest.call('sum'), 5 + 1 + 3 + 4)
  t.equal(guest.call('e'), 77)
  const set = (name: string, value: Value): void => { (guest.exports[name] as WebAssembly.Global).value = value }
  set('outpost.global.0', 10)
  set('outpost.global.2', 20n)
  set('c', 30)
  set('outpost.global.5', 40)
  t.equal(guest.call('sum'), 100)
  t.equal(shared.value, 10)
})

const DROPS = wat(`(module (memory (export "memory") 1) (table 4 funcref) (data $passive "abc") (data $active (i32.const 20) "xyz")
  (elem $functions func $one $one) (elem $filled (i32.const 3) $one) (elem $declared declare func $one)
  (func $one (result i32) (i32.const 1))
  (func (export "init") (param i32 i32 i32) (memory.init $passive (local.get 0) (local.get 1) (local.get 2)))
  (func (export "initActive") (param i32 i32 i32) (memory.init $active (local.get 0) (local.get 1) (local.get 2)))
  (func (export "drop") (data.drop $passive)) (func (export "dropActive") (data.drop $active))
  (func (export "tableInit") (param i32 i32 i32) (table.init $functions (local.get 0) (local.get 1) (local.get 2)))
  (func (export "tableInitFilled") (param i32 i32 i32) (table.init $filled (local.get 0) (local.get 1) (local.get 2)))
  (func (export "tableInitDeclared") (param i32 i32 i32) (table.init $declared (local.get 0) (local.get 1) (local.get 2)))
  (func (export "elemDrop") (elem.drop $functions)) (func (export "elemDropFilled") (elem.drop $filled)))`)

t.test('dropped segments behave as dropped ones', async (t) => {
  const calls: readonly (readonly [string, ...number[]])[] = []
  const arguments3 = [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 3, 0], [0, 4, 0], [1, 1, 2], [1, 1, 3], [4, 0, 0], [5, 0, 0], [65_536, 0, 0], [65_537, 0, 0], [0, -1, 1]] as const
  const inits = ['init', 'initActive', 'tableInit', 'tableInitFilled', 'tableInitDeclared']
  const series = [...calls, ...inits.flatMap((name) => arguments3.map((args) => [name, ...args] as const)),
    ['drop'], ['elemDrop'], ['dropActive'], ['elemDropFilled'], ...inits.flatMap((name) => arguments3.map((args) => [name, ...args] as const)), ['drop'], ['elemDrop']] as const
  const tracked = machine(DROPS)
  const untracked = plain(DROPS)
  // A dropped segment traps by `unreachable` where the engine says "out of bounds".
  const kindOf = (guest: Pick<Machine, 'call'>, name: string, args: readonly number[]): string => outcomeOf(() => guest.call(name, ...args)).replace(/trap.*/, 'trap')
  for (const [name, ...args] of series) t.equal(kindOf(tracked, name, args), kindOf(untracked, name, args), `${name}(${args.join(', ')})`)
  t.ok(Buffer.from(tracked.bytes()).equals(untracked.bytes()))
})

t.test('the host can undo a drop', async (t) => {
  const guest = machine(DROPS)
  t.same(guest.rewritten?.mutableGlobals.map(({ exportName }) => exportName).sort(), ['outpost.data.0', 'outpost.element.0'])
  guest.call('drop')
  guest.call('elemDrop')
  t.equal(guest.global('outpost.data.0'), 1)
  t.equal(guest.global('outpost.element.0'), 1)
  t.match(outcomeOf(() => guest.call('init', 0, 0, 1)), /trap/)
  for (const name of ['outpost.data.0', 'outpost.element.0']) (guest.exports[name] as WebAssembly.Global).value = 0
  guest.call('init', 0, 0, 3)
  guest.call('tableInit', 0, 0, 2)
  t.equal(Buffer.from(guest.bytes().subarray(0, 3)).toString(), 'abc')
})

t.test('writes to tables are told, reads are not', async (t) => {
  const text = `(module (table $t 4 10 funcref) (table $u 4 funcref) (type $f (func (result i32))) (elem (i32.const 1) $one) (elem $p func $one) (func $one (result i32) (i32.const 1))
    (func (export "call") (result i32) (call_indirect $t (type $f) (i32.const 1))) (func (export "get") (result i32) (ref.is_null (table.get $t (i32.const 1)))) (func (export "size") (result i32) (table.size $u))
    (func (export "set") (table.set $u (i32.const 0) (ref.func $one))) (func (export "fill") (table.fill $t (i32.const 0) (ref.null func) (i32.const 2)))
    (func (export "copy") (table.copy $u $t (i32.const 0) (i32.const 1) (i32.const 2))) (func (export "init") (table.init $u $p (i32.const 0) (i32.const 0) (i32.const 1)))
    (func (export "grow") (result i32) (table.grow $t (ref.func $one) (i32.const 3))))`
  for (const [name, written] of [['call', false], ['get', false], ['size', false], ['set', true], ['fill', true], ['copy', true], ['init', true], ['grow', true]] as const) {
    const guest = machine(wat(text))
    t.equal(outcomeOf(() => guest.call(name)), outcomeOf(() => plain(wat(text)).call(name)), name)
    t.equal(guest.tableWritten(), written, name)
  }
})

t.test('a table cannot grow without bound', async (t) => {
  const guest = machine(wat('(module (table 0 funcref) (func (export "grow") (param i32) (result i32) (table.grow (ref.null func) (local.get 0))))'))
  t.equal(guest.call('grow', 200_000), 0)
  t.equal(guest.call('grow', 1), -1)
})

t.test('functions keep their identity although their indices move', async (t) => {
  const text = `(module (import "env" "a" (func $a (result i32))) (import "env" "g" (global $g i32)) (import "env" "b" (func $b (param i32) (result i32)))
    (table (export "t") 6 funcref) (type $n (func (result i32))) (type $u (func (param i32) (result i32)))
    (elem (i32.const 0) $a $two) (elem (table 0) (offset (i32.const 2)) funcref (ref.func $b) (ref.null func) (item ref.func $three)) (elem $late func $two)
    (global $r funcref (ref.func $three))
    (func $two (export "two") (result i32) (i32.const 2)) (func $three (export "three") (result i32) (i32.add (call $a) (call $two)))
    (export "a" (func $a))
    (func (export "at") (param i32) (result i32) (call_indirect (type $n) (local.get 0))) (func (export "at1") (param i32) (result i32) (call_indirect (type $u) (i32.const 7) (local.get 0)))
    (func (export "late") (table.init $late (i32.const 5) (i32.const 0) (i32.const 1)) (table.set (i32.const 3) (global.get $r))))`
  const imports = { env: { a: () => 1, b: (value: number) => value * 6, g: 0 } }
  const both = [machine(wat(text), { imports }), plain(wat(text), { imports })]
  for (const { call } of both) call('late')
  for (const index of [0, 1, 2, 3, 4, 5, 6]) for (const name of ['at', 'at1']) {
    const [tracked, untracked] = both.map(({ call }) => outcomeOf(() => call(name, index)))
    t.equal(tracked, untracked, `${name} ${index}: ${String(tracked)}`)
  }
  for (const name of ['two', 'three', 'a']) t.equal(both[0]?.call(name), both[1]?.call(name), name)
})

t.test('an import that the module itself exports is resolved inside, if asked for and of the same type', async (t) => {
  const text = `(module (import "env" "weak" (func $weak (param i32) (result i32))) (import "env" "other" (func $other (result i32))) (import "env" "typed" (func $typed (result i32)))
    (import "env" "again" (func $again (result i32))) (export "again" (func $again)) (export "other" (func $again))
    (table 1 funcref) (elem (i32.const 0) $weak) (type $u (func (param i32) (result i32)))
    (func (export "weak") (param i32) (result i32) (i32.add (local.get 0) (i32.const 100)))
    (func (export "typed") (result i64) (i64.const 1))
    (func (export "call") (result i32) (i32.add (call $weak (i32.const 1)) (i32.add (call $other) (call $typed)))) (func (export "indirect") (result i32) (call_indirect (type $u) (i32.const 2) (i32.const 0))))`
  const original = wat(text)
  const imports = { env: { weak: () => { throw new Error('not resolved') }, other: () => 10, typed: () => 1_000, again: () => 5 } }
  const resolved = machine(original, { imports, rewrite: { selfResolve: true } })
  t.equal(resolved.call('call'), 1_111)
  t.equal(resolved.call('indirect'), 102)
  t.equal(resolved.call('again'), 5)
  const wanted = (selfResolve: boolean): string[] => WebAssembly.Module.imports(new WebAssembly.Module(rewrite(original, { selfResolve }).bytes)).filter(({ kind }) => kind === 'function').map(({ name }) => name)
  t.same(wanted(true), ['other', 'typed', 'again', 'refuel'])
  t.same(wanted(false), ['weak', 'other', 'typed', 'again', 'refuel'])
  t.throws(() => machine(original, { imports }).call('call'), /not resolved/)
})

t.test('a circle through a self-resolved import pays', async (t) => {
  const guest = machine(wat('(module (import "env" "f" (func $f)) (func (export "f") (return_call $f)))'), { fuel: 1_000, imports: { env: { f: () => undefined } }, rewrite: { selfResolve: true } })
  t.equal(outcomeOf(() => guest.call('f')), 'trap: unreachable')
})

t.test('unusual but valid forms are kept', async (t) => {
  const text = `(module (memory (export "memory") 1)
    (func (export "multi") (param i32) (result i32 i32) (local.get 0) (block (param i32) (result i32 i32) (i32.const 1)) (loop (param i32 i32) (result i32 i32)))
    (func (export "select") (param i32) (result i32) (ref.is_null (select (result funcref) (ref.null func) (ref.null func) (local.get 0))))
    (func (export "simd") (result i32) (i8x16.extract_lane_s 3 (i8x16.shuffle 0 1 2 30 4 5 6 7 8 9 10 11 12 13 14 15 (v128.const i32x4 1 2 3 4) (v128.load8_lane 2 (i32.const 0) (v128.load32_zero (i32.const 4))))))
    (func (export "sat") (param f64) (result i64) (i64.trunc_sat_f64_u (local.get 0)))
    (func (export "extern") (param externref) (result i32) (ref.is_null (local.get 0)))
    (func (export "fallthrough") (param i32) (result i32) (block (block (block (br_table 0 1 2 0 (local.get 0))) (return (i32.const 10))) (return (i32.const 11))) (i32.const 12)))`
  const both = [machine(wat(text)), plain(wat(text))]
  for (const [name, ...args] of [['multi', 4], ['select', 1], ['simd'], ['sat', 1e30], ['sat', -1], ['fallthrough', 0], ['fallthrough', 1], ['fallthrough', 2], ['fallthrough', 3]] as const) {
    const [tracked, untracked] = both.map(({ call }) => outcomeOf(() => call(name, ...args)))
    t.equal(tracked, untracked, `${name}: ${String(tracked)}`)
  }
})

t.test('extended constant expressions place data and elements', async (t) => {
  const text = `(module (import "env" "base" (global $base i32)) (memory (export "memory") 1) (table 8 funcref) (type $n (func (result i32)))
    (data (i32.add (global.get $base) (i32.mul (i32.const 3) (i32.const 4))) "here") (elem (offset (i32.sub (global.get $base) (i32.const 2))) $f) (global $g (mut i32) (i32.add (global.get $base) (i32.const 1)))
    (func $f (result i32) (global.get $g)) (func (export "at") (param i32) (result i32) (call_indirect (type $n) (local.get 0))))`
  const guest = machine(wat(text, { check: false }), { imports: { env: { base: 5 } } })
  t.equal(Buffer.from(guest.bytes().subarray(17, 21)).toString(), 'here')
  t.equal(guest.call('at', 3), 6)
})
