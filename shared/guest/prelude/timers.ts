/** Timers. An id of ours stands for the host operation under way, since an interval starts a new one each time. */
import { MapDelete, MapGet, MapSet, ReflectApply } from './primordials.ts'
import { OPERATIONS } from '../abi.ts'
import { begin, cancel } from './operations.ts'
import { reportUncaught } from './report.ts'
import { publish } from './webidl.ts'

/** Longest delay of browsers and Node; anything else, NaN included, counts as the shortest. */
const DELAY_MAX_MS = 2 ** 31 - 1
const operationOfTimer = new Map<number, number>()
let lastTimer = 0

function delayOf(value: unknown): number {
  const delay = Number(value)
  return delay >= 1 && delay <= DELAY_MAX_MS ? delay : 0
}

function run(callback: unknown, rest: readonly unknown[]): void {
  try {
    ReflectApply(callback as () => void, undefined, rest)
  } catch (error) {
    reportUncaught(error) // A timer's failure has no caller to go to.
  }
}

function assertCallback(callback: unknown): void {
  if (typeof callback !== 'function') throw new TypeError('The callback of a timer must be a function')
}

function setTimeout(callback: unknown, delay?: unknown, ...rest: unknown[]): number {
  assertCallback(callback)
  const timer = ++lastTimer
  const id = begin(OPERATIONS.TIMER, delayOf(delay), undefined, (_value, ok) => {
    MapDelete(operationOfTimer, timer)
    if (ok) run(callback, rest)
  })
  MapSet(operationOfTimer, timer, id)
  return timer
}

function setInterval(callback: unknown, delay?: unknown, ...rest: unknown[]): number {
  assertCallback(callback)
  const timer = ++lastTimer
  const wait = (): void => {
    MapSet(operationOfTimer, timer, begin(OPERATIONS.TIMER, delayOf(delay), undefined, (_value, ok) => {
      if (!ok) {
        MapDelete(operationOfTimer, timer)
        return
      }
      // The next one first: the callback may clear it.
      wait()
      run(callback, rest)
    }))
  }
  wait()
  return timer
}

function clearTimer(timer: unknown): void {
  const key = typeof timer === 'number' ? timer : Number(timer)
  const id = MapGet(operationOfTimer, key)
  if (id === undefined) return
  MapDelete(operationOfTimer, key)
  cancel(id)
}

export function installTimers(): void {
  publish('setTimeout', setTimeout)
  publish('setInterval', setInterval)
  publish('clearTimeout', function clearTimeout(timer?: unknown): void {
    clearTimer(timer)
  })
  publish('clearInterval', function clearInterval(timer?: unknown): void {
    clearTimer(timer)
  })
}
