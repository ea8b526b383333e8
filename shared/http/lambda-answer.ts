/**
 * What Invoke answers, as Lambda does: 200 with the handler's JSON, and 200 as well when the function failed, told apart
 * by `X-Amz-Function-Error`. Only what kept the function from running has a status of its own. Pure.
 */
import { CodedError } from '../errors.ts'
import { LOG_LEVELS } from '../guest/abi.ts'
import type { InvocationResult } from '../worker/types.ts'

/** Lambda's limit for a synchronous answer, and its words for what is beyond. */
export const LAMBDA_RESPONSE_MAX_BYTES = 6_291_556
/** What `X-Amz-Log-Result` holds at most, before base64. */
const LOG_TAIL_MAX_BYTES = 4096

export type LambdaFailure =
  /** The function's own: answered with 200. */
  | { readonly kind: 'function'; readonly payload: string }
  /** Ours, or for lack of room: answered with the error's status. */
  | { readonly kind: 'platform'; readonly error: CodedError }

/** The real runtime's words. */
const NEVER_SETTLED = 'The Lambda runtime client detected an unexpected Node.js exit code. This is most commonly caused by a Promise that was never settled. For more information, see https://nodejs.org/docs/latest/api/process.html#exit-codes'

/** `result.outcome` is not `ok`, or it is and nothing was answered. */
export function lambdaFailure(result: InvocationResult, requestId: string): LambdaFailure {
  const error = result.error === null ? new CodedError('ERR_INTERNAL', ['the invocation ended without an answer']) : CodedError.fromData(result.error)
  // Lambda says nothing more of a function that it stopped; where it was is too good to be left out.
  const trace = framesOf(result)
  const payload = (errorType: string, errorMessage: string): LambdaFailure => ({ kind: 'function', payload: JSON.stringify({ errorType, errorMessage, ...(trace.length === 0 ? {} : { trace }) }) })
  switch (result.outcome) {
    case 'exception':
      // Bodies too long for a front door to parse are parsed by the prelude, which says it with this name.
      if (result.exception?.name === 'InvalidRequestContentException') return { kind: 'platform', error: new CodedError('ERR_PAYLOAD_NOT_JSON', [result.exception.message]) }
      return { kind: 'function', payload: exceptionPayload(result, error) }
    case 'exceededWall':
      return payload('Sandbox.Timedout', `RequestId: ${requestId} Error: Task timed out after ${seconds(error.params[0] ?? 0)} seconds`)
    case 'exceededMemory':
      return payload('Runtime.OutOfMemory', `RequestId: ${requestId} Error: ${error.message}`)
    case 'hung':
      return payload('Runtime.NodeJsExit', NEVER_SETTLED)
    case 'exceededResponse':
      return { kind: 'function', payload: RESPONSE_TOO_LARGE }
    case 'exceededCpu':
    case 'exceededSubrequests':
      return payload(error.code, `RequestId: ${requestId} Error: ${error.message}`)
    case 'ok':
    case 'canceled':
    case 'loadShed':
    case 'platformFault':
      return { kind: 'platform', error }
  }
}

/** What InvokeComplete says of a stream that was not completed; the error itself if the function never ran. */
export function completeOf(result: InvocationResult, requestId: string): { readonly ErrorCode: string; readonly ErrorDetails: string } | CodedError {
  const failure = lambdaFailure(result, requestId)
  return failure.kind === 'platform' ? failure.error : { ErrorCode: 'Unhandled', ErrorDetails: failure.payload }
}

export const RESPONSE_TOO_LARGE = JSON.stringify({
  errorMessage: `Response payload size exceeded maximum allowed payload size (${LAMBDA_RESPONSE_MAX_BYTES} bytes).`,
  errorType: 'Function.ResponseSizeTooLarge',
})

/** The last 4 KiB of the log with the lines that tools look for, in base64. */
export function logTail(result: InvocationResult, requestId: string, version: string | null, memoryMib: number, nowMs: number): string {
  const time = new Date(nowMs).toISOString()
  const durationMs = result.wallUs / 1000
  const lines = [
    `START RequestId: ${requestId} Version: ${version ?? '$LATEST'}\n`,
    ...result.logs.map((line) => logLine(line, time, requestId)),
    ...(result.exception === null ? [] : [logLine(`3\t${logText(result, result.exception)}`, time, requestId)]),
    `END RequestId: ${requestId}\n`,
    `REPORT RequestId: ${requestId}\tDuration: ${durationMs.toFixed(2)} ms\tBilled Duration: ${Math.max(1, Math.ceil(durationMs))} ms\tMemory Size: ${memoryMib} MB\tMax Memory Used: ${Math.ceil(result.memoryBytes / (1024 * 1024))} MB\t\n`,
  ]
  const bytes = Buffer.from(lines.join(''))
  return bytes.subarray(Math.max(0, bytes.byteLength - LOG_TAIL_MAX_BYTES)).toString('base64')
}

/** `line` is `level\ttext`, the level by its number. A line of a log is one line: breaks in it become carriage returns, as Lambda has them. */
function logLine(line: string, time: string, requestId: string): string {
  const tab = line.indexOf('\t')
  const level = LOG_LEVELS[Number(line.slice(0, tab))] ?? 'info'
  return `${time}\t${requestId}\t${level.toUpperCase()}\t${line.slice(tab + 1).replaceAll('\n', '\r')}\n`
}

function exceptionPayload(result: InvocationResult, error: CodedError): string {
  const { exception } = result
  if (exception === null) return JSON.stringify({ errorType: error.code, errorMessage: error.message, trace: [] })
  const head = `${exception.name}: ${exception.message}`
  const lines = exception.stack.split('\n').filter((line) => line.trim() !== '')
  const trace = lines.length === 0 || exception.stack.startsWith(head) ? lines : [head, ...lines]
  return JSON.stringify({ errorType: exception.name, errorMessage: exception.message, trace })
}

function framesOf({ exception }: InvocationResult): readonly string[] {
  return exception === null ? [] : exception.stack.split('\n').filter((line) => /^\s+(?:at|while) /.test(line)).map((line) => line.trim())
}

/** As Lambda's runtime for Node writes what a handler threw; of one that was stopped the report. */
function logText({ outcome }: InvocationResult, { name, message, stack }: NonNullable<InvocationResult['exception']>): string {
  return outcome === 'exception' ? `Invoke Error \t${JSON.stringify({ errorType: name, errorMessage: message, stack: stack.split('\n') })}` : stack
}

function seconds(ms: string | number): string {
  return (Number(ms) / 1000).toFixed(2)
}
