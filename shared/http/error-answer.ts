/** What a client of a web endpoint gets when there is no answer of the function: always JSON with a code and a request id. */
import type { CodedError } from '../errors.ts'
import type { InvocationResult } from '../worker/types.ts'

export interface ErrorAnswer {
  readonly status: number
  readonly lines: string
  readonly body: string
}

type Exception = NonNullable<InvocationResult['exception']>

/** `exception`: shown to developers only; elsewhere it is in the log. */
export function errorAnswer(error: CodedError, requestId: string, exception: Exception | null): ErrorAnswer {
  const shown = exception === null ? {} : { name: exception.name, exception: exception.message, stack: exception.stack }
  return {
    status: error.status,
    lines: '\r\ncontent-type: application/json' + retryAfter(error.status),
    body: JSON.stringify({ error: { code: error.code, message: error.message, requestId, ...shown } }),
  }
}

/** Says when to come back: clients that retry at once multiply the load that made us refuse them. */
function retryAfter(status: number): string {
  return status === 503 || status === 429 ? '\r\nretry-after: 1' : ''
}
