/** What a client of a web endpoint gets when there is no answer of the function: always JSON with a code and a request id. */
import type { CodedError } from '../errors.ts'
import type { InvocationResult } from '../worker/types.ts'

export interface ErrorAnswer {
  readonly status: number
  readonly lines: string
  readonly body: string
}

type Exception = NonNullable<InvocationResult['exception']>

/** Of what ran, for developers only; elsewhere it is in the log. */
export interface FailureDetail {
  readonly exception: Exception
  readonly functionName: string
  /** Null: not known. */
  readonly version: string | null
}

export function errorAnswer(error: CodedError, requestId: string, detail: FailureDetail | null): ErrorAnswer {
  const shown = detail === null ? {} : { name: detail.exception.name, exception: detail.exception.message, stack: detail.exception.stack, function: detail.functionName, version: detail.version, ...limitOf(error) }
  return {
    status: error.status,
    lines: '\r\ncontent-type: application/json' + retryAfter(error.status),
    body: JSON.stringify({ error: { code: error.code, message: error.message, requestId, ...shown } }),
  }
}

/** `limit`: what was allowed and what was used, if the function was stopped at one. */
function limitOf({ code, params }: CodedError): object {
  const found = LIMITS[code]
  return found === undefined ? {} : { limit: { ...found, allowed: params[0] ?? null, used: params[1] ?? null } }
}

const LIMITS: Readonly<Partial<Record<CodedError['code'], { readonly name: string; readonly unit: string }>>> = {
  ERR_LIMIT_CPU: { name: 'cpu', unit: 'ms' },
  ERR_LIMIT_WALL: { name: 'wall', unit: 'ms' },
  ERR_LIMIT_MEMORY: { name: 'memory', unit: 'MiB' },
  ERR_LIMIT_RESPONSE: { name: 'response', unit: 'bytes' },
  ERR_LIMIT_SUBREQUESTS: { name: 'subrequests', unit: 'requests' },
}

/** Says when to come back: clients that retry at once multiply the load that made us refuse them. */
function retryAfter(status: number): string {
  return status === 503 || status === 429 ? '\r\nretry-after: 1' : ''
}
