/** What the builder tells of the function, and `env`. */
import { JSONParse, ObjectDefineProperty, ObjectKeys } from './primordials.ts'
import { hostSecret } from './host.ts'
import { addLambdaVariables } from './lambda-env.ts'
import { beginTopLevel } from './repairs.ts'
import { Fetcher } from './service.ts'

export interface Configuration {
  /** Texts, and whatever JSON can hold. */
  readonly vars: Readonly<Record<string, unknown>>
  readonly secretNames: readonly string[]
  /** Names of service bindings; the host knows them by their index here. */
  readonly services?: readonly string[]
  /** Scheme, host and port of the server behind the function. */
  readonly origin?: string | null
  readonly functionName: string
  readonly version: string
  readonly memoryMib: number
  readonly accountId: string
  readonly arn: string
  /** Export to use instead of `default.fetch` or `handler`; may be dotted. */
  readonly handlerExport?: string | null
}

export let configuration: Configuration = { vars: {}, secretNames: [], functionName: '', version: '$LATEST', memoryMib: 128, accountId: '', arn: '' }

/** The same object in every request: functions memoise on it. */
export const env: Record<string, unknown> = {}

/**
 * The name under which code finds `env` without being given it. Event handlers get no `env`, and `process` must stay
 * undefined or libraries take the guest for Node: bundlers replace `process.env` by this name (esbuild's `define`).
 */
export const ENV_GLOBAL = '__OUTPOST_ENV__'

/** Entry `configure` of the contract. */
export function configure(json: string): void {
  beginTopLevel()
  configuration = JSONParse(json) as Configuration
  addLambdaVariables(env, configuration)
  const names = ObjectKeys(configuration.vars)
  for (let i = 0; i < names.length; i++) {
    const name = names[i] ?? ''
    ObjectDefineProperty(env, name, { value: configuration.vars[name], writable: true, enumerable: true, configurable: true })
  }
  for (let i = 0; i < configuration.secretNames.length; i++) {
    const name = configuration.secretNames[i] ?? ''
    ObjectDefineProperty(env, name, {
      get: () => hostSecret(name) ?? undefined,
      set: (value: unknown) => ObjectDefineProperty(env, name, { value, writable: true, enumerable: true, configurable: true }),
      enumerable: true,
      configurable: true,
    })
  }
  const services = configuration.services ?? []
  for (let i = 0; i < services.length; i++) {
    ObjectDefineProperty(env, services[i] ?? '', { value: new Fetcher(i), writable: true, enumerable: true, configurable: true })
  }
}
