/**
 * What a registry remembers about functions, and the face a registry has towards the control plane.
 * Everything is plain JSON: it is stored as it is here.
 */
import type { BuildKey, ImageId } from '../brand.ts'
import type { FunctionLimits } from '../limits.ts'
import type { ImageSize } from '../microvm/build-types.ts'
import type { FunctionTraits, HandlerKind, ServiceBinding } from '../worker/types.ts'

/** Uploaded code: the zip as it came and the one ES module made from it; both are kept by content. */
export interface CodeRecord {
  /** SHA-256 of the zip, hex: its name in the source store. */
  readonly zipId: string
  /** SHA-256 of the module, hex: its name in the source store. */
  readonly moduleId: string
  /** SHA-256 of the zip, base64: Lambda's CodeSha256. */
  readonly sha256Base64: string
  readonly zipBytes: number
  /** Shown in stack traces. */
  readonly fileName: string
  /** The `Handler` the module was made for: another one may name another file of the zip. */
  readonly handler: string
  /** Export the builder looks for; null: `default.fetch`, else `handler`. */
  readonly handlerExport: string | null
}

export interface BuildReport {
  readonly primed: boolean
  readonly primeNote: string
  readonly warnings: readonly string[]
  readonly buildMs: number
  readonly pages: number
  /** Absent in records of builds made before it was known. */
  readonly images?: readonly ImageSize[]
}

/** An image made from code and configuration. */
export interface BuildRecord {
  /** Digest of all that went into the image; equal inputs need no second build. */
  readonly inputsId: string
  /** Engine that made it, from the image's manifest. */
  readonly engineBuild: string
  readonly key: BuildKey
  /** Ancestors first, the function's own image last. */
  readonly imageIds: readonly ImageId[]
  readonly handlerKind: HandlerKind
  /** As in BuildResult; absent in records of builds made before it was known. */
  readonly entrypoints?: readonly string[]
  readonly report: BuildReport
}

/** Everything a client can configure; frozen into a version when it is published. */
export interface FunctionSettings {
  readonly description: string
  readonly handler: string
  readonly runtime: string | null
  readonly role: string | null
  readonly architectures: readonly string[]
  readonly limits: FunctionLimits
  readonly traits: FunctionTraits
  readonly vars: Readonly<Record<string, string>>
  /** Variables that are no texts: whatever JSON can hold. Absent in records from before there were any. */
  readonly jsonVars?: Readonly<Record<string, unknown>>
  /** The same. */
  readonly services?: readonly ServiceBinding[]
  /** `http://host:port` of the server behind the function, as in `URL.origin`. Null or, in records from before there was one, absent: none. */
  readonly origin?: string | null
  readonly secretNames: readonly string[]
  /** Names the values in the registry's table of secrets; new with every change of them. Null: no secrets. */
  readonly secretsId: string | null
  /** Paths of synthetic requests; null: the builder's default; empty: none. */
  readonly prime: readonly string[] | null
  readonly routes: readonly string[]
}

export interface VersionRecord {
  /** `$LATEST` or a number as text. */
  readonly version: string
  readonly settings: FunctionSettings
  readonly code: CodeRecord
  readonly build: BuildRecord
  readonly modifiedAtMs: number
  /** A UUID, new with every write. */
  readonly revisionId: string
}

export interface FunctionRecord {
  readonly account: string
  readonly name: string
  readonly latest: VersionRecord
  /** Number of the next published version; numbers are never used twice. */
  readonly nextVersion: number
  /** Digest of settings and code of the version published last, and its number; null if none is there. */
  readonly published: { readonly version: string; readonly contentId: string } | null
  readonly tags: Readonly<Record<string, string>>
  readonly createdAtMs: number
}

export interface AliasRecord {
  readonly name: string
  readonly functionVersion: string
  readonly description: string
  readonly revisionId: string
}

/** Read access to one function. Returned values are the caller's own. */
export interface FunctionReader {
  function(): FunctionRecord | null
  /** A published version by its number. */
  version(version: string): VersionRecord | null
  /** Published versions with a number above `after`, ascending. */
  versions(after: number, limit: number): VersionRecord[]
  versionCount(): number
  alias(name: string): AliasRecord | null
  /** Aliases with a name above `after`, ascending; '' for all. */
  aliases(after: string, limit: number): AliasRecord[]
  aliasCount(): number
}

/** Access inside one atomic write. Reads see what was put before. Throw to change nothing. */
export interface FunctionTransaction extends FunctionReader {
  putFunction(record: FunctionRecord): void
  putVersion(record: VersionRecord): void
  deleteVersion(version: string): void
  putAlias(record: AliasRecord): void
  deleteAlias(name: string): void
  /** The function with all its versions and aliases. */
  deleteFunction(): void
  /** Functions of the account at this moment. */
  functionCount(): number
}

/** What is to become an image. */
export interface PublishOrder {
  readonly account: string
  readonly functionName: string
  /** A new zip, or code that is stored already. */
  readonly code: { readonly kind: 'zip'; readonly bytes: Uint8Array } | { readonly kind: 'stored'; readonly code: CodeRecord }
  /** `settings.secretNames` and `secretsId` are filled by the publisher. */
  readonly settings: FunctionSettings
  /** Whether `settings.handler` came from the client: else a fetch handler is looked for first. */
  readonly handlerGiven: boolean
  /** New values, or null to keep those that `settings.secretsId` names. */
  readonly secrets: Readonly<Record<string, string>> | null
  /** The build that runs now, reused when its inputs are the same. */
  readonly current: BuildRecord | null
}

export interface Published {
  readonly settings: FunctionSettings
  readonly code: CodeRecord
  readonly build: BuildRecord
}

/** What the control plane needs of a region. */
export interface ControlBackend {
  read(account: string, functionName: string): FunctionReader
  /** Functions of an account with a name above `after`, ascending. */
  list(account: string, after: string, limit: number): FunctionRecord[]
  /** One atomic write; resolves when it is on disk. `delete` works on a full disk too. */
  change<T>(account: string, functionName: string, purpose: 'write' | 'delete', action: (transaction: FunctionTransaction) => T): Promise<T>
  /**
   * Builds, stores the images, then runs `commit` in one atomic write. If anything fails nothing of it can be seen.
   * Throws what the builder refuses with, ERR_BUILD_FAILED, ERR_BUILD_QUEUE_FULL, ERR_STORE_FULL.
   */
  publish<T>(order: PublishOrder, commit: (transaction: FunctionTransaction, published: Published) => T): Promise<T>
  /** Bundles and checks a zip without building or storing anything. */
  check(order: PublishOrder): Promise<CodeRecord>
}
