/** CreateFunction, UpdateFunctionCode, UpdateFunctionConfiguration, GetFunction(Configuration), ListFunctions, DeleteFunction. */
import { CodedError } from '../errors.ts'
import { FUNCTIONS_PER_ACCOUNT_MAX } from '../limits.ts'
import { concurrencyView } from './concurrency-operations.ts'
import { checkRevision, notFound, requireFunction, requireVersion, resolveReference, type ControlContext, type FunctionContext } from './context.ts'
import { LATEST, functionArn, isVersionNumber } from './names.ts'
import { encodeMarker, pageSize, parseMarker } from './paging.ts'
import type { FunctionRecord, FunctionTransaction, Published, VersionRecord } from './records.ts'
import type { JsonReply } from './replies.ts'
import { createFunctionBody, parseBody, updateCodeBody, updateConfigurationBody } from './schemas.ts'
import { DEFAULT_SETTINGS, HANDLER_DEFAULT, mergeSettings } from './settings.ts'
import { publishInto } from './version-operations.ts'
import { configurationView, functionView, listedView } from './views.ts'

export async function createFunction(context: ControlContext): Promise<JsonReply> {
  const { backend, account, clock, uuid } = context
  const body = parseBody(createFunctionBody, context.call.body)
  const { name: functionName, qualifier } = resolveReference(context, body.FunctionName)
  if (qualifier !== null) throw new CodedError('ERR_PARAMETER', ['FunctionName may not have a qualifier here'])
  const alreadyThere = (): CodedError => new CodedError('ERR_CONFLICT', [`Function already exist: ${functionName}`])
  // Asked again inside the commit; here it saves a build.
  if (backend.read(account, functionName).function() !== null) throw alreadyThere()
  const order = {
    account,
    functionName,
    code: { kind: 'zip', bytes: zipOf(body.Code.ZipFile) },
    settings: mergeSettings(DEFAULT_SETTINGS, body, body.Architectures),
    handlerGiven: body.Handler !== undefined,
    secrets: body.Outpost?.Secrets ?? {},
    current: null,
  } as const
  const shown = await backend.publish(order, (transaction, published) => {
    if (transaction.function() !== null) throw alreadyThere()
    if (transaction.functionCount() >= FUNCTIONS_PER_ACCOUNT_MAX) throw new CodedError('ERR_QUOTA', [FUNCTIONS_PER_ACCOUNT_MAX, 'functions'])
    const latest: VersionRecord = { version: LATEST, ...published, modifiedAtMs: clock.nowMs(), revisionId: uuid() }
    const record: FunctionRecord = { account, name: functionName, latest, nextVersion: 1, published: null, tags: body.Tags ?? {}, createdAtMs: clock.nowMs() }
    transaction.putFunction(record)
    return body.Publish === true ? publishInto(context, transaction, record, null) : latest
  })
  // Lambda shows the version's number here, under the unqualified ARN.
  return { status: 201, body: publishedView({ ...context, functionName }, shown, null) }
}

export async function updateCode(context: FunctionContext): Promise<JsonReply> {
  const { backend, account, functionName } = context
  const body = parseBody(updateCodeBody, context.call.body)
  const record = requireFunction(context, backend.read(account, functionName))
  refuseQualifier(context)
  checkRevision(record.latest.revisionId, body.RevisionId)
  const { latest } = record
  const order = {
    account,
    functionName,
    code: { kind: 'zip', bytes: zipOf(body.ZipFile) },
    settings: { ...latest.settings, architectures: body.Architectures ?? latest.settings.architectures },
    handlerGiven: latest.settings.handler !== HANDLER_DEFAULT || latest.code.handlerExport !== null,
    secrets: null,
    current: latest.build,
  } as const
  if (body.DryRun === true) {
    const code = await backend.check(order)
    return { status: 200, body: configurationView(context, { ...latest, code }, null) }
  }
  const shown = await backend.publish(order, (transaction, published) => {
    const updated = putLatest(context, transaction, latest.revisionId, published)
    return body.Publish === true ? publishInto(context, transaction, updated, null) : updated.latest
  })
  return { status: 200, body: publishedView(context, shown, body.Publish === true ? shown.version : null) }
}

export async function updateConfiguration(context: FunctionContext): Promise<JsonReply> {
  const { backend, account, functionName } = context
  const body = parseBody(updateConfigurationBody, context.call.body)
  const record = requireFunction(context, backend.read(account, functionName))
  refuseQualifier(context)
  checkRevision(record.latest.revisionId, body.RevisionId)
  const { latest } = record
  const order = {
    account,
    functionName,
    code: { kind: 'stored', code: latest.code },
    settings: mergeSettings(latest.settings, body, undefined),
    handlerGiven: body.Handler !== undefined,
    secrets: body.Outpost?.Secrets ?? null,
    current: latest.build,
  } as const
  const updated = await backend.publish(order, (transaction, published) => putLatest(context, transaction, latest.revisionId, published))
  return { status: 200, body: publishedView(context, updated.latest, null) }
}

export function getFunction(context: FunctionContext): JsonReply {
  const { record, version } = requireVersion(context)
  const concurrency = concurrencyView(context.accounts.reservedOf(context.account, context.functionName))
  return { status: 200, body: { ...functionView(context, record, version, context.qualifier), ...(concurrency === null ? {} : { Concurrency: concurrency }) } }
}

export function getConfiguration(context: FunctionContext): JsonReply {
  return { status: 200, body: configurationView(context, requireVersion(context).version, context.qualifier) }
}

export function listFunctions(context: ControlContext): JsonReply {
  const all = context.query.get('FunctionVersion')
  if (all !== null && all !== 'ALL') throw new CodedError('ERR_PARAMETER', ['1 validation error detected: FunctionVersion can only be ALL'])
  const size = pageSize(context.query)
  const [afterName, afterVersion] = parseMarker(context.query) ?? ['', 0]
  return all === null ? listLatest(context, afterName, size) : listAll(context, afterName, afterVersion, size)
}

function listLatest(context: ControlContext, afterName: string, size: number): JsonReply {
  const records = context.backend.list(context.account, afterName, size + 1)
  const shown = records.slice(0, size)
  const last = shown.at(-1)
  return {
    status: 200,
    body: {
      Functions: shown.map((record) => listedView({ ...context, functionName: record.name }, record.latest, null)),
      ...(records.length > size && last !== undefined ? { NextMarker: encodeMarker([last.name, 0]) } : {}),
    },
  }
}

/** `$LATEST` of each function, then its versions. A marker `[name, n]` stands after version n of that function, 0 being `$LATEST`. */
function listAll(context: ControlContext, afterName: string, afterVersion: number, size: number): JsonReply {
  const shown: { readonly name: string; readonly number: number; readonly version: VersionRecord }[] = []
  const take = (name: string, after: number): void => {
    const versions = context.backend.read(context.account, name).versions(after, size + 1 - shown.length)
    for (const version of versions) shown.push({ name, number: Number(version.version), version })
  }
  if (afterName !== '') take(afterName, afterVersion)
  for (const record of shown.length > size ? [] : context.backend.list(context.account, afterName, size + 1)) {
    if (shown.length > size) break
    shown.push({ name: record.name, number: 0, version: record.latest })
    take(record.name, 0)
  }
  const page = shown.slice(0, size)
  const last = page.at(-1)
  return {
    status: 200,
    body: {
      Functions: page.map(({ name, version }) => listedView({ ...context, functionName: name }, version, version.version)),
      ...(shown.length > size && last !== undefined ? { NextMarker: encodeMarker([last.name, last.number]) } : {}),
    },
  }
}

export async function deleteFunction(context: FunctionContext): Promise<JsonReply> {
  const { backend, account, functionName, qualifier } = context
  await backend.change(account, functionName, 'delete', (transaction) => {
    const record = requireFunction(context, transaction)
    if (qualifier === null) transaction.deleteFunction()
    else deleteVersion(context, transaction, record, qualifier)
  })
  // After it: a function that could not be deleted keeps what was reserved for it.
  if (qualifier === null) await context.accounts.unreserve(account, functionName)
  return { status: 204, body: null }
}

function deleteVersion(context: FunctionContext, transaction: FunctionTransaction, record: FunctionRecord, qualifier: string): void {
  if (qualifier === LATEST) throw new CodedError('ERR_PARAMETER', ['$LATEST version cannot be deleted without deleting the function.'])
  if (!isVersionNumber(qualifier)) throw new CodedError('ERR_PARAMETER', ['Deletion of aliases is not supported by this operation: use DeleteAlias.'])
  if (transaction.version(qualifier) === null) throw notFound(context, qualifier)
  const aliases = transaction.aliases('', Number.MAX_SAFE_INTEGER).filter((alias) => alias.functionVersion === qualifier)
  if (aliases.length > 0) {
    throw new CodedError('ERR_CONFLICT', [`Unable to delete version because the following aliases reference it: [${aliases.map(({ name }) => name).join(', ')}]`])
  }
  transaction.deleteVersion(qualifier)
  // A later PublishVersion of the same content has to make a new one.
  if (record.published?.version === qualifier) transaction.putFunction({ ...record, published: null })
}

/** With the services that are not there yet: they may be deployed after this one, so it is no error. */
function publishedView(context: FunctionContext | (ControlContext & { readonly functionName: string }), version: VersionRecord, qualifier: string | null): Record<string, unknown> {
  const view = configurationView(context, version, qualifier)
  const missing = (version.settings.services ?? []).filter(({ service }) => context.backend.read(context.account, service).function() === null)
  if (missing.length === 0) return view
  const report = { ...version.build.report, missingServices: missing.map(({ binding, service }) => ({ binding, service })) }
  return { ...view, Outpost: { ...(view['Outpost'] as object), Report: report } }
}

/** A build was made from what the function was at `basedOn`; if it is something else now, another update came between. */
function putLatest(context: FunctionContext, transaction: FunctionTransaction, basedOn: string, published: Published): FunctionRecord {
  const record = requireFunction(context, transaction)
  if (record.latest.revisionId !== basedOn) {
    throw new CodedError('ERR_CONFLICT', [`The operation cannot be performed at this time. An update is in progress for resource: ${functionArn(context.regionName, context.account, context.functionName)}`])
  }
  const latest: VersionRecord = { version: LATEST, ...published, modifiedAtMs: context.clock.nowMs(), revisionId: context.uuid() }
  const updated: FunctionRecord = { ...record, latest }
  transaction.putFunction(updated)
  return updated
}

function refuseQualifier(context: FunctionContext): void {
  if (context.qualifier !== null && context.qualifier !== LATEST) throw new CodedError('ERR_PARAMETER', ['This operation is permitted on Lambda functions only, not on versions or aliases.'])
}

function zipOf(base64: string | undefined): Uint8Array {
  if (base64 === undefined || base64 === '') throw new CodedError('ERR_PARAMETER', ['Please provide a source for function code: ZipFile.'])
  return Buffer.from(base64, 'base64')
}
