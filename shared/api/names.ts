/**
 * Names of functions as clients write them: `name`, `name:qualifier`, `123456789012:function:name[:qualifier]` or a
 * whole ARN, with the qualifier also as a query parameter. Pure; used by front doors and by the control plane.
 */
import { CodedError } from '../errors.ts'

export const LATEST = '$LATEST'

export interface FunctionReference {
  /** Twelve digits when the client named an account, else null: the caller's own. */
  readonly account: string | null
  /** Region of the ARN, else null. */
  readonly region: string | null
  readonly name: string
  /** `$LATEST`, digits, an alias, or null when none was given. */
  readonly qualifier: string | null
}

const NAME = /^[a-zA-Z0-9-_]{1,64}$/
const ACCOUNT = /^\d{12}$/
const QUALIFIER = /^(\$LATEST|[a-zA-Z0-9-_]{1,128})$/
const ARN = /^arn:aws[a-zA-Z-]*:lambda:([a-z]{2}[a-z0-9-]*):(\d{12}):function:([^:]+)(?::([^:]+))?$/
const PARTIAL_ARN = /^(\d{12}):function:([^:]+)(?::([^:]+))?$/
const SHORT = /^([^:]+)(?::([^:]+))?$/

/** `text` is the path segment after decoding, `qualifier` the query parameter or null. Throws ERR_PARAMETER. */
export function parseFunctionReference(text: string, qualifier: string | null): FunctionReference {
  const parts = split(text)
  if (!NAME.test(parts.name)) throw invalid(parts.name, 'functionName', 'of 1 to 64 letters, digits, - and _, or an ARN of such a function')
  if (parts.qualifier !== null) parseQualifier(parts.qualifier)
  if (qualifier !== null) parseQualifier(qualifier)
  if (parts.qualifier !== null && qualifier !== null && parts.qualifier !== qualifier) {
    throw new CodedError('ERR_PARAMETER', ['The derived qualifier from the function name does not match the specified qualifier.'])
  }
  return { ...parts, qualifier: parts.qualifier ?? qualifier }
}

export function isFunctionName(text: string): boolean {
  return NAME.test(text)
}

export function isAccountId(text: string): boolean {
  return ACCOUNT.test(text)
}

/** Throws ERR_PARAMETER unless `text` is `$LATEST`, a version number or an alias name. */
export function parseQualifier(text: string): string {
  if (!QUALIFIER.test(text)) throw invalid(text, 'qualifier', `${LATEST}, a version number or an alias name of letters, digits, - and _`)
  return text
}

export function isVersionNumber(qualifier: string): boolean {
  return /^[0-9]+$/.test(qualifier)
}

/** Throws ERR_PARAMETER unless `text` can name an alias; all digits would be a version. */
export function parseAliasName(text: string): string {
  if (!/^[a-zA-Z0-9-_]{1,128}$/.test(text) || isVersionNumber(text)) {
    throw invalid(text, 'name', 'of 1 to 128 letters, digits, - and _, and not only digits')
  }
  return text
}

export function functionArn(region: string, account: string, name: string, qualifier: string | null = null): string {
  const arn = `arn:aws:lambda:${region}:${account}:function:${name}`
  return qualifier === null ? arn : `${arn}:${qualifier}`
}

function split(text: string): FunctionReference {
  const whole = ARN.exec(text)
  if (whole !== null) return { region: whole[1] ?? null, account: whole[2] ?? null, name: whole[3] ?? '', qualifier: whole[4] ?? null }
  const partial = PARTIAL_ARN.exec(text)
  if (partial !== null) return { region: null, account: partial[1] ?? null, name: partial[2] ?? '', qualifier: partial[3] ?? null }
  const short = SHORT.exec(text)
  if (short !== null) return { region: null, account: null, name: short[1] ?? '', qualifier: short[2] ?? null }
  return { region: null, account: null, name: text, qualifier: null }
}

function invalid(value: string, member: string, constraint: string): CodedError {
  return new CodedError('ERR_PARAMETER', [
    `1 validation error detected: Value '${value.slice(0, 170)}' at '${member}' failed to satisfy constraint: Member must be ${constraint}`,
  ])
}
