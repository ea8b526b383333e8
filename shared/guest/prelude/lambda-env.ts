/**
 * The variables that Lambda gives a process. They are there while the top level of any function runs, which may be a
 * handler of that kind, unless the function has its own of the name; others lose them when `load` has seen them.
 */
import { DateNow, ObjectDefineProperty, ObjectGetOwnPropertyDescriptor, StringSplit } from './primordials.ts'
import type { Configuration } from './configuration.ts'

/** The trace id of the event under way, as it is a variable too: read only when it is asked for. */
let readTraceId: () => string | null = () => null

export function setTraceIdReader(read: () => string | null): void {
  readTraceId = read
}

/** Lambda's form; there is no host to name, so the account and version stand for the instance. */
export function logStreamName({ version, accountId }: Configuration): string {
  const day = new Date(DateNow()).toISOString().slice(0, 10).replaceAll('-', '/')
  return `${day}/[${version}]${accountId}`
}

type Values = readonly (readonly [name: string, value: () => string | undefined])[]

function valuesOf(configuration: Configuration): Values {
  const { functionName, version, memoryMib, arn, handlerExport = null } = configuration
  const region = StringSplit(arn, ':')[3] ?? ''
  return [
    ['_HANDLER', () => `index.${handlerExport ?? 'handler'}`],
    ['_X_AMZN_TRACE_ID', () => readTraceId() ?? undefined],
    ['AWS_DEFAULT_REGION', () => region],
    ['AWS_EXECUTION_ENV', () => 'AWS_Lambda_outpost'],
    ['AWS_LAMBDA_FUNCTION_MEMORY_SIZE', () => `${memoryMib}`],
    ['AWS_LAMBDA_FUNCTION_NAME', () => functionName],
    ['AWS_LAMBDA_FUNCTION_VERSION', () => version],
    ['AWS_LAMBDA_INITIALIZATION_TYPE', () => 'snap-start'],
    ['AWS_LAMBDA_LOG_GROUP_NAME', () => `/aws/lambda/${functionName}`],
    ['AWS_LAMBDA_LOG_STREAM_NAME', () => logStreamName(configuration)],
    ['AWS_REGION', () => region],
    ['LAMBDA_TASK_ROOT', () => '/var/task'],
    ['TZ', () => ':UTC'],
  ]
}

let getters: readonly (readonly [name: string, get: () => unknown])[] = []

/** Before the function's own variables, which take the place of any of them. */
export function addLambdaVariables(env: object, configuration: Configuration): void {
  getters = valuesOf(configuration)
  for (const [name, get] of getters) {
    const set = (value: unknown): void => {
      ObjectDefineProperty(env, name, { value, writable: true, enumerable: true, configurable: true })
    }
    ObjectDefineProperty(env, name, { get, set, enumerable: true, configurable: true })
  }
}

/** For a function without an event handler. */
export function removeLambdaVariables(env: Record<string, unknown>): void {
  for (const [name, get] of getters) {
    // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- only those that were added here
    if (ObjectGetOwnPropertyDescriptor(env, name)?.get === get) delete env[name]
  }
}
