/** Line charts as SVG text, for results that are read by eye. Pure. */

export interface Series {
  readonly name: string
  readonly points: readonly (readonly [x: number, y: number])[]
  /** Dashes say that this is a bound or a formula, not a measurement. */
  readonly style?: 'line' | 'dashes'
}

export interface Axis {
  readonly label: string
  readonly scale: 'linear' | 'log'
  /** Numbers that get a tick; the first and the last are the ends of the axis. */
  readonly ticks: readonly number[]
  /** How a tick reads. Default: the number. */
  readonly text?: (tick: number) => string
}

export interface Plot {
  readonly title: string
  /** A line below the title: what it was made from. */
  readonly note: string
  readonly x: Axis
  readonly y: Axis
  readonly series: readonly Series[]
}

const WIDTH = 760
const HEIGHT = 440
const LEFT = 64
const RIGHT = 190
const TOP = 64
const BOTTOM = 52
/** Okabe and Ito's palette, which people who see colours differently can tell apart. */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000']
const FONT = 'font-family="system-ui, sans-serif"'

export function toSvg(plot: Plot): string {
  const { x, y, series } = plot
  const right = WIDTH - RIGHT
  const bottom = HEIGHT - BOTTOM
  const atX = (value: number): number => LEFT + place(x, value) * (right - LEFT)
  const atY = (value: number): number => bottom - place(y, value) * (bottom - TOP)
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-label="${escaped(plot.title)}">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    text(LEFT, 26, plot.title, 'start', 16, '#111111'),
    text(LEFT, 45, plot.note, 'start', 11, '#555555'),
    ...x.ticks.flatMap((tick) => [
      `<path d="M${fixed(atX(tick))} ${TOP}V${bottom}" stroke="#e4e4e4"/>`,
      text(atX(tick), bottom + 18, label(x, tick), 'middle', 11, '#333333'),
    ]),
    ...y.ticks.flatMap((tick) => [
      `<path d="M${LEFT} ${fixed(atY(tick))}H${right}" stroke="#e4e4e4"/>`,
      text(LEFT - 8, atY(tick) + 4, label(y, tick), 'end', 11, '#333333'),
    ]),
    text((LEFT + right) / 2, HEIGHT - 12, x.label, 'middle', 12, '#111111'),
    `<g transform="translate(16 ${(TOP + bottom) / 2}) rotate(-90)">${text(0, 0, y.label, 'middle', 12, '#111111')}</g>`,
    ...series.flatMap(({ name, points, style }, index) => {
      const colour = COLOURS[index % COLOURS.length] ?? '#000000'
      const dashes = style === 'dashes' ? ' stroke-dasharray="6 4"' : ''
      const legendY = TOP + 8 + index * 20
      const path = points.map(([px, py], at) => `${at === 0 ? 'M' : 'L'}${fixed(atX(px))} ${fixed(atY(py))}`).join('')
      return [
        `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"${dashes}/>`,
        ...(points.length > 40 ? [] : points.map(([px, py]) => `<circle cx="${fixed(atX(px))}" cy="${fixed(atY(py))}" r="2.5" fill="${colour}"/>`)),
        `<path d="M${right + 14} ${legendY}h22" stroke="${colour}" stroke-width="2"${dashes}/>`,
        text(right + 42, legendY + 4, name, 'start', 11, '#111111'),
      ]
    }),
    '</svg>',
  ]
  return `${lines.join('\n')}\n`
}

/** Where on the axis, 0 to 1; what lies beyond its ends is put at them. */
function place({ scale, ticks }: Axis, value: number): number {
  const first = ticks[0] ?? 0
  const last = ticks.at(-1) ?? 1
  const at = scale === 'log' ? Math.log(value / first) / Math.log(last / first) : (value - first) / (last - first)
  return Math.min(1, Math.max(0, at))
}

function label(axis: Axis, tick: number): string {
  return axis.text?.(tick) ?? String(tick)
}

function text(x: number, y: number, content: string, anchor: 'start' | 'middle' | 'end', size: number, colour: string): string {
  return `<text x="${fixed(x)}" y="${fixed(y)}" ${FONT} font-size="${size}" text-anchor="${anchor}" fill="${colour}">${escaped(content)}</text>`
}

function fixed(value: number): string {
  return String(Math.round(value * 10) / 10)
}

function escaped(content: string): string {
  return content.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`)
}
