/**
 * The one registry of errors. A code names a failure for good: retired codes are listed below and never used again.
 *
 * `status` is what an HTTP client sees, `fault` says who has to act, `ran` says whether the function may have run
 * (and so whether a retry is safe), `message` takes its parameters in order at each `%s`.
 * Match on `code`, never on `instanceof`: an error that crosses a thread or the link arrives as `{ code, params }`.
 */
export type Fault = 'client' | 'function' | 'platform' | 'overload'
export type Ran = 'no' | 'maybe' | 'yes'

export interface ErrorSpec {
  readonly status: number
  readonly fault: Fault
  readonly ran: Ran
  readonly message: string
}

export const ERRORS = {
  // Requests that never reach a function.
  ERR_FUNCTION_NOT_FOUND: { status: 404, fault: 'client', ran: 'no', message: 'No function named %s is deployed. Deploy it with: outpost deploy ENTRY --name %s' },
  ERR_ROUTE_NOT_FOUND: { status: 404, fault: 'client', ran: 'no', message: 'Nothing is served at %s. Web endpoints are at /fn/NAME/ or http://NAME.localhost' },
  ERR_BODY_TOO_LARGE: { status: 413, fault: 'client', ran: 'no', message: 'The request body is larger than %s bytes' },
  ERR_REQUEST_FRAMING: { status: 400, fault: 'client', ran: 'no', message: 'The request has ambiguous or malformed framing: %s' },
  ERR_REQUEST_HEADERS: { status: 431, fault: 'client', ran: 'no', message: 'The request headers are larger than %s bytes or more than %s' },
  ERR_HOST_FORBIDDEN: { status: 403, fault: 'client', ran: 'no', message: 'Host %s may not use this path: development servers answer loopback names only' },

  // Limits of a function. Each says which limit, its value and what was used.
  ERR_LIMIT_CPU: { status: 503, fault: 'function', ran: 'yes', message: 'Exceeded the CPU limit of %s ms (used %s ms). Raise Limits.CpuMs or do less work' },
  ERR_LIMIT_WALL: { status: 504, fault: 'function', ran: 'yes', message: 'Exceeded the wall time limit of %s ms (used %s ms). Raise Timeout' },
  ERR_LIMIT_MEMORY: { status: 503, fault: 'function', ran: 'yes', message: 'Exceeded the memory limit of %s MiB (used %s MiB). Raise MemorySize' },
  ERR_LIMIT_RESPONSE: { status: 502, fault: 'function', ran: 'yes', message: 'The response is larger than the limit of %s bytes (reached %s bytes)' },
  ERR_LIMIT_OPERATIONS: { status: 503, fault: 'function', ran: 'yes', message: 'More than operations of the host may take: %s. Use smaller pieces, or await some before starting more' },
  ERR_LIMIT_SUBREQUESTS: { status: 503, fault: 'function', ran: 'yes', message: 'Exceeded the limit of %s subrequests (attempted %s)' },

  // Sessions.
  ERR_SESSION_STATE: { status: 500, fault: 'platform', ran: 'no', message: 'What was kept of the session cannot be used: %s' },
  ERR_SESSION_ID: { status: 400, fault: 'client', ran: 'no', message: 'Header %s holds no session id: 1 to 128 visible characters, or `new`' },
  ERR_SESSION_MOVED: { status: 503, fault: 'overload', ran: 'no', message: 'The session has just moved to another host. Try again' },
  ERR_SESSION_BUSY: { status: 429, fault: 'client', ran: 'no', message: 'Too many requests of the session wait for their turn (%s): they run one at a time' },

  // What a function did.
  ERR_FUNCTION_EXCEPTION: { status: 500, fault: 'function', ran: 'yes', message: 'The function threw: %s' },
  ERR_FUNCTION_HUNG: { status: 500, fault: 'function', ran: 'yes', message: 'The function awaits a promise that nothing can settle, so it would never answer' },
  ERR_FUNCTION_NO_HANDLER: { status: 500, fault: 'function', ran: 'no', message: 'The module does not export a handler for %s' },
  ERR_FUNCTION_BAD_RESPONSE: { status: 502, fault: 'function', ran: 'yes', message: 'The function gave a response that cannot be sent: %s' },
  ERR_CANCELED: { status: 499, fault: 'client', ran: 'yes', message: 'The client went away' },

  // Publishing.
  ERR_BUNDLE_SYNTAX: { status: 400, fault: 'client', ran: 'no', message: 'The bundle does not compile: %s' },
  ERR_BUNDLE_THROWS: { status: 400, fault: 'client', ran: 'yes', message: 'The top level of the bundle threw: %s' },
  ERR_BUNDLE_ENTROPY: { status: 400, fault: 'client', ran: 'yes', message: 'The bundle reads randomness at top level, which every request would repeat: %s. Move it into the handler' },
  ERR_BUNDLE_SECRET: { status: 400, fault: 'client', ran: 'yes', message: 'The bundle reads the secret %s at top level, which would put it into the image: %s. Read it in the handler' },
  ERR_BUNDLE_HANDLE: { status: 400, fault: 'client', ran: 'yes', message: 'The bundle starts %s at top level, which no image can hold: %s. Start it in the handler' },
  ERR_BUNDLE_LIMIT: { status: 400, fault: 'client', ran: 'yes', message: 'Building the image exceeded the %s limit of %s' },
  ERR_BUNDLE_TOO_LARGE: { status: 413, fault: 'client', ran: 'no', message: 'The bundle is larger than %s bytes' },
  ERR_BUNDLE_NO_HANDLER: { status: 400, fault: 'client', ran: 'yes', message: 'The bundle exports neither a default object with fetch() nor handler: %s' },
  ERR_ZIP_INVALID: { status: 400, fault: 'client', ran: 'no', message: 'The zip cannot be used: %s' },
  ERR_MODULE_REFUSED: { status: 400, fault: 'client', ran: 'no', message: 'The WebAssembly module is refused: %s (opcode %s at byte %s)' },
  ERR_BUILD_QUEUE_FULL: { status: 429, fault: 'overload', ran: 'no', message: 'Too many publishes wait here (%s). Try again in a moment' },
  ERR_BUILD_FAILED: { status: 500, fault: 'platform', ran: 'no', message: 'The image builder failed: %s' },

  // Control plane.
  ERR_PARAMETER: { status: 400, fault: 'client', ran: 'no', message: '%s' },
  ERR_CONFLICT: { status: 409, fault: 'client', ran: 'no', message: '%s' },
  ERR_PRECONDITION: { status: 412, fault: 'client', ran: 'no', message: 'The RevisionId given does not match: %s' },
  ERR_QUOTA: { status: 402, fault: 'client', ran: 'no', message: 'The limit of %s %s is reached: delete some first' },
  ERR_RESOURCE_NOT_FOUND: { status: 404, fault: 'client', ran: 'no', message: '%s' },
  ERR_OPERATION_UNKNOWN: { status: 404, fault: 'client', ran: 'no', message: 'No such operation: %s' },
  ERR_PAYLOAD_NOT_JSON: { status: 400, fault: 'client', ran: 'no', message: 'Could not parse request body into json: %s' },
  ERR_SIGNATURE_MISSING: { status: 403, fault: 'client', ran: 'no', message: 'Missing Authentication Token: sign the request with AWS Signature Version 4' },
  ERR_SIGNATURE_INCOMPLETE: { status: 403, fault: 'client', ran: 'no', message: 'The signature is incomplete: %s' },
  ERR_SIGNATURE_UNKNOWN_KEY: { status: 403, fault: 'client', ran: 'no', message: 'The access key %s is not known here' },
  ERR_SIGNATURE_INVALID: { status: 403, fault: 'client', ran: 'no', message: 'The request signature does not match: %s' },
  ERR_SIGNATURE_EXPIRED: { status: 403, fault: 'client', ran: 'no', message: 'The request is signed for another time: %s' },

  // Storage.
  ERR_STORE_FULL: { status: 507, fault: 'platform', ran: 'no', message: 'The disk is full, nothing was published: %s' },
  ERR_STORE_BLOCK: { status: 500, fault: 'platform', ran: 'no', message: 'Block %s is %s' },
  ERR_STORE_FAILED: { status: 500, fault: 'platform', ran: 'no', message: 'The store failed: %s' },
  ERR_STORE_KEY: { status: 500, fault: 'platform', ran: 'no', message: 'The key of %s cannot be used: %s' },
  ERR_STORE_SALT: { status: 400, fault: 'client', ran: 'no', message: 'Salt %s is refused: %s' },

  // Capacity and life of a process.
  ERR_QUEUE_FULL: { status: 503, fault: 'overload', ran: 'no', message: 'Too many invocations wait here (%s)' },
  ERR_NO_CAPACITY: { status: 503, fault: 'overload', ran: 'no', message: 'No sandbox can be had within the memory budget of %s MiB' },
  ERR_NO_SANDBOX: { status: 503, fault: 'overload', ran: 'no', message: 'None of %s managers that were asked could give a sandbox' },
  ERR_QUEUE_DEADLINE: { status: 504, fault: 'overload', ran: 'no', message: 'The invocation waited %s ms and was not started' },
  ERR_ACCOUNT_LIMIT: { status: 429, fault: 'client', ran: 'no', message: 'The account runs %s invocations at once, which is its limit' },
  ERR_ACCOUNT_ELSEWHERE: { status: 429, fault: 'client', ran: 'no', message: 'The invocations of this account, which may run %s at once, are counted in another region at present. Call there, or raise its limit' },
  ERR_FUNCTION_LIMIT: { status: 429, fault: 'client', ran: 'no', message: 'Of %s %s invocations are reserved, and no more may run at once' },
  ERR_DRAINING: { status: 503, fault: 'overload', ran: 'no', message: 'This host is shutting down' },
  ERR_WORKER_LOST: { status: 502, fault: 'platform', ran: 'maybe', message: 'The worker that ran the invocation was lost: %s' },
  ERR_SANDBOX_FAULT: { status: 500, fault: 'platform', ran: 'yes', message: 'The sandbox failed and was destroyed: %s' },
  ERR_RESET_MISMATCH: { status: 500, fault: 'platform', ran: 'no', message: 'A reset sandbox differs from its image at page %s; it was destroyed' },
  ERR_INTERNAL: { status: 500, fault: 'platform', ran: 'maybe', message: 'Internal error: %s' },

  // POP, region and the link between them.
  ERR_REGION_UNREACHABLE: { status: 502, fault: 'platform', ran: 'no', message: 'No region can be reached and %s is not hot here' },
  ERR_REGION_LOST: { status: 502, fault: 'platform', ran: 'maybe', message: 'The region went away during the invocation' },
  ERR_REGION_BEHIND: { status: 503, fault: 'platform', ran: 'no', message: 'No region in reach has the current version of %s yet' },
  ERR_REGION_BODY: { status: 502, fault: 'platform', ran: 'maybe', message: 'The region went away after %s bytes of the request body were sent to it, too many to keep for another one' },
  ERR_REGION_TIMEOUT: { status: 504, fault: 'platform', ran: 'maybe', message: 'The region gave no answer within %s ms' },
  ERR_LINK_PROTOCOL: { status: 502, fault: 'platform', ran: 'maybe', message: 'The peer broke the link protocol: %s' },
  ERR_LINK_IDENTITY: { status: 403, fault: 'client', ran: 'no', message: 'The peer may not use this link: %s' },
  ERR_LINK_REVOKED: { status: 403, fault: 'client', ran: 'no', message: 'The key of this peer was taken out of use: %s' },
  ERR_LINK_OVERLOAD: { status: 503, fault: 'overload', ran: 'maybe', message: 'The link to the region carries too much: %s' },
  ERR_LINK_LOOP: { status: 508, fault: 'platform', ran: 'no', message: 'The invocation was already forwarded once' },
  ERR_LINK_TOPIC: { status: 404, fault: 'platform', ran: 'no', message: 'The peer answers no questions about %s' },
  ERR_PEER_UNREACHABLE: { status: 502, fault: 'platform', ran: 'no', message: 'Member %s cannot be reached: %s' },
  ERR_PEER_LOST: { status: 502, fault: 'platform', ran: 'maybe', message: 'Member %s went away or gave no answer in time: %s' },

  // What several processes agree on.
  ERR_COORDINATION_CONFLICT: { status: 409, fault: 'platform', ran: 'no', message: 'Somebody else changed %s meanwhile' },
  ERR_COORDINATION_UNREACHABLE: { status: 503, fault: 'platform', ran: 'no', message: 'The coordination store gives no answer: %s' },
  ERR_COORDINATION_REFUSED: { status: 500, fault: 'platform', ran: 'no', message: 'The coordination store refuses: %s' },

  // Who serves a key, and the state that moves with it.
  ERR_RING_REFUSED: { status: 400, fault: 'client', ran: 'no', message: 'The ring is refused: %s' },
  ERR_RING_UNSETTLED: { status: 409, fault: 'platform', ran: 'no', message: 'State still lies by version %s of the ring. Try again when it has moved' },
  ERR_RING_MOVED: { status: 503, fault: 'platform', ran: 'no', message: 'The state belongs to another member by version %s of the ring' },
  ERR_HAND_OFF_TIMEOUT: { status: 503, fault: 'platform', ran: 'no', message: 'Whoever holds the state did not hand it over within %s ms' },
  ERR_OWNERSHIP_LOST: { status: 502, fault: 'platform', ran: 'maybe', message: 'This member lost its lease while it served: what it held counts as gone' },

  // Outbound requests of a function; they reject the guest's promise.
  ERR_FETCH_FORBIDDEN: { status: 502, fault: 'function', ran: 'yes', message: 'fetch to %s is refused: %s' },
  ERR_FETCH_FAILED: { status: 502, fault: 'function', ran: 'yes', message: 'fetch to %s failed: %s' },

  // Calls by service bindings; they reject the guest's promise.
  ERR_SERVICE_FAILED: { status: 502, fault: 'function', ran: 'yes', message: 'Service binding %s failed: %s' },
  ERR_SERVICE_DEPTH: { status: 508, fault: 'function', ran: 'yes', message: 'Service binding %s: functions call one another more than %s deep. Look for one that calls itself' },
  ERR_SERVICE_CALLS: { status: 503, fault: 'function', ran: 'yes', message: 'Service binding %s: one request has caused more than %s service calls. Look for functions that call one another in circles' },

  // Command line and configuration.
  ERR_CONFIG: { status: 400, fault: 'client', ran: 'no', message: '%s' },
  ERR_ENVIRONMENT: { status: 500, fault: 'client', ran: 'no', message: '%s' },
  ERR_USAGE: { status: 400, fault: 'client', ran: 'no', message: '%s' },
  ERR_ENTRY_NOT_FOUND: { status: 404, fault: 'client', ran: 'no', message: 'There is no file %s' },
  ERR_BUNDLE_IMPORT: { status: 400, fault: 'client', ran: 'no', message: 'Functions have no module %s, imported by way of: %s. Use a web API or a package made for the browser instead' },
  ERR_ENDPOINT_UNREACHABLE: { status: 502, fault: 'platform', ran: 'maybe', message: 'Nothing answers at %s (%s). Start it with: outpost dev, or give another address with --endpoint or OUTPOST_ENDPOINT' },
  ERR_ENDPOINT_ANSWER: { status: 502, fault: 'platform', ran: 'maybe', message: '%s does not answer like Outpost: %s. Check --endpoint or OUTPOST_ENDPOINT' },
  ERR_PORT_IN_USE: { status: 500, fault: 'client', ran: 'no', message: 'Port %s is taken by another program. Stop it or give another port with %s' },
  ERR_TLS_CERTIFICATE: { status: 500, fault: 'client', ran: 'no', message: 'The TLS certificate in %s cannot be used: %s' },
  ERR_DATA_LOCKED: { status: 500, fault: 'client', ran: 'no', message: 'The data directory %s is in use by process %s. Stop it or give another directory with --data' },
  ERR_PROCESS_FAILED: { status: 500, fault: 'platform', ran: 'no', message: 'The %s process ended before it was ready: %s' },
} as const satisfies Record<string, ErrorSpec>

export type ErrorCode = keyof typeof ERRORS

/** Codes that were once used. A test keeps them out of the registry. */
export const RETIRED_ERROR_CODES: readonly string[] = []

export type ErrorParams = readonly (string | number)[]

/** An error as it travels between threads and over the link. */
export interface CodedErrorData {
  readonly code: ErrorCode
  readonly params: ErrorParams
}

/** A failure with a code from the registry. `message` is the registry's text with its parameters filled in. */
export class CodedError extends Error {
  readonly code: ErrorCode
  readonly params: ErrorParams

  constructor(code: ErrorCode, params: ErrorParams = [], options?: ErrorOptions) {
    super(formatMessage(code, params), options)
    this.name = 'CodedError'
    this.code = code
    this.params = params
  }

  get status(): number {
    return ERRORS[this.code].status
  }

  get ran(): Ran {
    return ERRORS[this.code].ran
  }

  toData(): CodedErrorData {
    return { code: this.code, params: this.params }
  }

  static fromData(data: CodedErrorData): CodedError {
    return new CodedError(data.code, data.params)
  }
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERRORS, value)
}

/** Any thrown value as a coded error; what has no code becomes ERR_INTERNAL and keeps its cause. */
export function toCodedError(error: unknown): CodedError {
  if (error instanceof CodedError) return error
  return new CodedError('ERR_INTERNAL', [error instanceof Error ? error.message : String(error)], { cause: error })
}

/** `parts` fill the `%s` of the registry's message in order; a missing one stays empty. */
export function formatMessage(code: ErrorCode, params: ErrorParams): string {
  let index = 0
  return ERRORS[code].message.replace(/%s/g, () => String(params[index++] ?? params[0] ?? ''))
}
