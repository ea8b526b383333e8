/**
 * Every instruction that the rewriter knows, with its name and the form of what follows its opcode.
 *
 * An opcode is one number: a byte, or for the prefixed ones `prefix << 12 | number`, as in 0xfc00b for memory.fill.
 * What is not in these tables is unknown and refused; what is here with a reason in REFUSED is known and refused.
 */

/** What follows an opcode. Numbers, because the decoder switches on one for each instruction of a module. */
export const IMMEDIATE = {
  unknown: 0, none: 1, block: 2, label: 3, labelTable: 4, function: 5, callIndirect: 6, type: 7, local: 8, global: 9,
  table: 10, load: 11, store: 12, memory: 13, i32: 14, i64: 15, bytes4: 16, bytes8: 17, bytes16: 18, selectTypes: 19,
  heapType: 20, lane: 21, loadLane: 22, storeLane: 23, memoryInit: 24, dataDrop: 25, memoryCopy: 26, tableInit: 27,
  elementDrop: 28, tableCopy: 29, loop: 30, else: 31, end: 32, refused: 33,
} as const
export type Immediate = (typeof IMMEDIATE)[keyof typeof IMMEDIATE]

/** Opcodes that the rewriter writes or looks for. */
export const OP = {
  unreachable: 0x00, block: 0x02, loop: 0x03, if: 0x04, else: 0x05, end: 0x0b, br: 0x0c, brIf: 0x0d, brTable: 0x0e, return: 0x0f,
  call: 0x10, callIndirect: 0x11, returnCall: 0x12, returnCallIndirect: 0x13, callRef: 0x14, returnCallRef: 0x15,
  localGet: 0x20, localSet: 0x21, localTee: 0x22, globalGet: 0x23, globalSet: 0x24, tableSet: 0x26,
  i32Load: 0x28, i32Store: 0x36, i32Store8: 0x3a, memorySize: 0x3f, memoryGrow: 0x40,
  i32Const: 0x41, i64Const: 0x42, f32Const: 0x43, f64Const: 0x44, i32Eqz: 0x45, i32Eq: 0x46, i32Ne: 0x47, i32LtS: 0x48, i32LtU: 0x49, i32GtU: 0x4b,
  i32GeU: 0x4f, i64ExtendI32U: 0xad, i32Add: 0x6a, i32Sub: 0x6b, i32Mul: 0x6c, i32And: 0x71, i32Or: 0x72, i32ShrU: 0x76,
  i64Add: 0x7c, i64Sub: 0x7d, i64Mul: 0x7e, refNull: 0xd0, refFunc: 0xd2, brOnNull: 0xd5, brOnNonNull: 0xd6,
  memoryInit: 0xfc008, dataDrop: 0xfc009, memoryCopy: 0xfc00a, memoryFill: 0xfc00b, tableInit: 0xfc00c, elemDrop: 0xfc00d,
  tableCopy: 0xfc00e, tableGrow: 0xfc00f, tableFill: 0xfc011, v128Const: 0xfd00c,
} as const

/** Stores that mark the page of their first byte, by opcode: name and the type of the stored value. */
const STORES = [
  [0x36, 'i32.store', 'i32'], [0x37, 'i64.store', 'i64'], [0x38, 'f32.store', 'f32'], [0x39, 'f64.store', 'f64'],
  [0x3a, 'i32.store8', 'i32'], [0x3b, 'i32.store16', 'i32'], [0x3c, 'i64.store8', 'i64'], [0x3d, 'i64.store16', 'i64'], [0x3e, 'i64.store32', 'i64'],
  [0xfd00b, 'v128.store', 'v128'], [0xfd058, 'v128.store8_lane', 'v128'], [0xfd059, 'v128.store16_lane', 'v128'],
  [0xfd05a, 'v128.store32_lane', 'v128'], [0xfd05b, 'v128.store64_lane', 'v128'],
] as const

/** Every kind of instruction that writes guest memory. */
export const STORE_KINDS = [...STORES.map(([, name]) => name), 'memory.fill', 'memory.copy', 'memory.init'] as const
export type StoreKind = (typeof STORE_KINDS)[number]
export type NumericType = 'i32' | 'i64' | 'f32' | 'f64'
export type StoredType = NumericType | 'v128'

export interface Store {
  readonly kind: StoreKind
  readonly valueType: StoredType
}
export const STORE_BY_OPCODE: ReadonlyMap<number, Store> = new Map(STORES.map(([opcode, kind, valueType]) => [opcode, { kind, valueType }]))

/** Known instructions that are refused, by the first word of their name or by their whole name. */
const WHY_GC = 'state of the garbage-collected types cannot be restored'
const WHY_EXCEPTIONS = 'exception handling is not supported'
const WHY_ATOMICS = 'threads and atomics are not supported'
const WHY_RELAXED = 'relaxed SIMD gives other results on other machines'

interface Opcode {
  readonly name: string
  readonly immediate: Immediate
  readonly refusal: string | null
}
const OPCODES = new Map<number, Opcode>()

/** Names `names` (separated by spaces, `-` for a hole) from `first` on. */
function define(first: number, immediate: Immediate, names: string, refusal: string | null = null): void {
  names.trim().split(/\s+/).forEach((name, index) => {
    if (name !== '-') OPCODES.set(first + index, { name, immediate: refusal === null ? immediate : IMMEDIATE.refused, refusal })
  })
}

const I = IMMEDIATE
define(0x00, I.none, 'unreachable nop')
define(0x02, I.block, 'block')
define(0x03, I.loop, 'loop')
define(0x04, I.block, 'if')
define(0x05, I.else, 'else')
define(0x06, I.refused, 'try catch throw rethrow throw_ref', WHY_EXCEPTIONS)
define(0x0b, I.end, 'end')
define(0x0c, I.label, 'br br_if')
define(0x0e, I.labelTable, 'br_table')
define(0x0f, I.none, 'return')
define(0x10, I.function, 'call')
define(0x11, I.callIndirect, 'call_indirect')
define(0x12, I.function, 'return_call')
define(0x13, I.callIndirect, 'return_call_indirect')
define(0x14, I.type, 'call_ref return_call_ref')
define(0x18, I.refused, 'delegate catch_all', WHY_EXCEPTIONS)
define(0x1a, I.none, 'drop select')
define(0x1c, I.selectTypes, 'select')
define(0x1f, I.refused, 'try_table', WHY_EXCEPTIONS)
define(0x20, I.local, 'local.get local.set local.tee')
define(0x23, I.global, 'global.get global.set')
define(0x25, I.table, 'table.get table.set')
define(0x28, I.load, `i32.load i64.load f32.load f64.load i32.load8_s i32.load8_u i32.load16_s i32.load16_u
  i64.load8_s i64.load8_u i64.load16_s i64.load16_u i64.load32_s i64.load32_u`)
define(0x36, I.store, 'i32.store i64.store f32.store f64.store i32.store8 i32.store16 i64.store8 i64.store16 i64.store32')
define(0x3f, I.memory, 'memory.size memory.grow')
define(0x41, I.i32, 'i32.const')
define(0x42, I.i64, 'i64.const')
define(0x43, I.bytes4, 'f32.const')
define(0x44, I.bytes8, 'f64.const')
define(0x45, I.none, `i32.eqz i32.eq i32.ne i32.lt_s i32.lt_u i32.gt_s i32.gt_u i32.le_s i32.le_u i32.ge_s i32.ge_u
  i64.eqz i64.eq i64.ne i64.lt_s i64.lt_u i64.gt_s i64.gt_u i64.le_s i64.le_u i64.ge_s i64.ge_u
  f32.eq f32.ne f32.lt f32.gt f32.le f32.ge f64.eq f64.ne f64.lt f64.gt f64.le f64.ge
  i32.clz i32.ctz i32.popcnt i32.add i32.sub i32.mul i32.div_s i32.div_u i32.rem_s i32.rem_u i32.and i32.or i32.xor
  i32.shl i32.shr_s i32.shr_u i32.rotl i32.rotr
  i64.clz i64.ctz i64.popcnt i64.add i64.sub i64.mul i64.div_s i64.div_u i64.rem_s i64.rem_u i64.and i64.or i64.xor
  i64.shl i64.shr_s i64.shr_u i64.rotl i64.rotr
  f32.abs f32.neg f32.ceil f32.floor f32.trunc f32.nearest f32.sqrt f32.add f32.sub f32.mul f32.div f32.min f32.max f32.copysign
  f64.abs f64.neg f64.ceil f64.floor f64.trunc f64.nearest f64.sqrt f64.add f64.sub f64.mul f64.div f64.min f64.max f64.copysign
  i32.wrap_i64 i32.trunc_f32_s i32.trunc_f32_u i32.trunc_f64_s i32.trunc_f64_u i64.extend_i32_s i64.extend_i32_u
  i64.trunc_f32_s i64.trunc_f32_u i64.trunc_f64_s i64.trunc_f64_u
  f32.convert_i32_s f32.convert_i32_u f32.convert_i64_s f32.convert_i64_u f32.demote_f64
  f64.convert_i32_s f64.convert_i32_u f64.convert_i64_s f64.convert_i64_u f64.promote_f32
  i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32 f64.reinterpret_i64
  i32.extend8_s i32.extend16_s i64.extend8_s i64.extend16_s i64.extend32_s`)
define(0xd0, I.heapType, 'ref.null')
define(0xd1, I.none, 'ref.is_null')
define(0xd2, I.function, 'ref.func')
define(0xd3, I.refused, 'ref.eq', WHY_GC)
define(0xd4, I.none, 'ref.as_non_null')
define(0xd5, I.label, 'br_on_null br_on_non_null')

define(0xfb000, I.refused, `struct.new struct.new_default struct.get struct.get_s struct.get_u struct.set array.new array.new_default
  array.new_fixed array.new_data array.new_elem array.get array.get_s array.get_u array.set array.len array.fill array.copy
  array.init_data array.init_elem ref.test ref.test_null ref.cast ref.cast_null br_on_cast br_on_cast_fail any.convert_extern
  extern.convert_any ref.i31 i31.get_s i31.get_u`, WHY_GC)

define(0xfc000, I.none, `i32.trunc_sat_f32_s i32.trunc_sat_f32_u i32.trunc_sat_f64_s i32.trunc_sat_f64_u
  i64.trunc_sat_f32_s i64.trunc_sat_f32_u i64.trunc_sat_f64_s i64.trunc_sat_f64_u`)
define(0xfc008, I.memoryInit, 'memory.init')
define(0xfc009, I.dataDrop, 'data.drop')
define(0xfc00a, I.memoryCopy, 'memory.copy')
define(0xfc00b, I.memory, 'memory.fill')
define(0xfc00c, I.tableInit, 'table.init')
define(0xfc00d, I.elementDrop, 'elem.drop')
define(0xfc00e, I.tableCopy, 'table.copy')
define(0xfc00f, I.table, 'table.grow table.size table.fill')

define(0xfd000, I.load, `v128.load v128.load8x8_s v128.load8x8_u v128.load16x4_s v128.load16x4_u v128.load32x2_s v128.load32x2_u
  v128.load8_splat v128.load16_splat v128.load32_splat v128.load64_splat`)
define(0xfd00b, I.store, 'v128.store')
define(0xfd00c, I.bytes16, 'v128.const i8x16.shuffle')
define(0xfd00e, I.none, 'i8x16.swizzle i8x16.splat i16x8.splat i32x4.splat i64x2.splat f32x4.splat f64x2.splat')
define(0xfd015, I.lane, `i8x16.extract_lane_s i8x16.extract_lane_u i8x16.replace_lane i16x8.extract_lane_s i16x8.extract_lane_u
  i16x8.replace_lane i32x4.extract_lane i32x4.replace_lane i64x2.extract_lane i64x2.replace_lane
  f32x4.extract_lane f32x4.replace_lane f64x2.extract_lane f64x2.replace_lane`)
define(0xfd023, I.none, `i8x16.eq i8x16.ne i8x16.lt_s i8x16.lt_u i8x16.gt_s i8x16.gt_u i8x16.le_s i8x16.le_u i8x16.ge_s i8x16.ge_u
  i16x8.eq i16x8.ne i16x8.lt_s i16x8.lt_u i16x8.gt_s i16x8.gt_u i16x8.le_s i16x8.le_u i16x8.ge_s i16x8.ge_u
  i32x4.eq i32x4.ne i32x4.lt_s i32x4.lt_u i32x4.gt_s i32x4.gt_u i32x4.le_s i32x4.le_u i32x4.ge_s i32x4.ge_u
  f32x4.eq f32x4.ne f32x4.lt f32x4.gt f32x4.le f32x4.ge f64x2.eq f64x2.ne f64x2.lt f64x2.gt f64x2.le f64x2.ge
  v128.not v128.and v128.andnot v128.or v128.xor v128.bitselect v128.any_true`)
define(0xfd054, I.loadLane, 'v128.load8_lane v128.load16_lane v128.load32_lane v128.load64_lane')
define(0xfd058, I.storeLane, 'v128.store8_lane v128.store16_lane v128.store32_lane v128.store64_lane')
define(0xfd05c, I.load, 'v128.load32_zero v128.load64_zero')
define(0xfd05e, I.none, `f32x4.demote_f64x2_zero f64x2.promote_low_f32x4
  i8x16.abs i8x16.neg i8x16.popcnt i8x16.all_true i8x16.bitmask i8x16.narrow_i16x8_s i8x16.narrow_i16x8_u
  f32x4.ceil f32x4.floor f32x4.trunc f32x4.nearest i8x16.shl i8x16.shr_s i8x16.shr_u i8x16.add i8x16.add_sat_s i8x16.add_sat_u
  i8x16.sub i8x16.sub_sat_s i8x16.sub_sat_u f64x2.ceil f64x2.floor i8x16.min_s i8x16.min_u i8x16.max_s i8x16.max_u
  f64x2.trunc i8x16.avgr_u i16x8.extadd_pairwise_i8x16_s i16x8.extadd_pairwise_i8x16_u i32x4.extadd_pairwise_i16x8_s
  i32x4.extadd_pairwise_i16x8_u i16x8.abs i16x8.neg i16x8.q15mulr_sat_s i16x8.all_true i16x8.bitmask i16x8.narrow_i32x4_s
  i16x8.narrow_i32x4_u i16x8.extend_low_i8x16_s i16x8.extend_high_i8x16_s i16x8.extend_low_i8x16_u i16x8.extend_high_i8x16_u
  i16x8.shl i16x8.shr_s i16x8.shr_u i16x8.add i16x8.add_sat_s i16x8.add_sat_u i16x8.sub i16x8.sub_sat_s i16x8.sub_sat_u
  f64x2.nearest i16x8.mul i16x8.min_s i16x8.min_u i16x8.max_s i16x8.max_u - i16x8.avgr_u
  i16x8.extmul_low_i8x16_s i16x8.extmul_high_i8x16_s i16x8.extmul_low_i8x16_u i16x8.extmul_high_i8x16_u
  i32x4.abs i32x4.neg - i32x4.all_true i32x4.bitmask - - i32x4.extend_low_i16x8_s i32x4.extend_high_i16x8_s
  i32x4.extend_low_i16x8_u i32x4.extend_high_i16x8_u i32x4.shl i32x4.shr_s i32x4.shr_u i32x4.add - - i32x4.sub - - -
  i32x4.mul i32x4.min_s i32x4.min_u i32x4.max_s i32x4.max_u i32x4.dot_i16x8_s -
  i32x4.extmul_low_i16x8_s i32x4.extmul_high_i16x8_s i32x4.extmul_low_i16x8_u i32x4.extmul_high_i16x8_u
  i64x2.abs i64x2.neg - i64x2.all_true i64x2.bitmask - - i64x2.extend_low_i32x4_s i64x2.extend_high_i32x4_s
  i64x2.extend_low_i32x4_u i64x2.extend_high_i32x4_u i64x2.shl i64x2.shr_s i64x2.shr_u i64x2.add - - i64x2.sub - - -
  i64x2.mul i64x2.eq i64x2.ne i64x2.lt_s i64x2.gt_s i64x2.le_s i64x2.ge_s
  i64x2.extmul_low_i32x4_s i64x2.extmul_high_i32x4_s i64x2.extmul_low_i32x4_u i64x2.extmul_high_i32x4_u
  f32x4.abs f32x4.neg - f32x4.sqrt f32x4.add f32x4.sub f32x4.mul f32x4.div f32x4.min f32x4.max f32x4.pmin f32x4.pmax
  f64x2.abs f64x2.neg - f64x2.sqrt f64x2.add f64x2.sub f64x2.mul f64x2.div f64x2.min f64x2.max f64x2.pmin f64x2.pmax
  i32x4.trunc_sat_f32x4_s i32x4.trunc_sat_f32x4_u f32x4.convert_i32x4_s f32x4.convert_i32x4_u
  i32x4.trunc_sat_f64x2_s_zero i32x4.trunc_sat_f64x2_u_zero f64x2.convert_low_i32x4_s f64x2.convert_low_i32x4_u`)
define(0xfd100, I.refused, `i8x16.relaxed_swizzle i32x4.relaxed_trunc_f32x4_s i32x4.relaxed_trunc_f32x4_u i32x4.relaxed_trunc_f64x2_s_zero
  i32x4.relaxed_trunc_f64x2_u_zero f32x4.relaxed_madd f32x4.relaxed_nmadd f64x2.relaxed_madd f64x2.relaxed_nmadd i8x16.relaxed_laneselect
  i16x8.relaxed_laneselect i32x4.relaxed_laneselect i64x2.relaxed_laneselect f32x4.relaxed_min f32x4.relaxed_max f64x2.relaxed_min
  f64x2.relaxed_max i16x8.relaxed_q15mulr_s i16x8.relaxed_dot_i8x16_i7x16_s i32x4.relaxed_dot_i8x16_i7x16_add_s`, WHY_RELAXED)

define(0xfe000, I.refused, 'memory.atomic.notify memory.atomic.wait32 memory.atomic.wait64 atomic.fence', WHY_ATOMICS)
const NARROW = 'i32.atomic.# i64.atomic.# i32.atomic.#8 i32.atomic.#16 i64.atomic.#8 i64.atomic.#16 i64.atomic.#32'
const RMW = 'i32.atomic.rmw.# i64.atomic.rmw.# i32.atomic.rmw8.#_u i32.atomic.rmw16.#_u i64.atomic.rmw8.#_u i64.atomic.rmw16.#_u i64.atomic.rmw32.#_u'
;[NARROW.replaceAll('#', 'load'), NARROW.replaceAll('#', 'store'), ...['add', 'sub', 'and', 'or', 'xor', 'xchg', 'cmpxchg'].map((name) => RMW.replaceAll('#', name))]
  .forEach((names, index) => define(0xfe010 + index * 7, I.refused, names, WHY_ATOMICS))

/** Form of what follows, by first byte and by number behind 0xfc and 0xfd: the tables that decoding reads. */
export const PLAIN_IMMEDIATES = Uint8Array.from({ length: 256 }, (_, opcode) => OPCODES.get(opcode)?.immediate ?? I.unknown)
export const PREFIX_FIRST = 0xfb
export const PREFIX_LAST = 0xfe

export function immediateOf(opcode: number): number {
  return OPCODES.get(opcode)?.immediate ?? I.unknown
}

/** Why a known instruction is refused; null if it is not. */
export function refusalOf(opcode: number): string | null {
  return OPCODES.get(opcode)?.refusal ?? null
}

export function opcodeName(opcode: number): string {
  const known = OPCODES.get(opcode)
  if (known !== undefined) return known.name
  return opcode < 256 ? `0x${opcode.toString(16).padStart(2, '0')}` : `0x${(opcode >> 12).toString(16)} 0x${(opcode & 0xfff).toString(16).padStart(2, '0')}`
}
