/**
 * Runs a process so that every write and flush of chosen files is noted, and makes of that what a disk may hold after
 * power was lost at any moment: what was flushed is there; of what was not, any part may be, in any order, sectors torn.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Random } from '../../shared/random.ts'

interface Write {
  readonly kind: 'write'
  readonly file: number
  readonly offset: number
  readonly bytes: Buffer
  /** Position in the log from which on it is on disk whatever happens. */
  durableAt: number
}

interface Truncate {
  readonly kind: 'truncate'
  readonly file: number
  readonly size: number
  durableAt: number
}

export type LoggedEvent = Write | Truncate | { readonly kind: 'flush' }

/** What disks write as a whole. */
const SECTOR_BYTES = 512
const HEAD_BYTES = 24
const O_DSYNC_DELAY = 1

/** Compiles the recorder; `compiler` as needTool gave it. Returns the library to preload. */
export function compileWriteLog(compiler: string, folder: string): string {
  const library = join(folder, 'write-log.so')
  execFileSync(compiler, ['-O1', '-shared', '-fPIC', '-o', library, fileURLToPath(new URL('write-log.c', import.meta.url)), '-ldl', '-lpthread'], { stdio: ['ignore', 'ignore', 'inherit'] })
  return library
}

/** Environment variables that make a process write its log to `log`, of files whose paths end with `names`. */
export function writeLogEnv(library: string, log: string, names: readonly string[]): Readonly<Record<string, string>> {
  return { LD_PRELOAD: library, WRITE_LOG: log, WRITE_LOG_NAMES: names.join(':') }
}

export function readWriteLog(path: string): LoggedEvent[] {
  const log = readFileSync(path)
  const events: LoggedEvent[] = []
  /** By number of the flush: what it found when it began. */
  const covered = new Map<number, number>()
  for (let at = 0; at + HEAD_BYTES <= log.byteLength;) {
    const kind = String.fromCharCode(log.readUInt8(at))
    const file = log.readUInt8(at + 1)
    const durableAtOnce = log.readUInt8(at + 2) === 1
    const offset = Number(log.readBigUInt64LE(at + 8))
    const length = kind === 'W' ? Number(log.readBigUInt64LE(at + 16)) : 0
    const durableAt = durableAtOnce ? events.length + O_DSYNC_DELAY : Number.POSITIVE_INFINITY
    if (kind === 'W') events.push({ kind: 'write', file, offset, bytes: log.subarray(at + HEAD_BYTES, at + HEAD_BYTES + length), durableAt })
    else if (kind === 'T') events.push({ kind: 'truncate', file, size: offset, durableAt })
    else {
      events.push({ kind: 'flush' })
      if (kind === 'B') covered.set(offset, events.length)
      else {
        for (const event of events.slice(0, covered.get(offset) ?? 0)) {
          if (event.kind !== 'flush' && event.file === file && event.durableAt > events.length) event.durableAt = events.length
        }
      }
    }
    at += HEAD_BYTES + length
  }
  return events
}

/** One state that file number `file` may be in when power is lost after `crashAt` events. */
export function diskAfterCrash(events: readonly LoggedEvent[], file: number, crashAt: number, random: Random): Buffer {
  const happened = events.slice(0, crashAt).filter((event): event is Write | Truncate => event.kind !== 'flush' && event.file === file)
  const isDurable = (event: Write | Truncate): boolean => event.durableAt <= crashAt
  const lost = shuffled(happened.filter((event) => !isDurable(event)).filter(() => random.below(2) === 0), random)
  let size = 0
  for (const event of happened) if (event.kind === 'write') size = Math.max(size, event.offset + event.bytes.byteLength)
  const disk = Buffer.alloc(size)
  let end = 0
  const apply = (event: Write | Truncate, torn: boolean): void => {
    if (event.kind === 'truncate') {
      if (event.size < end) disk.fill(0, event.size, end)
      end = Math.min(size, event.size)
      return
    }
    for (let at = 0; at < event.bytes.byteLength; at += SECTOR_BYTES) {
      if (torn && random.below(2) === 0) continue
      const sector = event.bytes.subarray(at, at + SECTOR_BYTES)
      sector.copy(disk, event.offset + at)
      end = Math.max(end, event.offset + at + sector.byteLength)
    }
  }
  // A write that was flushed later than another to the same place lies above it; what was not flushed may, too, but
  // never above one that was flushed after it.
  const order = happened.filter(isDurable).map((event) => ({ event, torn: false }))
  for (const event of lost) {
    const later = order.findIndex(({ event: other }) => happened.indexOf(other) > happened.indexOf(event) && overlap(other, event))
    order.splice(later === -1 ? order.length : later, 0, { event, torn: random.below(3) === 0 })
  }
  for (const { event, torn } of order) apply(event, torn)
  return disk.subarray(0, end)
}

/** What was written to `file` in the order of the log up to `crashAt`: for a file that tells what the process has seen. */
export function writtenUntil(events: readonly LoggedEvent[], file: number, crashAt: number): string {
  return Buffer.concat(events.slice(0, crashAt).flatMap((event) => (event.kind === 'write' && event.file === file ? [event.bytes] : []))).toString()
}

function overlap(a: Write | Truncate, b: Write | Truncate): boolean {
  if (a.kind === 'truncate' || b.kind === 'truncate') return true
  return a.offset < b.offset + b.bytes.byteLength && b.offset < a.offset + a.bytes.byteLength
}

function shuffled<T>(items: readonly T[], random: Random): T[] {
  const copy = [...items]
  for (let index = copy.length - 1; index > 0; index -= 1) {
    const other = random.below(index + 1)
    const [a, b] = [copy[index], copy[other]]
    if (a === undefined || b === undefined) continue
    copy[index] = b
    copy[other] = a
  }
  return copy
}
