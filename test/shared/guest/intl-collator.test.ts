/** Comparisons that the guest makes without the host are ICU's. */
import fc from 'fast-check'
import { test } from 'tap'
import { Machine } from './harness.ts'

/** Each begins one of the languages that intl-collator.ts takes for plain, or one that is not. */
const LOCALES = ['en', 'en-GB', 'de', 'de-AT', 'fr', 'it', 'pt-BR', 'nl', 'id', 'ms', 'fi', 'sw', 'ca', 'es', 'es-MX', 'pl', 'ro', 'sl', 'sv', 'cs', 'da', 'hu', 'hr', 'cy', 'sk', 'et', 'lt', 'fil', 'en-US-posix', 'sr-Latn']
const text = fc.string({ unit: fc.constantFrom(...Array.from('aAbBcChHdDzZlLnNyYsSgGfFwWvV019 .-/_,é')), maxLength: 7 })

void test('any two texts compare as in ICU', async (t) => {
  const machine = await Machine.create('export default { fetch() {} }')
  const compare = (pairs: readonly (readonly [string, string])[]): number[][] => JSON.parse(String(machine.eval(`JSON.stringify(${JSON.stringify(LOCALES)}.map((locale) => { const { compare } = new Intl.Collator(locale); return ${JSON.stringify(pairs)}.map(([a, b]) => compare(a, b)) }))`))) as number[][]
  fc.assert(fc.property(fc.array(fc.tuple(text, text), { minLength: 20, maxLength: 40 }), (pairs) => {
    const inGuest = compare(pairs)
    LOCALES.forEach((locale, index) => {
      const { compare } = new Intl.Collator(locale)
      pairs.forEach(([a, b], at) => {
        if (inGuest[index]?.[at] !== compare(a, b)) throw new Error(`${locale}: ${JSON.stringify([a, b])} gives ${inGuest[index]?.[at] ?? ''}, not ${compare(a, b)}`)
      })
    })
  }), { numRuns: 30 })
  t.pass('compared')
})

void test('every pair of two characters compares as in ICU', async (t) => {
  const machine = await Machine.create('export default { fetch() {} }')
  const characters = Array.from('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .-/')
  for (const locale of ['en', 'de', 'fr', 'it', 'pt', 'nl', 'id', 'ms', 'fi', 'sw', 'ca', 'es', 'pl', 'ro', 'sl', 'sv']) {
    const order = (machine.eval(`${JSON.stringify(characters)}.flatMap((a) => ${JSON.stringify(characters)}.map((b) => a + b)).sort(new Intl.Collator('${locale}').compare).join('|')`))
    t.equal(order, characters.flatMap((a) => characters.map((b) => a + b)).sort(new Intl.Collator(locale).compare).join('|'), locale)
  }
})

void test('a plain comparison asks the host for nothing, another one does', async (t) => {
  const machine = await Machine.create('export default { fetch() {} }')
  let asked = 0
  const hostCall = machine.hostCall.bind(machine)
  machine.hostCall = (name, rest) => {
    if (name === 'intl') asked++
    return hostCall(name, rest)
  }
  machine.eval(`globalThis.c = new Intl.Collator('en').compare; 0`)
  const before = asked
  t.equal(machine.eval(`['b', 'a', 'B 1', 'x-2'].sort(c).join() + 'a'.localeCompare('b')`), 'a,b,B 1,x-2-1')
  t.equal(asked, before)
  t.equal(machine.eval(`c('ä', 'b')`), -1)
  t.equal(asked, before + 1)
})

void test('long texts are compared by what follows their first difference', async (t) => {
  const machine = await Machine.create('export default { fetch() {} }')
  for (const code of [`c('x'.repeat(50000) + 'a', 'x'.repeat(50000) + 'B')`, `c('ä'.repeat(40000), 'ä'.repeat(40000))`, `c('ä'.repeat(40000), 'ä'.repeat(40001))`, `c('a\\u0301'.repeat(9000) + 'z', 'a\\u0301'.repeat(9000) + 'Z')`]) {
    t.equal(machine.eval(`(() => { const c = new Intl.Collator('de').compare; return ${code} })()`), Number((0, eval)(`(() => { const c = new Intl.Collator('de').compare; return ${code} })()`)), code)
  }
})
