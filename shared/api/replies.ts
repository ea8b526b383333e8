/**
 * Answers of the control plane as AWS SDKs read them: the error's name in `x-amzn-errortype` (which SDKs look at first),
 * `Type`, and the message under both spellings, because the key differs from one exception to the next. Our own code
 * is in `OutpostCode`: a `code` member would replace the name in SDKs that see no header.
 */
import type { Clock } from '../clock.ts'
import { ERRORS, type CodedError, type ErrorCode } from '../errors.ts'
import type { ControlReply } from '../http/types.ts'
import { encodeHeaders } from './header-list.ts'

export interface JsonReply {
  readonly status: number
  /** Null: an empty body. */
  readonly body: unknown
}

/** Also wanted by front doors, for the errors of Invoke. */
export function exceptionName(code: ErrorCode): string {
  const named = EXCEPTION_NAMES[code]
  if (named !== undefined) return named
  if (ERRORS[code].fault === 'platform') return 'ServiceException'
  return ERRORS[code].fault === 'overload' ? 'TooManyRequestsException' : 'InvalidParameterValueException'
}

export function encodeReply(reply: JsonReply, requestId: string, clock: Clock): ControlReply {
  if (reply.body === null) return { status: reply.status, headers: encodeHeaders(commonHeaders(requestId, clock)), body: new Uint8Array(0) }
  return {
    status: reply.status,
    headers: encodeHeaders({ ...commonHeaders(requestId, clock), 'content-type': 'application/json' }),
    body: Buffer.from(JSON.stringify(reply.body)),
  }
}

export function encodeError(error: CodedError, requestId: string, clock: Clock): ControlReply {
  const name = exceptionName(error.code)
  const service = ERRORS[error.code].fault === 'platform'
  const throttled = name === 'TooManyRequestsException'
  const body = {
    Type: service ? 'Service' : 'User',
    ...(throttled ? { Reason: REASONS[error.code] ?? 'CallerRateLimitExceeded', retryAfterSeconds: '1' } : {}),
    Message: error.message,
    message: error.message,
    OutpostCode: error.code,
    RequestId: requestId,
  }
  return {
    status: error.status,
    headers: encodeHeaders({
      ...commonHeaders(requestId, clock),
      'content-type': 'application/json',
      'x-amzn-errortype': name,
      // SDKs retry 429 three times by themselves, at once unless told otherwise.
      ...(throttled ? { 'retry-after': '1' } : {}),
    }),
    body: Buffer.from(JSON.stringify(body)),
  }
}

/** SDKs correct their own clock by `date` when a signature is refused. */
function commonHeaders(requestId: string, clock: Clock): Record<string, string> {
  return { 'x-amzn-requestid': requestId, date: new Date(clock.nowMs()).toUTCString() }
}

/** Lambda's reasons for a TooManyRequestsException; for all others it is the caller who is too fast. */
const REASONS: Partial<Record<ErrorCode, string>> = {
  ERR_ACCOUNT_LIMIT: 'ConcurrentInvocationLimitExceeded',
  ERR_ACCOUNT_ELSEWHERE: 'ConcurrentInvocationLimitExceeded',
  ERR_FUNCTION_LIMIT: 'ReservedFunctionConcurrentInvocationLimitExceeded',
}

const EXCEPTION_NAMES: Partial<Record<ErrorCode, string>> = {
  ERR_FUNCTION_NOT_FOUND: 'ResourceNotFoundException',
  ERR_RESOURCE_NOT_FOUND: 'ResourceNotFoundException',
  ERR_OPERATION_UNKNOWN: 'UnknownOperationException',
  ERR_CONFLICT: 'ResourceConflictException',
  ERR_PRECONDITION: 'PreconditionFailedException',
  ERR_PAYLOAD_NOT_JSON: 'InvalidRequestContentException',
  ERR_QUOTA: 'ServiceQuotaExceededException',
  ERR_BODY_TOO_LARGE: 'RequestTooLargeException',
  ERR_BUNDLE_TOO_LARGE: 'RequestEntityTooLargeException',
  ERR_BUILD_QUEUE_FULL: 'TooManyRequestsException',
  ERR_ACCOUNT_LIMIT: 'TooManyRequestsException',
  ERR_ACCOUNT_ELSEWHERE: 'TooManyRequestsException',
  ERR_FUNCTION_LIMIT: 'TooManyRequestsException',
  ERR_SESSION_BUSY: 'TooManyRequestsException',
  ERR_COORDINATION_CONFLICT: 'ResourceConflictException',
  ERR_RING_UNSETTLED: 'ResourceConflictException',
  ERR_DRAINING: 'ServiceException',
  ERR_NO_CAPACITY: 'ServiceException',
  ERR_QUEUE_FULL: 'ServiceException',
  ERR_QUEUE_DEADLINE: 'ServiceException',
  ERR_SIGNATURE_MISSING: 'MissingAuthenticationTokenException',
  ERR_SIGNATURE_INCOMPLETE: 'IncompleteSignatureException',
  ERR_SIGNATURE_UNKNOWN_KEY: 'UnrecognizedClientException',
  ERR_SIGNATURE_INVALID: 'InvalidSignatureException',
  // AWS says "Signature expired" under this name too; SDKs then correct their clock and try again.
  ERR_SIGNATURE_EXPIRED: 'InvalidSignatureException',
  ERR_HOST_FORBIDDEN: 'AccessDeniedException',
  ERR_LINK_IDENTITY: 'AccessDeniedException',
}
