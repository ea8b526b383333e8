/** Where log records of a process end up: JSON lines by pino, or short lines for people in `dev`. */
import { pino, type DestinationStream } from 'pino'
import { createLog, type Log, type LogFields, type LogLevel } from '../log.ts'

export function jsonLog(destination: DestinationStream, component: string): Log {
  // Components below name themselves; the tier stays, for whoever reads the lines of several.
  const logger = pino(
    { level: 'info', messageKey: 'message', timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (label) => ({ level: label }) }, base: { tier: component } },
    destination,
  )
  return createLog((level, name, message, fields) => logger[level]({ component: name, ...fields }, message), component)
}

export function prettyLog(write: (text: string) => void, component: string): Log {
  return createLog((level, name, message, fields) => {
    if (level !== 'debug') write(renderRecord(new Date(), level, name, message, fields))
  }, component)
}

/** `12:34:56.789 pop.front  warn  message key=value` */
export function renderRecord(at: Date, level: LogLevel, component: string, message: string, fields: LogFields): string {
  const time = Number.isNaN(at.getTime()) ? '--:--:--.---' : at.toISOString().slice(11, 23)
  const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${typeof value === 'string' && !/^[\w./:@$-]+$/.test(value) ? JSON.stringify(value) : String(value)}`)
  return `${time} ${component}  ${level}  ${message}${pairs.join('')}\n`
}
