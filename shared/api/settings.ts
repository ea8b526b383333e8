/** From a client's body to settings, over those that are there. Pure. */
import { CodedError } from '../errors.ts'
import { DEFAULT_FUNCTION_LIMITS, SESSION_IDLE_DEFAULT_MS, SESSION_MAX_AGE_DEFAULT_MS } from '../limits.ts'
import type { SessionSettings } from '../sessions/types.ts'
import { DEFAULT_FUNCTION_TRAITS, type ServiceBinding } from '../worker/types.ts'
import { normalizeOrigin } from './origin.ts'
import type { FunctionSettings } from './records.ts'
import type { OutpostBody, SettingsBody } from './schemas.ts'

/** Lambda's default; ours for functions that come by other ways is in DEFAULT_FUNCTION_LIMITS. */
const TIMEOUT_DEFAULT_MS = 3_000
export const HANDLER_DEFAULT = 'index.handler'

export const DEFAULT_SETTINGS: FunctionSettings = {
  description: '',
  handler: HANDLER_DEFAULT,
  runtime: null,
  role: null,
  architectures: ['x86_64'],
  limits: { ...DEFAULT_FUNCTION_LIMITS, wallMs: TIMEOUT_DEFAULT_MS },
  traits: DEFAULT_FUNCTION_TRAITS,
  vars: {},
  jsonVars: {},
  services: [],
  origin: null,
  secretNames: [],
  secretsId: null,
  prime: null,
  routes: [],
}

/** What the body does not name stays. Throws ERR_PARAMETER if a name is a variable and a secret. */
export function mergeSettings(base: FunctionSettings, body: SettingsBody, architectures: readonly string[] | undefined): FunctionSettings {
  const outpost: OutpostBody = body.Outpost ?? {}
  const limits = outpost.Limits ?? {}
  const merged: FunctionSettings = {
    description: body.Description ?? base.description,
    handler: body.Handler ?? base.handler,
    runtime: body.Runtime ?? base.runtime,
    role: body.Role ?? base.role,
    architectures: architectures ?? base.architectures,
    limits: {
      cpuMs: limits.CpuMs ?? base.limits.cpuMs,
      wallMs: body.Timeout === undefined ? base.limits.wallMs : body.Timeout * 1000,
      memoryMib: body.MemorySize ?? base.limits.memoryMib,
      responseMaxBytes: limits.ResponseMaxBytes ?? base.limits.responseMaxBytes,
      logMaxBytes: limits.LogMaxBytes ?? base.limits.logMaxBytes,
      subrequestMax: limits.SubrequestMax ?? base.limits.subrequestMax,
    },
    traits: {
      idempotent: outpost.Idempotent ?? base.traits.idempotent,
      latencySensitivity: outpost.LatencySensitivity ?? base.traits.latencySensitivity,
      sessions: outpost.Sessions === undefined ? base.traits.sessions : sessionSettings(outpost.Sessions),
    },
    vars: body.Environment === undefined || body.Environment === null ? base.vars : (body.Environment.Variables ?? {}),
    jsonVars: outpost.JsonVariables ?? base.jsonVars ?? {},
    services: outpost.Services?.map(serviceBinding) ?? base.services ?? [],
    origin: outpost.Origin === undefined ? (base.origin ?? null) : outpost.Origin === null ? null : normalizeOrigin(outpost.Origin),
    secretNames: base.secretNames,
    secretsId: base.secretsId,
    prime: outpost.Prime === undefined ? base.prime : outpost.Prime === false ? [] : outpost.Prime,
    routes: outpost.Routes ?? base.routes,
  }
  const secretNames = outpost.Secrets === undefined ? base.secretNames : Object.keys(outpost.Secrets)
  requireOwnNames([
    ['a variable', Object.keys(merged.vars)], ['a JSON variable', Object.keys(merged.jsonVars ?? {})], ['a secret', secretNames],
    ['a service', merged.services?.map(({ binding }) => binding) ?? []],
  ])
  return merged
}

function requireOwnNames(kinds: readonly (readonly [kind: string, names: readonly string[]])[]): void {
  const known = new Map<string, string>()
  for (const [kind, names] of kinds) {
    for (const name of names) {
      const other = known.get(name)
      if (other !== undefined) throw new CodedError('ERR_PARAMETER', [`${name} is ${other} and ${kind}; it can be one of them`])
      known.set(name, kind)
    }
  }
}

function serviceBinding({ Binding, Service, Qualifier, Entrypoint, Props }: NonNullable<OutpostBody['Services']>[number]): ServiceBinding {
  return { binding: Binding, service: Service, qualifier: Qualifier ?? null, entrypoint: Entrypoint ?? null, props: Props ?? null }
}

/** What the body does not name is the default, not what was there: a session's settings belong together. */
function sessionSettings(given: NonNullable<OutpostBody['Sessions']>): SessionSettings | null {
  if (given === false) return null
  return {
    header: given.Header?.toLowerCase() ?? null,
    cookie: given.Cookie ?? null,
    idleMs: given.IdleSeconds === undefined ? SESSION_IDLE_DEFAULT_MS : given.IdleSeconds * 1000,
    maxAgeMs: given.MaxAgeSeconds === undefined ? SESSION_MAX_AGE_DEFAULT_MS : given.MaxAgeSeconds * 1000,
  }
}
