/** `node:path`: the npm package path-browserify, which is Node's `path.posix`. Functions have no Windows. */
import { absent } from './absent.ts'
import posixPath from 'path-browserify'

const { resolve, normalize, isAbsolute, join, relative, dirname, basename, extname, format, parse, sep, delimiter } = posixPath
const toNamespacedPath = (path: string): string => path

/** Each member says that it is not here. */
export const win32: unknown = new Proxy({}, { get: (_target, name) => (typeof name === 'symbol' ? undefined : name === 'sep' ? '\\' : name === 'delimiter' ? ';' : absent(`path.win32.${name}`)) })
export { resolve, normalize, isAbsolute, join, relative, dirname, basename, extname, format, parse, sep, delimiter, toNamespacedPath }
export const posix: unknown = Object.assign(posixPath, { toNamespacedPath, _makeLong: toNamespacedPath, win32, posix: posixPath })
export const _makeLong: unknown = toNamespacedPath
export default posixPath
