/** PutFunctionConcurrency, GetFunctionConcurrency, DeleteFunctionConcurrency, GetAccountSettings. */
import { setImmediate as turn } from 'node:timers/promises'
import { CodedError } from '../errors.ts'
import { ZIP_MAX_BYTES, ZIP_UNPACKED_MAX_BYTES } from '../limits.ts'
import { unreserved, type AccountLimits } from '../place/slot-line.ts'
import { requireFunction, type ControlContext, type FunctionContext } from './context.ts'
import type { JsonReply } from './replies.ts'
import { parseBody, putConcurrencyBody } from './schemas.ts'

/** What accounts may run at once. */
export interface AccountLimitsBackend {
  limitsOf(account: string): AccountLimits
  /** Null: nothing is reserved for the function. */
  reservedOf(account: string, functionName: string): number | null
  /** Resolves when it holds here. Throws ERR_PARAMETER if too little would be left to other functions, ERR_QUOTA. */
  reserve(account: string, functionName: string, concurrency: number): Promise<void>
  /** Does nothing if nothing is reserved. */
  unreserve(account: string, functionName: string): Promise<void>
}

/** What Lambda says of every account. */
const CODE_STORAGE_BYTES = 80_530_636_800
/** Functions read in one turn of the event loop: requests are served beside it. */
const PAGE = 100

export async function putConcurrency(context: FunctionContext): Promise<JsonReply> {
  const { accounts, backend, account, functionName } = context
  const { ReservedConcurrentExecutions: concurrency } = parseBody(putConcurrencyBody, context.call.body)
  refuseQualifier(context)
  requireFunction(context, backend.read(account, functionName))
  await accounts.reserve(account, functionName, concurrency)
  // Deleted meanwhile: nobody else would take it back.
  if (backend.read(account, functionName).function() === null) await accounts.unreserve(account, functionName)
  return { status: 200, body: { ReservedConcurrentExecutions: concurrency } }
}

export function getConcurrency(context: FunctionContext): JsonReply {
  const { accounts, backend, account, functionName } = context
  refuseQualifier(context)
  requireFunction(context, backend.read(account, functionName))
  return { status: 200, body: concurrencyView(accounts.reservedOf(account, functionName)) ?? {} }
}

export async function deleteConcurrency(context: FunctionContext): Promise<JsonReply> {
  const { accounts, backend, account, functionName } = context
  refuseQualifier(context)
  requireFunction(context, backend.read(account, functionName))
  await accounts.unreserve(account, functionName)
  return { status: 204, body: null }
}

export async function getAccountSettings(context: ControlContext): Promise<JsonReply> {
  const { accounts, account } = context
  const limits = accounts.limitsOf(account)
  const { functions, codeBytes } = await usageOf(context)
  return {
    status: 200,
    body: {
      AccountLimit: {
        TotalCodeSize: CODE_STORAGE_BYTES,
        CodeSizeUnzipped: ZIP_UNPACKED_MAX_BYTES,
        CodeSizeZipped: ZIP_MAX_BYTES,
        ConcurrentExecutions: limits.maximum,
        UnreservedConcurrentExecutions: unreserved(limits),
      },
      AccountUsage: { TotalCodeSize: codeBytes, FunctionCount: functions },
    },
  }
}

/** The member `Concurrency` of GetFunction, which GetFunctionConcurrency answers alone. */
export function concurrencyView(reserved: number | null): { readonly ReservedConcurrentExecutions: number } | null {
  return reserved === null ? null : { ReservedConcurrentExecutions: reserved }
}

/** Code of `$LATEST` only: published versions share it as often as not. */
async function usageOf({ backend, account }: ControlContext): Promise<{ readonly functions: number; readonly codeBytes: number }> {
  let functions = 0
  let codeBytes = 0
  let after = ''
  for (;;) {
    const page = backend.list(account, after, PAGE)
    for (const { name, latest } of page) {
      functions++
      codeBytes += latest.code.zipBytes
      after = name
    }
    if (page.length < PAGE) return { functions, codeBytes }
    await turn()
  }
}

function refuseQualifier({ qualifier }: FunctionContext): void {
  if (qualifier !== null) throw new CodedError('ERR_PARAMETER', ['This operation is permitted on Lambda functions only, not on versions or aliases.'])
}
