/** Who may call the control plane. */
import { z } from 'zod'
import { CodedError } from '../errors.ts'
import type { ControlCall } from '../http/types.ts'
import { ACCOUNT_CONCURRENCY_MAX } from '../limits.ts'
import { headerValue } from './header-list.ts'
import { isAccountId } from './names.ts'

export interface AccessKey {
  readonly secret: string
  /** Twelve digits. */
  readonly account: string
}

export interface KeyStore {
  /** Null: no such key. Asked for every call; must answer from memory. */
  lookup(accessKeyId: string): AccessKey | null
}

export interface KeysFile extends KeyStore {
  /** Running invocations of an account, as its keys say; null: they say nothing. */
  concurrencyOf(account: string): number | null
}

export interface Identity {
  readonly account: string
  readonly accessKeyId: string
}

export interface Authenticator {
  /** Throws ERR_SIGNATURE_*. The call's body must be complete: the signature covers it. */
  authenticate(call: ControlCall): Identity
}

/** The account of everybody in development. */
export const DEV_ACCOUNT = '000000000000'

/**
 * For development: any Authorization header will do, so that every SDK works with made-up keys. There must be one,
 * because a browser adds none by itself and asks first when a page wants to: a web page cannot deploy.
 */
export const devAuthenticator: Authenticator = {
  authenticate(call) {
    const authorization = headerValue(call.headers, 'authorization')
    const credential = authorization === null ? new URLSearchParams(call.rawPath.split('?')[1] ?? '').get('X-Amz-Credential') : authorization
    if (credential === null || credential === '') throw new CodedError('ERR_SIGNATURE_MISSING')
    if (authorization !== null && !/^[A-Za-z0-9-]+ +\S/.test(authorization)) throw new CodedError('ERR_SIGNATURE_INCOMPLETE', ['the Authorization header has no scheme and value'])
    return { account: DEV_ACCOUNT, accessKeyId: /(?:Credential=|^)([A-Za-z0-9_-]{1,128})\//.exec(credential)?.[1] ?? 'unknown' }
  },
}

const keysFileSchema = z.strictObject({
  keys: z.array(z.strictObject({
    accessKeyId: z.string().regex(/^[A-Za-z0-9_-]{4,128}$/),
    secret: z.string().min(16).max(256),
    account: z.string().refine(isAccountId, 'must be twelve digits'),
    /** Running invocations of the account, unless `outpost region account` says otherwise; equal in all of its keys that have it. */
    concurrency: z.int().min(0).max(ACCOUNT_CONCURRENCY_MAX).optional(),
  })).max(100_000),
})

/** `text` is the content of a keys file: `{"keys": [{"accessKeyId", "secret", "account", "concurrency"?}]}`. Throws ERR_CONFIG. */
export function parseKeys(text: string): KeysFile {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw new CodedError('ERR_CONFIG', [`The keys file is not JSON: ${String(error)}`])
  }
  const parsed = keysFileSchema.safeParse(json)
  // The message names the place, never the value: it may be a secret.
  if (!parsed.success) throw new CodedError('ERR_CONFIG', [`The keys file is not valid: ${parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ')}`])
  const keys = new Map<string, AccessKey>()
  const concurrency = new Map<string, number>()
  for (const { accessKeyId, secret, account, concurrency: wanted } of parsed.data.keys) {
    if (keys.has(accessKeyId)) throw new CodedError('ERR_CONFIG', [`The keys file names ${accessKeyId} twice`])
    keys.set(accessKeyId, { secret, account })
    if (wanted === undefined) continue
    if ((concurrency.get(account) ?? wanted) !== wanted) throw new CodedError('ERR_CONFIG', [`The keys file gives account ${account} two different values of concurrency`])
    concurrency.set(account, wanted)
  }
  return { lookup: (accessKeyId) => keys.get(accessKeyId) ?? null, concurrencyOf: (account) => concurrency.get(account) ?? null }
}
