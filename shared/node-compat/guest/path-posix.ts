/** `node:path/posix`: the same as `node:path`. */
export * from './path.ts'
export { default } from './path.ts'
