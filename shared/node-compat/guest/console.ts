/** `node:console`: the global one. */
import { absent } from './absent.ts'

const world = globalThis.console
export const { log, info, debug, warn, error, dir, time, timeEnd, timeLog, trace, assert, count, countReset, group, groupEnd, groupCollapsed, table, dirxml } = world
/** There is no terminal. */
export function clear(): void {
  // Nothing to clear.
}
export const Console: unknown = /* @__PURE__ */ absent('console.Console')
export default Object.assign(Object.create(world) as object, { Console, clear })
