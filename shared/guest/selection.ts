/**
 * Which of a module's handlers an invocation is for, when that is not its default export's `fetch` or its event handler:
 * what a service binding with an `entrypoint` or `props` and a scheduled event say. It goes before the head of `dispatch`
 * as one line of JSON (`CALL_SELECTED`); plain requests have none and pay nothing.
 */
import { CodedError } from '../errors.ts'
import { SELECTION_MAX_CHARS } from '../limits.ts'

export interface Selection {
  /** Name of an export, as `load` told it. Null: the default export. */
  readonly entrypoint: string | null
  /** `scheduled`: the invocation is of kind event, its payload `{ cron, scheduledTime }`, and its answer `{ noRetry }`. */
  readonly handler: 'fetch' | 'scheduled'
  /** What the function reads as `ctx.props`: anything JSON can hold. Null: an empty object. */
  readonly props: Readonly<Record<string, unknown>> | null
}

/** The line, at most SELECTION_MAX_CHARS; null for the default. Throws ERR_PARAMETER. */
export function selectionLine({ entrypoint, handler, props }: Selection): string | null {
  if (entrypoint === null && handler === 'fetch' && props === null) return null
  const line = JSON.stringify({ entrypoint, handler, props })
  if (line.length > SELECTION_MAX_CHARS) throw new CodedError('ERR_PARAMETER', [`entrypoint and props take ${line.length} characters, at most ${SELECTION_MAX_CHARS}`])
  return line
}
