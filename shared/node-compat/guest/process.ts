/**
 * `node:process`, for those that import it or use `process` by its bare name as only Node's programs do (free-names.ts). The
 * global object has none: libraries would take the machine for Node.
 */
import EventEmitter from './events.ts'
import { nodeError } from './errors.ts'

type Callback = (...values: never[]) => unknown

/** What is here behaves as this version's. */
export const version = 'v22.18.0'
export const versions: Readonly<Record<string, string>> = Object.freeze({ node: '22.18.0', outpost: '0' })
/** The function's `env`. */
export const env: Record<string, string | undefined> = (globalThis as unknown as { readonly __OUTPOST_ENV__: Record<string, string | undefined> }).__OUTPOST_ENV__
export const platform = 'linux'
export const arch = 'x64'
export const release: Readonly<Record<string, string>> = Object.freeze({ name: 'node' })
export const argv: readonly string[] = ['/usr/bin/node', '/var/task/index.js']
export const argv0 = 'node'
export const execArgv: readonly string[] = []
export const execPath = '/usr/bin/node'
export const title = 'outpost'
export const pid = 1
export const ppid = 0
export const features: Readonly<Record<string, boolean>> = Object.freeze({ inspector: false, debug: false, uv: false, ipv6: true, tls: false })
export const config: object = Object.freeze({ target_defaults: {}, variables: {} })

export function cwd(): string {
  return '/'
}

export function umask(): number {
  return 0o22
}

/** In the order of calls, before anything that waits for time. */
export function nextTick(callback: Callback, ...rest: never[]): void {
  queueMicrotask(() => callback(...rest))
}

/** The clock of a function stands still within a turn. */
function nowMs(): number {
  return performance.now()
}

export function hrtime(before?: readonly [number, number]): [number, number] {
  const now = nowMs()
  const [seconds, nanoseconds] = [Math.floor(now / 1000), Math.floor((now % 1000) * 1e6)]
  if (before === undefined) return [seconds, nanoseconds]
  const borrow = nanoseconds < before[1] ? 1 : 0
  return [seconds - before[0] - borrow, nanoseconds - before[1] + borrow * 1e9]
}
hrtime.bigint = (): bigint => BigInt(Math.floor(nowMs() * 1e6))

export function uptime(): number {
  return nowMs() / 1000
}

export function emitWarning(warning: unknown, options?: unknown): void {
  const type = typeof options === 'string' ? options : ((options as { type?: string } | undefined)?.type ?? 'Warning')
  console.warn(warning instanceof Error ? `${warning.name}: ${warning.message}` : `${type}: ${String(warning)}`)
}

/** Lines go to the function's log. */
function output(log: (line: string) => void): object {
  let rest = ''
  return {
    isTTY: false,
    writable: true,
    write(chunk: unknown, encoding?: unknown, done?: unknown): boolean {
      const lines = (rest + (typeof chunk === 'string' ? chunk : new TextDecoder().decode(chunk as Uint8Array))).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) log(line)
      const callback = typeof encoding === 'function' ? encoding : done
      if (typeof callback === 'function') queueMicrotask(() => (callback as () => void)())
      return true
    },
    on() {
      return this
    },
    once() {
      return this
    },
    removeListener() {
      return this
    },
    end(): void {
      if (rest !== '') log(rest)
      rest = ''
    },
    hasColors: () => false,
    getColorDepth: () => 1,
  }
}

export const stdout = output((line) => console.log(line))
export const stderr = output((line) => console.error(line))

function refuse(name: string): never {
  throw nodeError(Error, 'ERR_METHOD_NOT_IMPLEMENTED', `process.${name} is not available in functions of Outpost`)
}

export function exit(): never {
  return refuse('exit')
}

export function getBuiltinModule(): undefined {
  return undefined
}

/** Nothing is ever emitted: failures go to the invocation and to the error events of the global object. */
const emitter = new (EventEmitter as unknown as new () => NodeJS.EventEmitter)()
export const on = emitter.on.bind(emitter)
export const once = emitter.once.bind(emitter)
export const off = emitter.off.bind(emitter)
export const emit = emitter.emit.bind(emitter)
export const addListener = emitter.addListener.bind(emitter)
export const removeListener = emitter.removeListener.bind(emitter)
export const removeAllListeners = emitter.removeAllListeners.bind(emitter)
export const listeners = emitter.listeners.bind(emitter)
export const listenerCount = emitter.listenerCount.bind(emitter)

const process = {
  version, versions, env, platform, arch, release, argv, argv0, execArgv, execPath, title, pid, ppid, features, config, cwd, umask, nextTick, hrtime, uptime, emitWarning, stdout, stderr, exit, getBuiltinModule,
  on, once, off, emit, addListener, removeListener, removeAllListeners, listeners, listenerCount, exitCode: undefined, [Symbol.toStringTag]: 'process',
}
export default process
