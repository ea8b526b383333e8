/** What a run that did not end well says of itself: the exception, or the report of its being stopped at a limit. */
import { CodedError } from '../errors.ts'
import type { Outcome } from '../outcome.ts'
import type { InvocationResult } from '../worker/types.ts'
import { shownFrames } from './line-tables/map-stack.ts'
import type { Run } from './run.ts'

/** The function's own doing, which its owner wants to hear of. */
const STOPPED: ReadonlySet<Outcome> = new Set<Outcome>(['exceededCpu', 'exceededMemory', 'exceededWall', 'exceededResponse', 'exceededSubrequests', 'hung'])
const NAMES = { timer: 'a timer', fetch: 'fetch', read: 'the body of a fetch', body: 'the request body', drain: 'the client to read', subtle: 'crypto.subtle', zip: 'a compression', write: 'a compression', service: 'another function' } as const

/** Null if nothing of the kind happened. `stack` begins with `NAME: MESSAGE`, as V8 has it. */
export function shownException(run: Run): InvocationResult['exception'] {
  if (run.kill !== null && STOPPED.has(run.kill.outcome)) {
    const { code, message } = CodedError.fromData(run.kill.error)
    const frames = shownFrames(run.where ?? '').filter((line) => /^\s+(?:at|while) /.test(line))
    return { name: code, message, stack: [`${code}: ${message}`, ...frames].join('\n') }
  }
  if (run.failure === null) return null
  const { name, message, stack } = run.failure
  const head = message === '' ? name : `${name}: ${message}`
  const lines = shownFrames(stack).join('\n')
  return { name, message, stack: lines.startsWith(head) ? lines : lines === '' ? head : `${head}\n${lines}` }
}

/** Of a run that waits: in place of a stack, which it has none of. */
export function describeWaiting(run: Run): string {
  const counts = new Map<string, number>()
  for (const { kind } of run.operations.values()) counts.set(NAMES[kind], (counts.get(NAMES[kind]) ?? 0) + 1)
  return counts.size === 0 ? '' : `    while waiting for ${[...counts].map(([name, count]) => (count === 1 ? name : `${name} (${count})`)).join(', ')}`
}
