/** Classes and methods of `Intl` look as Node's do: properties, names, lengths, subclasses, calls without `new`. */
import { test } from 'tap'
import { sameAsNode } from './intl-parity.ts'

const CLASSES = ['DateTimeFormat', 'NumberFormat', 'Collator', 'PluralRules', 'RelativeTimeFormat', 'ListFormat', 'Locale', 'DisplayNames', 'Segmenter']
/** Methods that the standard has now in place of getters of Node 22; the guest has both. */
const NEWER = /^get[A-Z]/

const SHAPE = `((object) => Reflect.ownKeys(object).filter((key) => !${NEWER}.test(String(key))).map((key) => {
  const { value, get, set, writable, enumerable, configurable } = Object.getOwnPropertyDescriptor(object, key)
  const isFunction = typeof value === 'function'
  return [String(key), isFunction ? [value.name, value.length, Object.hasOwn(value, 'prototype')] : typeof value === 'object' ? 'object' : value, get && [get.name, get.length], typeof set, writable, enumerable, configurable].map(String).join()
}).sort())`

void test('properties of everything', async (t) => {
  const objects = ['Intl', ...CLASSES.flatMap((name) => [`Intl.${name}`, `Intl.${name}.prototype`])]
  const methods = ['Date.prototype.toLocaleString', 'Date.prototype.toLocaleDateString', 'Date.prototype.toLocaleTimeString', 'Number.prototype.toLocaleString', 'BigInt.prototype.toLocaleString', 'Array.prototype.toLocaleString', 'Object.getPrototypeOf(Int8Array.prototype).toLocaleString', 'String.prototype.localeCompare', 'String.prototype.toLocaleUpperCase', 'String.prototype.toLocaleLowerCase', 'Intl.getCanonicalLocales', 'Intl.supportedValuesOf']
  await sameAsNode(t, 'own properties', [...objects.map((object) => `${SHAPE}(${object})`), ...methods.map((method) => `${SHAPE}(${method})`), ...['', '[Symbol.iterator]()'].map((more) => `${SHAPE}(Object.getPrototypeOf(new Intl.Segmenter().segment('a')${more}))`)])
  await sameAsNode(t, 'descriptors on the global object', [`Object.getOwnPropertyDescriptor(globalThis, 'Intl').enumerable`, `String(Intl)`, `typeof Intl`, `Object.keys(Intl)`, `Object.getPrototypeOf(Intl) === Object.prototype`])
})

void test('objects', async (t) => {
  await sameAsNode(t, 'what there is on them', CLASSES.flatMap((name) => {
    const made = `new Intl.${name}('de', { type: ${name === 'DisplayNames' ? '"region"' : 'undefined'} })`
    return [`Reflect.ownKeys(${made})`, `JSON.stringify(${made})`, `String(${made})`, `Object.prototype.toString.call(${made})`, `${made} instanceof Intl.${name}`, `Object.getPrototypeOf(${made}) === Intl.${name}.prototype`,
      `(() => { class Sub extends Intl.${name} { more() { return this.constructor.name } }; const sub = new Sub('de', { type: ${name === 'DisplayNames' ? '"region"' : 'undefined'} }); return [sub.more(), sub instanceof Intl.${name}, sub.resolvedOptions?.()] })()`,
      `(() => { const target = function () {}; target.prototype = null; return Object.getPrototypeOf(Reflect.construct(Intl.${name}, ['de', { type: 'region' }].slice(0, ${name === 'DisplayNames' ? 2 : 1}), target)) === Intl.${name}.prototype })()`]
  }))
  await sameAsNode(t, 'called without new', ['NumberFormat', 'DateTimeFormat', 'Collator'].flatMap((name) => [
    `Intl.${name}('de').resolvedOptions()`, `Intl.${name}() instanceof Intl.${name}`, `(() => { const object = Object.create(Intl.${name}.prototype); const made = Intl.${name}.call(object, 'de'); return [made === object, Object.getOwnPropertySymbols(object).map((symbol) => symbol.description)] })()`,
    `(() => { function Old() { return Intl.${name}.call(this, 'de') } Old.prototype = Object.create(Intl.${name}.prototype); const old = new Old(); return old.resolvedOptions().locale })()`, `Intl.${name}.call({}, 'de') instanceof Intl.${name}`,
  ]))
  await sameAsNode(t, 'bound functions', [`((f) => [f.format === f.format, f.format.name, f.format.length, [1, 2].map(f.format)])(new Intl.NumberFormat('de', { minimumFractionDigits: 2 }))`, `((f) => [f.format === f.format, f.format.name, f.format.length, [0, 1e12].map(f.format)])(new Intl.DateTimeFormat('de'))`, `((c) => [c.compare === c.compare, c.compare.name, c.compare.length, Object.hasOwn(c.compare, 'prototype')])(new Intl.Collator('de'))`, `new (new Intl.NumberFormat().format)()`])
  await sameAsNode(t, 'in the order of the standard', ['DateTimeFormat', 'NumberFormat', 'Collator', 'PluralRules', 'RelativeTimeFormat', 'ListFormat', 'Segmenter', 'Locale'].map((name) => `(() => { const seen = []; new Intl.${name}('en', new Proxy({}, { get(target, key) { seen.push(key) } })); return seen })()`))
  await sameAsNode(t, 'results are fresh and plain', [`((f) => f.resolvedOptions() === f.resolvedOptions())(new Intl.NumberFormat())`, `Object.getPrototypeOf(new Intl.NumberFormat().resolvedOptions()) === Object.prototype`, `Array.isArray(new Intl.NumberFormat().formatToParts(1))`, `((o) => Object.keys(o))(new Intl.NumberFormat('en', { style: 'currency', currency: 'EUR' }).resolvedOptions())`, `Object.keys(new Intl.DateTimeFormat('en', { dateStyle: 'full', timeStyle: 'full', hour12: true }).resolvedOptions())`])
})
