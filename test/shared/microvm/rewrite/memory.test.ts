/** memory.size and memory.grow act on a size that the host can move back; physical memory grows behind it. */
import t from 'tap'
import fc from 'fast-check'
import { CONTROL_VIRTUAL_PAGES, GROW_SLACK_PAGES } from '../../../../shared/microvm/rewrite/index.ts'
import { MAXIMUM_PAGES, machine, plain, wat } from './modules.ts'

const GUEST = (limits: string): Uint8Array<ArrayBuffer> => wat(`(module (memory (export "memory") ${limits})
  (func (export "size") (result i32) memory.size)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "poke") (param i32) (i32.store8 (local.get 0) (i32.const 1))))`)

const physical = (memory: WebAssembly.Memory): number => memory.buffer.byteLength / 65_536

t.test('growth moves the virtual size and grows the memory ahead by some slack', async (t) => {
  const guest = machine(GUEST('2'))
  t.equal(guest.call('size'), 2)
  t.equal(guest.call('grow', 0), 2)
  t.equal(physical(guest.memory), 2, 'growing by nothing grows nothing')
  t.equal(guest.call('grow', 1), 2)
  t.equal(guest.call('size'), 3)
  t.equal(guest.virtualPages(), 3)
  t.equal(physical(guest.memory), 3 + GROW_SLACK_PAGES)
  t.equal(guest.call('grow', GROW_SLACK_PAGES), 3)
  t.equal(guest.call('size'), 3 + GROW_SLACK_PAGES)
  t.equal(physical(guest.memory), 3 + GROW_SLACK_PAGES, 'what was grown ahead is used first')
})

t.test('a host that moves the size back finds it so, and the next growth reuses what is there', async (t) => {
  const guest = machine(GUEST('1'))
  guest.call('grow', 5)
  const before = physical(guest.memory)
  const back = machine(GUEST('1'))
  t.equal(back.call('size'), 1)
  new DataView(guest.flags.buffer).setInt32(CONTROL_VIRTUAL_PAGES, 1, true)
  t.equal(guest.call('size'), 1)
  t.equal(guest.call('grow', 5), 1)
  t.equal(physical(guest.memory), before)
})

t.test('growth ends at the limit of the host, without slack beyond it', async (t) => {
  const guest = machine(GUEST('1'))
  guest.setLimit(10)
  t.equal(guest.call('grow', 10), -1)
  t.equal(guest.call('grow', 9), 1)
  t.equal(guest.call('size'), 10)
  t.equal(physical(guest.memory), 10)
  for (const delta of [1, 65_536, 0x7fffffff, -1, -10, -9]) t.equal(guest.call('grow', delta), -1, `by ${delta}`)
  t.equal(guest.call('grow', 0), 10)
  t.equal(guest.call('size'), 10)
})

t.test('growth ends at the maximum of the memory, and at the one that the module declares', async (t) => {
  const guest = machine(GUEST('1'))
  guest.setLimit(1_000_000)
  t.equal(guest.call('grow', MAXIMUM_PAGES - 2), 1, 'the exact amount still fits where the slack does not')
  t.equal(physical(guest.memory), MAXIMUM_PAGES - 1)
  t.equal(guest.call('grow', 2), -1)
  t.equal(guest.call('size'), MAXIMUM_PAGES - 1)
  const bounded = machine(GUEST('1 4'))
  t.equal(bounded.rewritten?.declaredMaximumPages, 4)
  t.equal(bounded.call('grow', 4), -1)
  t.equal(bounded.call('grow', 3), 1)
  t.equal(bounded.call('grow', 1), -1)
})

t.test('stores between the virtual and the physical size do not trap, and are marked', async (t) => {
  const guest = machine(GUEST('1'))
  guest.call('grow', 1)
  guest.call('poke', 3 * 65_536)
  t.same(guest.drain(), [384])
})

t.test('a memory of the host keeps its import name and is the one that grows', async (t) => {
  const original = wat('(module (import "env" "mem" (memory 1 20)) (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))')
  const guest = machine(original)
  t.same(guest.rewritten?.memoryImport, { module: 'env', name: 'mem' })
  t.equal(guest.rewritten?.definesMemory, false)
  t.equal(guest.rewritten?.initialPages, 1)
  t.equal(guest.call('grow', 3), 1)
  t.ok(physical(guest.memory) >= 4)
})

t.test('a module without memory still runs', async (t) => {
  const guest = machine(wat('(module (func (export "f") (result i32) (local i32) (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 10)))) (local.get 0)))'))
  t.equal(guest.rewritten?.initialPages, 0)
  t.equal(guest.rewritten?.definesMemory, true)
  t.equal(guest.call('f'), 10)
})

t.test('a defined memory is imported and its export stays', async (t) => {
  const guest = machine(GUEST('3'))
  t.same(guest.rewritten?.memoryImport, { module: 'outpost', name: 'memory' })
  t.equal(guest.rewritten?.definesMemory, true)
  t.equal(guest.rewritten?.initialPages, 3)
  t.equal(guest.exports['memory'], guest.memory)
})

t.test('within the limit any series of growths gives what a plain memory gives', async (t) => {
  fc.assert(fc.property(fc.array(fc.oneof(fc.nat(8), fc.constantFrom(-1, 64, 0x7fffffff)), { maxLength: 20 }), (deltas) => {
    const original = GUEST(`1 ${MAXIMUM_PAGES}`)
    const tracked = machine(original)
    const untracked = plain(original)
    return deltas.every((delta) => tracked.call('grow', delta) === untracked.call('grow', delta) && tracked.call('size') === untracked.call('size')
      && physical(tracked.memory) >= Number(tracked.call('size')) && physical(tracked.memory) <= Number(tracked.call('size')) + GROW_SLACK_PAGES)
  }), { numRuns: 50 })
  t.pass('the property holds')
})
