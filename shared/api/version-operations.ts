/** PublishVersion, ListVersionsByFunction, and Invoke's DryRun. */
import { createHash } from 'node:crypto'
import { CodedError } from '../errors.ts'
import { VERSIONS_PER_FUNCTION_MAX } from '../limits.ts'
import { checkRevision, requireFunction, requireVersion, type ControlContext, type FunctionContext } from './context.ts'
import { headerValue } from './header-list.ts'
import { LATEST } from './names.ts'
import { encodeMarker, pageSize, parseMarker } from './paging.ts'
import type { FunctionRecord, FunctionTransaction, VersionRecord } from './records.ts'
import type { JsonReply } from './replies.ts'
import { parseBody, publishVersionBody } from './schemas.ts'
import { configurationView, listedView } from './views.ts'

export async function publishVersion(context: FunctionContext): Promise<JsonReply> {
  const body = parseBody(publishVersionBody, context.call.body)
  const version = await context.backend.change(context.account, context.functionName, 'write', (transaction) => {
    const record = requireFunction(context, transaction)
    checkRevision(record.latest.revisionId, body.RevisionId)
    if (body.CodeSha256 !== undefined && body.CodeSha256 !== record.latest.code.sha256Base64) {
      throw new CodedError('ERR_PARAMETER', [`CodeSHA256 (${body.CodeSha256}) is different from current CodeSHA256 in $LATEST (${record.latest.code.sha256Base64}). Please try again with the CodeSHA256 in $LATEST.`])
    }
    return publishInto(context, transaction, record, body.Description ?? null)
  })
  return { status: 201, body: configurationView(context, version, version.version) }
}

/** Freezes `$LATEST` into a version. Without a change since the version published last it is that one again. */
export function publishInto(context: ControlContext, transaction: FunctionTransaction, record: FunctionRecord, description: string | null): VersionRecord {
  const contentId = contentIdOf(record.latest)
  const previous = record.published?.contentId === contentId ? transaction.version(record.published.version) : null
  if (previous !== null) return previous
  if (transaction.versionCount() >= VERSIONS_PER_FUNCTION_MAX) throw new CodedError('ERR_QUOTA', [VERSIONS_PER_FUNCTION_MAX, `versions of ${record.name}`])
  const { latest } = record
  const version: VersionRecord = {
    ...latest,
    version: String(record.nextVersion),
    settings: description === null ? latest.settings : { ...latest.settings, description },
    modifiedAtMs: context.clock.nowMs(),
    revisionId: context.uuid(),
  }
  transaction.putVersion(version)
  transaction.putFunction({ ...record, nextVersion: record.nextVersion + 1, published: { version: version.version, contentId } })
  return version
}

export function listVersions(context: FunctionContext): JsonReply {
  const { backend, account, functionName, query } = context
  const reader = backend.read(account, functionName)
  const record = requireFunction(context, reader)
  const marker = parseMarker(query)
  const size = pageSize(query)
  const latest = marker === null ? [record.latest] : []
  const versions = [...latest, ...reader.versions(marker?.[1] ?? 0, size + 1 - latest.length)]
  const shown = versions.slice(0, size)
  const last = shown.at(-1)
  return {
    status: 200,
    body: {
      Versions: shown.map((version) => listedView(context, version, version.version)),
      ...(versions.length > size && last !== undefined ? { NextMarker: encodeMarker([functionName, last.version === LATEST ? 0 : Number(last.version)]) } : {}),
    },
  }
}

/** Invoke arrives here only to ask whether it could run: everything else goes the way of invocations. */
export function dryRun(context: FunctionContext): JsonReply {
  if (headerValue(context.call.headers, 'x-amz-invocation-type') !== 'DryRun') throw new CodedError('ERR_OPERATION_UNKNOWN', ['an invocation among control calls'])
  requireVersion(context)
  return { status: 204, body: null }
}

/** What makes two versions the same: code and settings, not the time nor the image made of them. */
function contentIdOf(version: VersionRecord): string {
  const settings = Object.entries(version.settings).sort(([a], [b]) => (a < b ? -1 : 1))
  return createHash('sha256').update(JSON.stringify([settings, version.code.zipId])).digest('hex')
}
