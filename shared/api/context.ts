/** What an operation knows of the call it answers, and the questions that several operations ask. */
import type { Clock } from '../clock.ts'
import { CodedError } from '../errors.ts'
import type { ControlCall } from '../http/types.ts'
import type { Log } from '../log.ts'
import type { AccountLimitsBackend } from './concurrency-operations.ts'
import { LATEST, functionArn, isVersionNumber, parseFunctionReference, type FunctionReference } from './names.ts'
import type { ControlBackend, FunctionReader, FunctionRecord, VersionRecord } from './records.ts'
import { qualifiedArn } from './views.ts'

export interface ControlApiDeps {
  readonly backend: ControlBackend
  readonly accounts: AccountLimitsBackend
  readonly clock: Clock
  readonly log: Log
  readonly regionName: string
  /** A new UUID; revision ids come from it. */
  readonly uuid: () => string
}

/** One call, taken apart. */
export interface ControlContext extends ControlApiDeps {
  readonly call: ControlCall
  readonly account: string
  readonly query: URLSearchParams
}

/** A call on one function. */
export interface FunctionContext extends ControlContext {
  readonly functionName: string
  readonly qualifier: string | null
  /** The last path segment of `/aliases/{name}`, decoded; '' elsewhere. */
  readonly aliasName: string
}

/** Another account's functions, and another region's, do not exist for the caller. */
export function resolveReference(context: ControlContext, text: string): FunctionReference {
  const reference = parseFunctionReference(text, context.query.get('Qualifier'))
  if (reference.region !== null && reference.region !== context.regionName) {
    throw new CodedError('ERR_RESOURCE_NOT_FOUND', [`Functions from '${reference.region}' are not reachable in this region ('${context.regionName}')`])
  }
  if (reference.account !== null && reference.account !== context.account) throw new CodedError('ERR_RESOURCE_NOT_FOUND', [`Function not found: ${text}`])
  return reference
}

export function requireFunction(context: FunctionContext, reader: FunctionReader): FunctionRecord {
  const record = reader.function()
  if (record === null) throw notFound(context, context.qualifier)
  return record
}

/** The version that the call's qualifier means. */
export function requireVersion(context: FunctionContext): { readonly record: FunctionRecord; readonly version: VersionRecord } {
  const reader = context.backend.read(context.account, context.functionName)
  const record = requireFunction(context, reader)
  const qualifier = context.qualifier ?? LATEST
  const alias = qualifier === LATEST || isVersionNumber(qualifier) ? null : reader.alias(qualifier)
  const wanted = alias?.functionVersion ?? qualifier
  const version = wanted === LATEST ? record.latest : reader.version(wanted)
  if (version === null) throw notFound(context, qualifier)
  return { record, version }
}

export function notFound(context: FunctionContext, qualifier: string | null): CodedError {
  const arn = qualifier === null ? functionArn(context.regionName, context.account, context.functionName) : qualifiedArn(context, qualifier)
  return new CodedError('ERR_RESOURCE_NOT_FOUND', [`Function not found: ${arn}`])
}

export function checkRevision(actual: string, expected: string | undefined): void {
  if (expected !== undefined && expected !== actual) {
    throw new CodedError('ERR_PRECONDITION', ['call GetFunction or GetAlias for the latest one'])
  }
}
