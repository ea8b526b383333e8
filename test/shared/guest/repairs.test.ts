import { test } from 'tap'
import { parity } from './parity.ts'

void test('the engine repaired behaves as Node', async (t) => {
  const same = await parity(t)
  for (const unit of ['Milliseconds', 'Seconds', 'Minutes', 'Hours', 'Date', 'Month', 'FullYear']) {
    for (const name of [`set${unit}`, `setUTC${unit}`]) {
      same(`${name} of NaN makes the date invalid`, `const d = new Date(0); return [d.${name}(NaN), d.getTime()]`)
      same(`${name} without arguments makes the date invalid`, `const d = new Date(0); return [d.${name}(), d.getTime()]`)
    }
    same(`setUTC${unit} of numbers works`, `const d = new Date(86400000); return [d.setUTC${unit}(3), d.setUTC${unit}('5'), d.getTime(), Date.prototype.setUTC${unit}.length, Date.prototype.setUTC${unit}.name]`)
  }
  same('setUTCHours with four numbers', `const d = new Date(0); d.setUTCHours(1, 2, 3, 4); return d.toISOString()`)
  same('a later NaN argument counts', `const d = new Date(0); d.setUTCHours(1, NaN); return d.getTime()`)
  same('setters refuse another this', `Date.prototype.setMonth.call({}, 1)`)
  same('an invalid date can be set by setFullYear', `const d = new Date(NaN); d.setUTCFullYear(2020); return d.toISOString()`)
  same('structuredClone wants a value', `structuredClone()`)
  same('structuredClone refuses functions', `structuredClone(() => 1)`)
  same('structuredClone transfers only buffers', `structuredClone(1, { transfer: [{}] })`)
  same('structuredClone copies', `const a = { m: new Map([[1, { d: new Date(5) }]]), s: new Set([1]), b: new Uint8Array([1, 2]), e: new RangeError('x') }; a.self = a; const c = structuredClone(a); return [c.self === c, c.m.get(1).d.getTime(), [...c.s], [...c.b], c.e.name, c.e instanceof RangeError]`)
  same('structuredClone detaches what is transferred', `const b = new ArrayBuffer(4); const c = structuredClone({ b }, { transfer: [b] }); return [b.byteLength, c.b.byteLength]`)
  same('Error.prepareStackTrace gives no functions', `const before = Error.prepareStackTrace; try { Error.prepareStackTrace = (e, sites) => sites.map((s) => typeof s.getFunction()).join(); (function f() { 'use strict'; throw new Error('x') })() } catch (e) { return e.stack.split(',')[0] } finally { Error.prepareStackTrace = before }`)
})
