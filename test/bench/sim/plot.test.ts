import t from 'tap'
import { toSvg, type Plot } from '../../../bench/sim/plot.ts'

const PLOT: Plot = {
  title: 'a <b> & "c"', note: 'n',
  x: { label: 'x', scale: 'log', ticks: [1, 10, 100] },
  y: { label: 'y', scale: 'linear', ticks: [0, 1], text: (tick) => `${tick * 100} %` },
  series: [{ name: 'one', points: [[1, 0], [10, 0.5], [1000, 2]] }, { name: 'bound', style: 'dashes', points: [[1, 1], [100, 1]] }],
}

t.test('texts cannot break out, log axes are logarithmic, and nothing is drawn beyond the axes', async (t) => {
  const svg = toSvg(PLOT)
  t.match(svg, 'a &#60;b&#62; &#38; &#34;c&#34;')
  const path = /d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)" fill="none"/.exec(svg)?.slice(1).map(Number) ?? []
  const [x1 = NaN, y1 = NaN, x2 = NaN, y2 = NaN, x3 = NaN, y3 = NaN] = path
  t.equal(x2 * 2, x1 + x3, 'ten lies half way from one to a hundred; a thousand is at the end')
  t.ok(y1 > y2 && y2 > y3)
  t.match(svg, '100 %')
  t.match(svg, 'stroke-dasharray')
})
