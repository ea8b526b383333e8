/**
 * Every bound of the product, with its reason. A bound that an operator may move is in the configuration of its tier
 * and takes its default from here.
 */
export const KIB = 1024
export const MIB = 1024 * 1024

/** Limits of one function; the same in development and in production. */
export interface FunctionLimits {
  /** CPU time of one invocation, ms. Exceeding it ends the invocation with ERR_LIMIT_CPU. */
  readonly cpuMs: number
  /** Wall time of one invocation, ms, from its start in a sandbox. ERR_LIMIT_WALL. Lambda's `Timeout`. */
  readonly wallMs: number
  /** Linear memory of the machine, MiB. The guest sees an out-of-memory error; ERR_LIMIT_MEMORY if it does not catch it. */
  readonly memoryMib: number
  /** Bytes of the response body. ERR_LIMIT_RESPONSE. */
  readonly responseMaxBytes: number
  /** Bytes of log lines of one invocation; what is beyond is dropped and the log is marked truncated. */
  readonly logMaxBytes: number
  /** Outbound requests of one invocation; the one beyond rejects with ERR_LIMIT_SUBREQUESTS. */
  readonly subrequestMax: number
}

export const DEFAULT_FUNCTION_LIMITS: FunctionLimits = {
  cpuMs: 50,
  wallMs: 30_000,
  memoryMib: 128,
  responseMaxBytes: 6_291_556,
  logMaxBytes: 256 * KIB,
  subrequestMax: 50,
}

/** What a function may ask for at most. */
export const FUNCTION_LIMIT_MAX: FunctionLimits = {
  cpuMs: 300_000,
  wallMs: 900_000,
  memoryMib: 1024,
  responseMaxBytes: 100 * MIB,
  logMaxBytes: 4 * MIB,
  subrequestMax: 10_000,
}

/** Request body a front door accepts, bytes: Lambda's synchronous limit. */
export const REQUEST_BODY_MAX_BYTES = 6 * MIB
/** All request header names and values together, bytes, and their count: what common proxies accept. */
export const REQUEST_HEADERS_MAX_BYTES = 32 * KIB
export const REQUEST_HEADERS_MAX_COUNT = 100
/** A zip as uploaded, and what its entries may add up to once unpacked. */
export const ZIP_MAX_BYTES = 50 * MIB
export const ZIP_UNPACKED_MAX_BYTES = 250 * MIB
export const ZIP_ENTRIES_MAX = 10_000
/** JavaScript of one function after bundling. */
export const BUNDLE_MAX_BYTES = 10 * MIB

/** Body of a management call: a zip of ZIP_MAX_BYTES in base64, and 2 MiB for the rest of the JSON. */
export const CONTROL_BODY_MAX_BYTES = Math.ceil(ZIP_MAX_BYTES / 3) * 4 + 2 * MIB
/** Time esbuild may take to bundle one zip; real applications need less than one second. */
export const BUNDLE_TIME_MAX_MS = 20_000
/** Variables of one function, and its secrets: names and values together. Lambda allows 4 KiB, others 5 KiB a value. */
export const FUNCTION_VARS_MAX_BYTES = 16 * KIB
export const FUNCTION_SECRETS_MAX_BYTES = 16 * KIB
/** Per account and per function. They keep every listing and every change notice small. */
export const FUNCTIONS_PER_ACCOUNT_MAX = 10_000
export const VERSIONS_PER_FUNCTION_MAX = 1_000
export const ALIASES_PER_FUNCTION_MAX = 100
export const ROUTES_PER_FUNCTION_MAX = 32
export const TAGS_PER_FUNCTION_MAX = 50
/** Publishes that build at once, and that wait; the one beyond gets ERR_BUILD_QUEUE_FULL. */
export const BUILDS_RUNNING_MAX = 2
export const BUILDS_WAITING_MAX = 16
/** Writes that wait for the store's single writer; each holds at most one image. */
export const STORE_WRITES_WAITING_MAX = 1_000
/** Left free on the disk of a store: a deletion needs new pages before it can give any back. */
export const STORE_DISK_RESERVE_BYTES = 16 * MIB
/** Deleted functions that the change feed still remembers; a POP further behind has to compare everything. */
export const CHANGE_TOMBSTONES_MAX = 10_000
/** Derived signing keys kept; each is 32 bytes and made again in microseconds. */
export const SIGNING_KEYS_CACHED_MAX = 1_000
/** How far a signed request's time may be from ours. */
export const SIGNATURE_SKEW_MAX_MS = 15 * 60 * 1000
