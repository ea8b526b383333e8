/**
 * Named environments of a configuration, as wrangler has them. Pure.
 *
 * N1: within `env.NAME` settings not given there are those of the top level, but for bindings and variables: a function
 *     of another environment must not get at the data of this one because somebody forgot a line.
 * N2: it is deployed as `<name>-<NAME>`, unless it has a name of its own.
 */
import { CodedError } from '../errors.ts'

type Members = Readonly<Record<string, unknown>>

export interface Selected {
  readonly members: Members
  readonly notes: readonly string[]
}

/** `environment` null: the top level. `notInherited`: by N1. Throws ERR_CONFIG for an environment that is not there. */
export function selectEnvironment(file: string, config: Members, environment: string | null, notInherited: readonly string[]): Selected {
  const { env, ...top } = config
  if (environment === null) return { members: top, notes: [] }
  const environments = (env ?? {}) as Readonly<Record<string, Members>>
  const own = Object.hasOwn(environments, environment) ? environments[environment] : undefined
  if (own === undefined) {
    const names = Object.keys(environments)
    throw new CodedError('ERR_CONFIG', [`${file}: there is no env.${environment}${names.length === 0 ? '; it names no environments' : `, only ${names.join(', ')}`}`])
  }
  const lost = notInherited.filter((member) => isGiven(top[member]) && own[member] === undefined)
  const inherited = Object.fromEntries(Object.entries(top).filter(([member]) => !notInherited.includes(member)))
  const name = own['name'] ?? (typeof top['name'] === 'string' ? `${top['name']}-${environment}` : undefined)
  return {
    members: { ...inherited, ...own, ...(name === undefined ? {} : { name }) },
    notes: lost.map((member) => `${file}: ${member} stands at the top level and is not inherited by env.${environment}, which does not have it: repeat it there if it is wanted`),
  }
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null && (typeof value !== 'object' || Object.keys(value).length > 0)
}
