/** CPU time and memory of a process and all its descendants, from Linux' /proc. */
import { readFileSync, readdirSync } from 'node:fs'

/** USER_HZ: fixed at 100 in the kernel's interface on every architecture we run on. */
const TICKS_PER_SECOND = 100

interface Stat {
  readonly parentPid: number
  /** User and system time of the process and of its children that have ended and been waited for, in ticks. */
  readonly cpuTicks: number
}

export function processTree(rootPid: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid)) continue
    const stat = readStat(pid)
    if (stat !== null) parents.set(pid, stat.parentPid)
  }
  const tree = parents.has(rootPid) ? [rootPid] : []
  // Grows while it is walked: every process is looked at once.
  for (const pid of tree) {
    for (const [child, parent] of parents) if (parent === pid) tree.push(child)
  }
  return tree
}

/**
 * CPU seconds used so far by these processes and all their descendants. A child that ends moves its time to its parent,
 * so differences of two readings lose nothing. Resolution 10 ms.
 */
export function cpuSeconds(rootPids: readonly number[]): number {
  let ticks = 0
  for (const root of rootPids) {
    for (const pid of processTree(root)) ticks += readStat(pid)?.cpuTicks ?? 0
  }
  return ticks / TICKS_PER_SECOND
}

/** Resident bytes of these processes and their descendants; memory they share counts once (proportional set size). */
export function residentBytes(rootPids: readonly number[]): number {
  let kib = 0
  for (const root of rootPids) {
    for (const pid of processTree(root)) kib += residentKib(pid)
  }
  return kib * 1024
}

function residentKib(pid: number): number {
  try {
    const match = /^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))
    return Number(match?.[1] ?? 0)
  } catch {
    return 0 // The process ended while we looked.
  }
}

function readStat(pid: number): Stat | null {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return null // The process ended while we looked.
  }
}

/** The second field is the program's name in parentheses and may itself hold spaces and parentheses. */
export function parseStat(line: string): Stat {
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ')
  const field = (number: number): number => Number(fields[number - 3])
  return { parentPid: field(4), cpuTicks: field(14) + field(15) + field(16) + field(17) }
}
