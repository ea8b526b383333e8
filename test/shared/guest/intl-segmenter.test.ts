/** Segments of long texts, which are found window by window, are those that Node finds in the whole. */
import { test } from 'tap'
import { sameAsNode } from './intl-parity.ts'

const TEXTS: Readonly<Record<string, string>> = {
  latin: `'The quick (“brown”) fox can’t jump 32.3 feet, right? Mr. X said: no! '`, thai: `'สวัสดีชาวโลก ภาษาไทยไม่มีวรรค '`, japanese: `'吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。'`, flags: `'🇩🇪🇫🇷🇯🇵👨‍👩‍👧‍👦e\\u0301 '`, khmer: `'សូមស្វាគមន៍'`, lines: `'a\\r\\nb\\n\\n'`, lone: `'\\ud83d x \\udc00\\ufeff'`,
}
/** What a list of segments comes to: their count, and a sum in which every end and every mark counts. */
const SUM = `((segments) => { let sum = 0, count = 0; for (const { segment, index, isWordLike } of segments) { count++; sum = (sum * 31 + index * 3 + segment.length + (isWordLike === true ? 7 : isWordLike === false ? 5 : 0)) % 1000003 } return [count, sum] })`

void test('segments', async (t) => {
  const granularities = ['grapheme', 'word', 'sentence']
  await sameAsNode(t, 'of short texts, whole', Object.values(TEXTS).flatMap((text) => granularities.flatMap((granularity) => [`[...new Intl.Segmenter('en', { granularity: '${granularity}' }).segment(${text})].map((each) => JSON.stringify(each).toWellFormed())`, `[0, 1, 5, -1, 999, NaN, '2', 1.9].map((at) => String(new Intl.Segmenter('fr', { granularity: '${granularity}' }).segment(${text}).containing(at)?.index))`])))
  await sameAsNode(t, 'of long texts', Object.values(TEXTS).flatMap((text) => granularities.flatMap((granularity) => [100, 300].map((times) => `${SUM}(new Intl.Segmenter('en', { granularity: '${granularity}' }).segment(${text}.repeat(${times})))`))))
  await sameAsNode(t, 'longer than a window', [`${SUM}(new Intl.Segmenter('en', { granularity: 'sentence' }).segment('word '.repeat(9000) + '. And another one.'))`, `${SUM}(new Intl.Segmenter('en').segment('a' + '\\u0301'.repeat(5000) + 'b'))`, `${SUM}(new Intl.Segmenter('en', { granularity: 'word' }).segment('x'.repeat(12000) + ' y'))`, `new Intl.Segmenter('en', { granularity: 'word' }).segment(' '.repeat(3000) + 'x'.repeat(9000) + ' y').containing(8000).index`, `new Intl.Segmenter('en').segment('ab '.repeat(50000)).containing(120001).segment`])
  await sameAsNode(t, 'by iterators of their own', [`((s) => [s[Symbol.iterator]() === s[Symbol.iterator](), [...s].length, [...s].length])(new Intl.Segmenter('en').segment('abc'))`, `((i) => [i[Symbol.iterator]() === i, String(i), i.next().value.segment, i.next().done, i.next().done, i.next().done])(new Intl.Segmenter('en').segment('abc')[Symbol.iterator]())`, `((i) => i.next())(new Intl.Segmenter('en').segment('')[Symbol.iterator]())`])
})
