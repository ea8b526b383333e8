/** CreateAlias, UpdateAlias, GetAlias, ListAliases, DeleteAlias. */
import { CodedError } from '../errors.ts'
import { ALIASES_PER_FUNCTION_MAX } from '../limits.ts'
import { checkRevision, notFound, requireFunction, type FunctionContext } from './context.ts'
import { LATEST, functionArn, parseAliasName } from './names.ts'
import { encodeMarker, pageSize, parseMarker } from './paging.ts'
import type { AliasRecord, FunctionReader } from './records.ts'
import type { JsonReply } from './replies.ts'
import { createAliasBody, parseBody, updateAliasBody } from './schemas.ts'
import { aliasView } from './views.ts'

export async function createAlias(context: FunctionContext): Promise<JsonReply> {
  const body = parseBody(createAliasBody, context.call.body)
  const name = parseAliasName(body.Name)
  const alias = await context.backend.change(context.account, context.functionName, 'write', (transaction) => {
    requireFunction(context, transaction)
    if (transaction.alias(name) !== null) throw new CodedError('ERR_CONFLICT', [`Alias already exists: ${arnOf(context, name)}`])
    if (transaction.aliasCount() >= ALIASES_PER_FUNCTION_MAX) throw new CodedError('ERR_QUOTA', [ALIASES_PER_FUNCTION_MAX, `aliases of ${context.functionName}`])
    requireTarget(context, transaction, body.FunctionVersion)
    const created: AliasRecord = { name, functionVersion: body.FunctionVersion, description: body.Description ?? '', revisionId: context.uuid() }
    transaction.putAlias(created)
    return created
  })
  return { status: 201, body: aliasView(context, alias) }
}

export async function updateAlias(context: FunctionContext): Promise<JsonReply> {
  const body = parseBody(updateAliasBody, context.call.body)
  const alias = await context.backend.change(context.account, context.functionName, 'write', (transaction) => {
    const current = requireAlias(context, transaction)
    checkRevision(current.revisionId, body.RevisionId)
    if (body.FunctionVersion !== undefined) requireTarget(context, transaction, body.FunctionVersion)
    const updated: AliasRecord = {
      name: current.name,
      functionVersion: body.FunctionVersion ?? current.functionVersion,
      description: body.Description ?? current.description,
      revisionId: context.uuid(),
    }
    transaction.putAlias(updated)
    return updated
  })
  return { status: 200, body: aliasView(context, alias) }
}

export function getAlias(context: FunctionContext): JsonReply {
  return { status: 200, body: aliasView(context, requireAlias(context, context.backend.read(context.account, context.functionName))) }
}

export function listAliases(context: FunctionContext): JsonReply {
  const reader = context.backend.read(context.account, context.functionName)
  requireFunction(context, reader)
  const wanted = context.query.get('FunctionVersion')
  const size = pageSize(context.query)
  const [after] = parseMarker(context.query) ?? ['']
  const matching = reader.aliases(after, Number.MAX_SAFE_INTEGER).filter((alias) => wanted === null || alias.functionVersion === wanted)
  const shown = matching.slice(0, size)
  const last = shown.at(-1)
  return {
    status: 200,
    body: {
      Aliases: shown.map((alias) => aliasView(context, alias)),
      ...(matching.length > size && last !== undefined ? { NextMarker: encodeMarker([last.name, 0]) } : {}),
    },
  }
}

/** An alias that is not there is deleted already. */
export async function deleteAlias(context: FunctionContext): Promise<JsonReply> {
  const name = parseAliasName(context.aliasName)
  await context.backend.change(context.account, context.functionName, 'delete', (transaction) => {
    requireFunction(context, transaction)
    if (transaction.alias(name) !== null) transaction.deleteAlias(name)
  })
  return { status: 204, body: null }
}

function requireAlias(context: FunctionContext, reader: FunctionReader): AliasRecord {
  requireFunction(context, reader)
  const alias = reader.alias(parseAliasName(context.aliasName))
  if (alias === null) throw new CodedError('ERR_RESOURCE_NOT_FOUND', [`Cannot find alias arn: ${arnOf(context, context.aliasName)}`])
  return alias
}

function requireTarget(context: FunctionContext, reader: FunctionReader, version: string): void {
  if (version !== LATEST && reader.version(version) === null) throw notFound(context, version)
}

function arnOf(context: FunctionContext, alias: string): string {
  return functionArn(context.regionName, context.account, context.functionName, alias)
}
