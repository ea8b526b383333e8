/** Records as the control plane shows them, with Lambda's member names. Secret values are in no record and in no view. */
import { LATEST, functionArn } from './names.ts'
import type { ServiceBinding } from '../worker/types.ts'
import type { AliasRecord, FunctionRecord, VersionRecord } from './records.ts'

export interface ViewContext {
  readonly regionName: string
  readonly account: string
  readonly functionName: string
}

/** `qualifier` is what the ARN ends with; null for the unqualified one. */
export function configurationView(context: ViewContext, version: VersionRecord, qualifier: string | null): Record<string, unknown> {
  const { settings, code, build } = version
  return {
    ...listedView(context, version, qualifier),
    State: 'Active',
    LastUpdateStatus: 'Successful',
    Outpost: {
      ImageId: build.imageIds.at(-1),
      HandlerKind: build.handlerKind,
      Entrypoints: build.entrypoints ?? [],
      BuildKey: build.key,
      EngineBuild: build.engineBuild,
      Report: build.report,
      FileName: code.fileName,
      Limits: {
        CpuMs: settings.limits.cpuMs,
        ResponseMaxBytes: settings.limits.responseMaxBytes,
        LogMaxBytes: settings.limits.logMaxBytes,
        SubrequestMax: settings.limits.subrequestMax,
      },
      SecretNames: settings.secretNames,
      Prime: settings.prime,
      JsonVariables: settings.jsonVars ?? {},
      Services: (settings.services ?? []).map(serviceView),
      Origin: settings.origin ?? null,
      Routes: settings.routes,
      Idempotent: settings.traits.idempotent,
      LatencySensitivity: settings.traits.latencySensitivity,
      Sessions: settings.traits.sessions === null ? null : {
        Header: settings.traits.sessions.header,
        Cookie: settings.traits.sessions.cookie,
        IdleSeconds: settings.traits.sessions.idleMs / 1000,
        MaxAgeSeconds: settings.traits.sessions.maxAgeMs / 1000,
      },
    },
  }
}

function serviceView({ binding, service, qualifier, entrypoint, props }: ServiceBinding): Record<string, unknown> {
  return { Binding: binding, Service: service, ...(qualifier === null ? {} : { Qualifier: qualifier }), ...(entrypoint === null ? {} : { Entrypoint: entrypoint }), ...(props === null ? {} : { Props: props }) }
}

/** An entry of a listing: without the states, as Lambda has it. */
export function listedView(context: ViewContext, version: VersionRecord, qualifier: string | null): Record<string, unknown> {
  const { settings, code } = version
  return {
    FunctionName: context.functionName,
    FunctionArn: functionArn(context.regionName, context.account, context.functionName, qualifier),
    ...(settings.runtime === null ? {} : { Runtime: settings.runtime }),
    ...(settings.role === null ? {} : { Role: settings.role }),
    Handler: settings.handler,
    CodeSize: code.zipBytes,
    Description: settings.description,
    Timeout: settings.limits.wallMs / 1000,
    MemorySize: settings.limits.memoryMib,
    LastModified: lambdaTime(version.modifiedAtMs),
    CodeSha256: code.sha256Base64,
    Version: version.version,
    ...(Object.keys(settings.vars).length === 0 ? {} : { Environment: { Variables: settings.vars } }),
    TracingConfig: { Mode: 'PassThrough' },
    RevisionId: version.revisionId,
    PackageType: 'Zip',
    Architectures: settings.architectures,
    EphemeralStorage: { Size: 512 },
    SnapStart: { ApplyOn: 'None', OptimizationStatus: 'Off' },
  }
}

export function aliasView(context: ViewContext, alias: AliasRecord): Record<string, unknown> {
  return {
    AliasArn: functionArn(context.regionName, context.account, context.functionName, alias.name),
    Name: alias.name,
    FunctionVersion: alias.functionVersion,
    Description: alias.description,
    RevisionId: alias.revisionId,
  }
}

export function functionView(context: ViewContext, record: FunctionRecord, version: VersionRecord, qualifier: string | null): Record<string, unknown> {
  return {
    Configuration: configurationView(context, version, qualifier),
    // Without a Location: there is nothing to download from yet, and an empty one would look like one.
    Code: { RepositoryType: 'S3' },
    ...(Object.keys(record.tags).length === 0 ? {} : { Tags: record.tags }),
  }
}

export function qualifiedArn(context: ViewContext, qualifier: string | null): string {
  return functionArn(context.regionName, context.account, context.functionName, qualifier ?? LATEST)
}

/** `2026-01-01T00:00:00.000+0000` */
function lambdaTime(timeMs: number): string {
  return new Date(timeMs).toISOString().replace('Z', '+0000')
}
