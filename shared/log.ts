/**
 * Structured logs: a constant message, variables as fields, `component` always there. No user data.
 * Components take a `Log`; only a main file makes one that writes.
 */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
export type LogFields = Readonly<Record<string, string | number | boolean | null>>

export interface Log {
  child(component: string): Log
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

export const silentLog: Log = {
  child: () => silentLog,
  debug() {},
  info() {},
  warn() {},
  error() {},
}

/** Wraps a sink of `(level, component, message, fields)`; `pino` or a test's array stands behind it. */
export function createLog(write: (level: LogLevel, component: string, message: string, fields: LogFields) => void, component = 'main'): Log {
  const at = (level: LogLevel) => (message: string, fields: LogFields = {}) => write(level, component, message, fields)
  return {
    child: (name) => createLog(write, name),
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
  }
}
