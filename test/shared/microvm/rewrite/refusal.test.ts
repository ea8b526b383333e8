/** What cannot be put back, bounded or understood is refused, with a reason, the instruction or part, and its place. */
import t from 'tap'
import { binary, type Bytes, machine, name, outcomeOf, refusalOf, rewrite, sized, uleb, wat, withCode } from './modules.ts'
import { ERRORS } from '../../../../shared/errors.ts'

t.test('a refusal is the fault of the client and names reason, instruction and offset', async (t) => {
  const original = withCode(0x01, 0x01, 0x06, 0x40, 0x0b)
  t.throws(() => rewrite(original), {
    code: 'ERR_MODULE_REFUSED', status: 400, params: ['exception handling is not supported', 'try', original.length - 4],
    message: `The WebAssembly module is refused: exception handling is not supported (opcode try at byte ${original.length - 4})`,
  })
  t.equal(ERRORS.ERR_MODULE_REFUSED.ran, 'no')
})

t.test('constructs that hold state which cannot be restored, and what is not supported', async (t) => {
  const constructs: readonly (readonly [what: string, text: string, reason: RegExp, part: string | RegExp])[] = [
    ['memory64', '(module (memory i64 1))', /64-bit memory/, '(memory section)'],
    ['imported memory64', '(module (import "a" "b" (memory i64 1)))', /64-bit memory/, '(import section)'],
    ['shared memory', '(module (memory 1 2 shared))', /shared memory/, '(memory section)'],
    ['two memories', '(module (memory 1) (memory 1))', /more than one memory/, '(memory section)'],
    ['an imported and a defined memory', '(module (import "a" "b" (memory 1)) (memory 1))', /more than one memory/, '(memory section)'],
    ['a table of host values', '(module (table 1 externref))', /table of other things than functions/, '(table section)'],
    ['an imported table of host values', '(module (import "a" "b" (table 1 externref)))', /table of other things than functions/, '(import section)'],
    ['a global host value', '(module (global externref (ref.null extern)))', /value of the host/, '(global section)'],
    ['an imported global host value', '(module (import "a" "b" (global externref)))', /value of the host/, '(import section)'],
    ['a mutable function reference', '(module (global (mut funcref) (ref.null func)))', /mutable global/, '(global section)'],
    ['a mutable v128', '(module (global (mut v128) (v128.const i32x4 0 0 0 0)))', /mutable global/, '(global section)'],
    ['elements of host values', '(module (elem externref (ref.null extern)))', /elements of other things/, '(element section)'],
    ['an exception tag', '(module (tag))', /tags are not supported/, '(tag section)'],
    ['an imported exception tag', '(module (import "a" "b" (tag)))', /tags are not supported/, '(import section)'],
    ['try', '(module (func (try (do) (catch_all))))', /exception handling/, 'try'],
    ['an atomic load', '(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))', /atomics/, 'i32.atomic.load'],
    ['an atomic exchange', '(module (memory 1) (func (drop (i64.atomic.rmw16.cmpxchg_u (i32.const 0) (i64.const 0) (i64.const 0)))))', /atomics/, 'i64.atomic.rmw16.cmpxchg_u'],
    ['memory.atomic.notify', '(module (memory 1) (func (drop (memory.atomic.notify (i32.const 0) (i32.const 0)))))', /atomics/, 'memory.atomic.notify'],
    ['atomic.fence', '(module (memory 1) (func (atomic.fence)))', /atomics/, 'atomic.fence'],
    ['relaxed SIMD', '(module (func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))))', /relaxed SIMD/, 'i8x16.relaxed_swizzle'],
    ['an import from the host module', '(module (import "outpost" "refuel" (func (result i32))))', /may not import from "outpost"/, '(import section)'],
    ['the flags as guest memory', '(module (import "outpost" "flags" (memory 17)))', /may not import from "outpost"/, '(import section)'],
    ['an export with a name of the rewriter', '(module (func (export "outpost.start")))', /may not export names/, '(export section)'],
  ]
  for (const [what, text, reason, part] of constructs) {
    const refusal = refusalOf(wat(text, { check: false }))
    t.match(refusal?.reason, reason, what)
    t.equal(refusal?.opcodeName, part, what)
    t.ok(refusal !== null && refusal.byteOffset >= 8, what)
  }
})

t.test('forms that only bytes can say', async (t) => {
  const code = (...bytes: Bytes): Uint8Array => withCode(...bytes)
  const end = [0x0b]
  const constructs: readonly (readonly [what: string, original: Uint8Array, reason: RegExp, part: string])[] = [
    ['a struct type', binary([1, 1, 0x5f, 0]), /garbage-collected types/, '(type section)'],
    ['an array type', binary([1, 1, 0x5e, 0x7f, 0]), /garbage-collected types/, '(type section)'],
    ['a recursive group', binary([1, 1, 0x4e, 1, 0x60, 0, 0]), /garbage-collected types/, '(type section)'],
    ['an anyref parameter', binary([1, 1, 0x60, 1, 0x6e, 0]), /garbage-collected types/, '(type section)'],
    ['an exnref parameter', binary([1, 1, 0x60, 1, 0x69, 0]), /exception references/, '(type section)'],
    ['a reference to eq', binary([1, 1, 0x60, 1, 0x63, 0x6d, 0]), /garbage-collected types/, '(type section)'],
    ['an i31ref local', binary([1, 1, 0x60, 0, 0], [3, 1, 0], [10, 1, ...sized([1, 1, 0x6c, 0x0b])]), /garbage-collected types/, '(locals)'],
    ['struct.new', code(0xfb, 0x00, 0x00, 0x1a), /garbage-collected types/, 'struct.new'],
    ['ref.i31', code(0x41, 0, 0xfb, 0x1c, 0x1a), /garbage-collected types/, 'ref.i31'],
    ['ref.eq', code(0xd3), /garbage-collected types/, 'ref.eq'],
    ['throw_ref', code(0x0a), /exception handling/, 'throw_ref'],
    ['try_table', code(0x1f, 0x40, 0, 0x0b), /exception handling/, 'try_table'],
    ['a block that gives an exnref', code(0x02, 0x69, 0x00, 0x0b, 0x1a), /exception references/, 'block'],
    ['an unknown opcode', code(0x27), /unknown instruction/, '0x27'],
    ['an unknown miscellaneous opcode', code(0xfc, 0x12), /unknown instruction/, '0xfc 0x12'],
    ['an unknown SIMD opcode', code(0xfd, 0x9a, 0x01), /unknown instruction/, '0xfd 0x9a'],
    ['a far SIMD opcode', code(0xfd, 0xff, 0xff, 0x03), /unknown instruction/, '0xfd 0xfff'],
    ['an unknown atomic opcode', code(0xfe, 0x7f), /unknown instruction/, '0xfe 0x7f'],
    ['an unknown section', binary([14, 0]), /unknown section 14/, '(unknown section)'],
    ['a 64-bit table', binary([4, 1, 0x70, 4, 1]), /64-bit table/, '(table section)'],
    ['a shared global', binary([6, 1, 0x7f, 3, 0x41, 0, ...end]), /shared form of global/, '(global section)'],
    ['a struct in a constant', binary([6, 1, 0x7f, 0, 0xfb, 0, 0, ...end]), /garbage-collected types/, 'struct.new'],
    ['a call in a constant', binary([1, 1, 0x60, 0, 0], [6, 1, 0x7f, 0, 0x10, 0, ...end]), /unknown instruction in a constant/, 'call'],
  ]
  for (const [what, original, reason, part] of constructs) {
    const refusal = refusalOf(original)
    t.match(refusal?.reason, reason, what)
    t.equal(refusal?.opcodeName, part, what)
  }
})

t.test('modules that are invalid but would become valid with what rewriting adds', async (t) => {
  const store = [0x41, 0, 0x41, 1, 0x36]
  const hidden: readonly (readonly [what: string, original: Uint8Array<ArrayBuffer>, reason: RegExp, part: string])[] = [
    ['a store to memory 1', withCode(...store, 0x42, 1, 0), /alignment that names another memory/, 'i32.store'],
    ['a load of the fuel', withCode(0x41, 0, 0x28, 0x42, 1, 0x80, 0x80, 0xc0, 0, 0x1a), /alignment that names another memory/, 'i32.load'],
    ['a store that names memory 0 at length', withCode(...store, 0x42, 0, 0), /alignment that names another memory/, 'i32.store'],
    ['memory.size of memory 1', withCode(0x3f, 1, 0x1a), /no memory 1/, 'memory.size'],
    ['memory.grow of memory 1', withCode(0x41, 0, 0x40, 1, 0x1a), /no memory 1/, 'memory.grow'],
    ['memory.fill of memory 1', withCode(0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 0x0b, 1), /no memory 1/, 'memory.fill'],
    ['memory.copy to memory 1', withCode(0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 0x0a, 1, 0), /no memory 1/, 'memory.copy'],
    ['memory.copy from memory 1', withCode(0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 0x0a, 0, 1), /no memory 1/, 'memory.copy'],
    ['the global of a dropped segment', binary([1, 1, 0x60, 0, 0], [3, 1, 0], [5, 1, 0, 1], [12, 1], [10, 1, ...sized([0, 0xfc, 9, 0, 0x41, 0, 0x24, 0, 0x0b])], [11, 1, 1, 0]), /no global 0/, 'global.set'],
    ['a generated function', withCode(0x10, 1), /no function 1/, 'call'],
    ['a generated function by reference', withCode(0xd2, 1, 0x1a), /no function 1/, 'ref.func'],
    ['the last function, which is one further once rewritten', withCode(0x10, 2), /no function 2/, 'call'],
    ['a generated type', withCode(0x41, 0, 0x11, 1, 0), /no type 1/, 'call_indirect'],
    ['a generated type for a block', withCode(0x02, 1, 0x0b, 0x1a), /no type 1/, 'block'],
    ['a local of the rewriter', withCode(...store, 2, 0, 0x20, 0, 0x1a), /no local 0/, 'local.get'],
    ['an export of memory 1', binary([5, 1, 0, 1], [7, 1, ...name('m'), 2, 1]), /no such thing to export, 1/, '(export section)'],
    ['an export of the refuel import', binary([7, 1, ...name('f'), 0, 0]), /no such thing to export, 0/, '(export section)'],
    ['data for memory 1', binary([5, 1, 0, 1], [11, 1, 2, 1, 0x41, 0, 0x0b, 0]), /no memory 1/, '(data section)'],
    ['an element of a generated function', binary([4, 1, 0x70, 0, 1], [9, 1, 0, 0x41, 0, 0x0b, 1, 0]), /no function 0/, '(element section)'],
    ['a generated start', binary([8, 0]), /no function 0/, '(start section)'],
  ]
  for (const [what, original, reason, part] of hidden) {
    // Engines that know more than one memory take the long way to say memory 0; the rewriter must not even so.
    t.equal(WebAssembly.validate(original), what.includes('at length'), what)
    const refusal = refusalOf(original)
    t.match(refusal?.reason, reason, what)
    t.equal(refusal?.opcodeName, part, what)
  }
})

t.test('indices beyond what the module has', async (t) => {
  for (const [what, original, reason] of [
    ['table', withCode(0x41, 0, 0x25, 1, 0x1a), /no table 1/],
    ['table of call_indirect', withCode(0x41, 0, 0x11, 0, 1), /no table 1/],
    ['table.copy source', withCode(0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 0x0e, 0, 1), /no table 1/],
    ['label', withCode(0x0c, 1), /no label 1/],
    ['label of br_table', withCode(0x41, 0, 0x0e, 1, 0, 3), /no label 3/],
    ['element segment', withCode(0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 0x0c, 0, 0), /no element segment 0/],
    ['data segment', binary([1, 1, 0x60, 0, 0], [3, 1, 0], [5, 1, 0, 1], [12, 0], [10, 1, ...sized([0, 0xfc, 9, 0, 0x0b])]), /no data segment 0/],
    ['data segment without a count', binary([1, 1, 0x60, 0, 0], [3, 1, 0], [10, 1, ...sized([0, 0xfc, 9, 0, 0x0b])]), /without a data count/],
    ['memory', binary([1, 1, 0x60, 0, 0], [3, 1, 0], [10, 1, ...sized([0, 0x41, 0, 0x28, 2, 0, 0x1a, 0x0b])]), /no memory 0/],
    ['type of a function', binary([3, 1, 0]), /no type 0/],
    ['global in a constant', binary([6, 1, 0x7f, 0, 0x23, 0, 0x0b]), /no global 0/],
  ] as const) t.match(refusalOf(original)?.reason, reason, what)
})

t.test('malformed encodings', async (t) => {
  const functionOf = (...bytes: Bytes): Uint8Array => binary([1, 1, 0x60, 0, 0], [3, 1, 0], [10, 1, ...sized(bytes)])
  for (const [what, original, reason] of [
    ['nothing', new Uint8Array(), /ends too early/],
    ['another magic', Uint8Array.from([0, 0x61, 0x73, 0x6e, 1, 0, 0, 0]), /not a WebAssembly module/],
    ['a component', Uint8Array.from([0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0]), /not a WebAssembly module/],
    ['a section longer than the module', Uint8Array.from([...binary(), 1, 9, 0]), /ends too early/],
    ['bytes behind a section', binary([1, 0, 0]), /left over/],
    ['a section twice', binary([1, 0], [1, 0]), /out of order or appears twice/],
    ['sections out of order', binary([3, 0], [1, 0]), /out of order/],
    ['a count larger than the section', binary([1, 0xff, 0xff, 3]), /count is larger|more than/],
    ['a length of more than 32 bits', Uint8Array.from([...binary(), 1, 0xff, 0xff, 0xff, 0xff, 0x1f]), /too many bits/],
    ['a length of six bytes', Uint8Array.from([...binary(), 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0]), /too many bits/],
    ['a constant of six bytes', withCode(0x41, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 0x1a), /too many bits/],
    ['a function without end', functionOf(0, 0x01), /ends too early/],
    ['code after the end', functionOf(0, 0x0b, 0x01), /left over/],
    ['a function without a body', binary([1, 1, 0x60, 0, 0], [3, 1, 0]), /1 functions are declared and 0 have a body/],
    ['a body without a function', binary([10, 1, ...sized([0, 0x0b])]), /0 functions are declared and 1 have a body/],
    ['a wrong data count', binary([5, 1, 0, 1], [12, 2], [11, 1, 1, 0]), /2 data segments are announced and 1/],
    ['an else without an if, which only the engine notices', withCode(0x05), /not valid/],
    ['a wrong type, which only the engine notices', withCode(0x41, 0, 0x42, 0, 0x6a, 0x1a), /not valid/],
    ['a name that is not UTF-8', binary([7, 1, 1, 0xff, 2, 0]), /no such thing|not valid/],
  ] as const) t.match(refusalOf(original)?.reason, reason, what)
})

t.test('bounds', async (t) => {
  const functionOf = (body: Bytes): Uint8Array => binary([1, 1, 0x60, 0, 0], [3, 1, 0], [10, 1, ...sized(body)])
  const repeat = (count: number, ...bytes: readonly number[]): number[] => Array.from({ length: count }, () => bytes).flat()
  t.equal(refusalOf(functionOf([0, ...repeat(999, 0x02, 0x40), ...repeat(1_000, 0x0b)])), null, 'nesting of 1,000')
  t.match(refusalOf(functionOf([0, ...repeat(1_000, 0x02, 0x40), ...repeat(1_001, 0x0b)])), { reason: /nested deeper than 1000/, opcodeName: 'block' })
  t.equal(refusalOf(functionOf([0, 0x41, 0, 0x0e, ...uleb(65_520), ...repeat(65_521, 0), 0x0b])), null, 'br_table of 65,520')
  t.match(refusalOf(functionOf([0, 0x41, 0, 0x0e, ...uleb(65_521), ...repeat(65_522, 0), 0x0b])), { reason: /more than 65520 labels/, opcodeName: 'br_table' })
  t.equal(refusalOf(functionOf([1, ...uleb(49_984), 0x7f, 0x0b])), null, 'locals')
  t.match(refusalOf(functionOf([1, ...uleb(49_985), 0x7f, 0x0b]))?.reason, /more than 49984 locals/)
  t.match(refusalOf(functionOf([2, ...uleb(0xffffffff), 0x7f, ...uleb(0xffffffff), 0x7f, 0x0b]))?.reason, /more than 49984 locals/)
  t.match(refusalOf(functionOf([0, ...repeat(4 * 1024 * 1024, 0x01), 0x0b]))?.reason, /more than 4194304 bytes/)
  t.match(refusalOf(functionOf([0, ...repeat(400_000, 0x03, 0x40, 0x0b), 0x0b]))?.reason, /too large once rewritten/)
  t.match(refusalOf(binary([1, 1, 0x60, 0, 0], [3, ...uleb(100_001), ...repeat(100_001, 0)]))?.reason, /100001 entries are more than 100000/)
  t.match(refusalOf(binary([4, 1, 0x70, 0, ...uleb(200_001)]))?.reason, /table of more than 200000 entries/)
  t.match(refusalOf(wat('(module (memory 65))'))?.reason, /65 pages at the start, of 64 allowed/)
  t.equal(refusalOf(wat('(module (memory 64))')), null)
  t.match(refusalOf(new Uint8Array(32 * 1024 * 1024 + 1))?.reason, /more than 33554432 bytes/)
})

t.test('a reference to a host value may be passed through, since it cannot stay', async (t) => {
  const guest = machine(wat('(module (func (export "f") (param externref) (result i32) (local externref) (local.set 1 (local.get 0)) (ref.is_null (local.get 1))))'))
  t.equal(outcomeOf(() => guest.call('f')), '0')
})
