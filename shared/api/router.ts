/**
 * The control plane: a call as it arrived, already authenticated, to an answer. Knows Lambda's paths; the operations
 * are in files of their own. Never rejects: every failure is an answer with a code.
 */
import { CodedError, toCodedError } from '../errors.ts'
import type { ControlCall, ControlReply } from '../http/types.ts'
import { createAlias, deleteAlias, getAlias, listAliases, updateAlias } from './alias-operations.ts'
import { deleteConcurrency, getAccountSettings, getConcurrency, putConcurrency } from './concurrency-operations.ts'
import { resolveReference, type ControlApiDeps, type ControlContext, type FunctionContext } from './context.ts'
import { createFunction, deleteFunction, getConfiguration, getFunction, listFunctions, updateCode, updateConfiguration } from './function-operations.ts'
import { encodeError, encodeReply, type JsonReply } from './replies.ts'
import { dryRun, listVersions, publishVersion } from './version-operations.ts'

type Operation = (context: FunctionContext) => JsonReply | Promise<JsonReply>

const FUNCTIONS = '/2015-03-31/functions'
const ACCOUNT_SETTINGS = '/2016-08-19/account-settings'

/** By method and what follows the function's name. */
const OPERATIONS: Readonly<Record<string, Operation>> = {
  'GET ': getFunction,
  'DELETE ': deleteFunction,
  'GET configuration': getConfiguration,
  'PUT configuration': updateConfiguration,
  'PUT code': updateCode,
  'GET versions': listVersions,
  'POST versions': publishVersion,
  'GET aliases': listAliases,
  'POST aliases': createAlias,
  'GET aliases/': getAlias,
  'PUT aliases/': updateAlias,
  'DELETE aliases/': deleteAlias,
  'POST invocations': dryRun,
}

/** Each version of Lambda's API has its own date; these came later, and one of them later still. */
const CONCURRENCY_OPERATIONS: Readonly<Record<string, Operation>> = {
  'PUT 2017-10-31': putConcurrency,
  'DELETE 2017-10-31': deleteConcurrency,
  'GET 2019-09-30': getConcurrency,
}

export async function handleControl(deps: ControlApiDeps, call: ControlCall, account: string): Promise<ControlReply> {
  try {
    return encodeReply(await route(deps, call, account), call.requestId, deps.clock)
  } catch (thrown) {
    return controlFailure(deps, call, thrown)
  }
}

/** The answer for anything thrown; also for a caller that failed before the router. */
export function controlFailure(deps: Pick<ControlApiDeps, 'clock' | 'log'>, call: ControlCall, thrown: unknown): ControlReply {
  const error = toCodedError(thrown)
  if (error.status >= 500) deps.log.error('a control call failed', { requestId: call.requestId, code: error.code, reason: error.message })
  return encodeError(error, call.requestId, deps.clock)
}

async function route(deps: ControlApiDeps, call: ControlCall, account: string): Promise<JsonReply> {
  const [rawPath = '', rawQuery = ''] = call.rawPath.split('?', 2)
  const path = rawPath.replace(/\/$/, '')
  const context: ControlContext = { ...deps, call, account, query: new URLSearchParams(rawQuery) }
  if (path === FUNCTIONS && call.method === 'GET') return listFunctions(context)
  if (path === FUNCTIONS && call.method === 'POST') return await createFunction(context)
  if (path === ACCOUNT_SETTINGS && call.method === 'GET') return await getAccountSettings(context)
  const [, date = '', reserving] = /^\/(20\d\d-\d\d-\d\d)\/functions\/([^/]+)\/concurrency$/.exec(path) ?? []
  const concurrency = reserving === undefined ? undefined : CONCURRENCY_OPERATIONS[`${call.method} ${date}`]
  if (reserving !== undefined && concurrency !== undefined) return await concurrency(functionContext(context, reserving, ''))
  const match = /^\/2015-03-31\/functions\/([^/]+)(?:\/(configuration|code|versions|invocations|aliases)(?:\/([^/]+))?)?$/.exec(path)
  const [, name = '', part = '', rest] = match ?? []
  const operation = match === null || (rest !== undefined && part !== 'aliases') ? undefined : OPERATIONS[`${call.method} ${part}${rest === undefined ? '' : '/'}`]
  if (operation === undefined) throw new CodedError('ERR_OPERATION_UNKNOWN', [`${call.method} ${path.slice(0, 256)}`])
  return await operation(functionContext(context, name, rest ?? ''))
}

function functionContext(context: ControlContext, name: string, rest: string): FunctionContext {
  const reference = resolveReference(context, decodeSegment(name))
  return { ...context, functionName: reference.name, qualifier: reference.qualifier, aliasName: decodeSegment(rest) }
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    // The only failure is a malformed escape.
    throw new CodedError('ERR_PARAMETER', [`The path holds a malformed escape: ${segment.slice(0, 128)}`])
  }
}
