/** `node:perf_hooks`: the global `performance`, whose clock stands still within a turn. */
export const { performance } = globalThis
export const constants: object = Object.freeze({})
export default { performance, constants }
