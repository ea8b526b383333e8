/** Corrections of the engine: `ecosystem.md` 5.1 and 5.2. */
import { DateSetTime, MathRandom, ReflectApply } from './primordials.ts'
import { hostWarn } from './host.ts'
import { define } from './webidl.ts'

/** The engine's setters return NaN for NaN but leave the date as it was, so an invalid date would count as valid. */
function repairDate(): void {
  const prototype = Date.prototype as unknown as Record<string, (...values: number[]) => number>
  const setTime = DateSetTime
  for (const unit of ['Milliseconds', 'Seconds', 'Minutes', 'Hours', 'Date', 'Month', 'FullYear']) {
    for (const name of [`set${unit}`, `setUTC${unit}`]) {
      const native = prototype[name]
      if (native === undefined) continue
      const repaired = {
        [name](this: Date, ...values: unknown[]): number {
          for (let i = 0; i < values.length; i++) values[i] = Number(values[i])
          if (values.length === 0) return setTime(this, NaN)
          const time = ReflectApply(native, this, values as number[])
          return time !== time ? setTime(this, NaN) : time
        },
      }[name]
      if (repaired === undefined) continue
      Object.defineProperty(repaired, 'length', { value: native.length, configurable: true })
      define(prototype, name, repaired)
    }
  }
}

/**
 * CallSite objects give the functions of a stack, the prelude's own and native host calls among them. V8 gives
 * undefined for strict functions; here nobody gets any.
 */
function hideFunctionsOfStacks(): void {
  const holder = Error as unknown as { prepareStackTrace?: unknown; captureStackTrace(target: object): void }
  let site: object | undefined
  holder.prepareStackTrace = (_error: unknown, sites: object[]): string => {
    site = sites[0]
    return ''
  }
  holder.captureStackTrace({})
  // An accessor of the engine: it is set back, not deleted.
  holder.prepareStackTrace = undefined
  if (site === undefined) return
  const prototype = Object.getPrototypeOf(site) as object
  define(prototype, 'getFunction', function getFunction(): undefined {
    return undefined
  })
  define(prototype, 'getThis', function getThis(): undefined {
    return undefined
  })
}

let building = false
let warned = false

/** While an image is built its numbers would be the same in every request. */
function random(): number {
  if (building && !warned) {
    warned = true
    hostWarn('math-random')
  }
  return MathRandom()
}

/** `configure`: the top level of a bundle is about to run. */
export function beginTopLevel(): void {
  building = true
  warned = false
  define(Math, 'random', random)
}

/** `load`: the handler runs with the native function, which the host reseeds. */
export function endOfTopLevel(): void {
  building = false
  if (Math.random === random) define(Math, 'random', MathRandom)
}

export function installRepairs(): void {
  repairDate()
  hideFunctionsOfStacks()
}
