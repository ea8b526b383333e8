/** What Node's modules have and functions have not. */
import { nodeError } from './errors.ts'

export const ABSENT_CODE = 'ERR_METHOD_NOT_IMPLEMENTED'

/** A function, or class, in the place of one that is not here: it says so when it is called. */
export function absent(name: string): () => never {
  return function notHere(): never {
    throw nodeError(Error, ABSENT_CODE, `${name} is not available in functions of Outpost`)
  }
}

/** A module as `require` gives it: the same object or function, with what it lacks. */
export function complete<T extends object>(module: T, prefix: string, names: readonly string[]): T {
  for (const name of names) Object.defineProperty(module, name, { value: absent(`${prefix}.${name}`), writable: true, enumerable: true, configurable: true })
  return module
}
