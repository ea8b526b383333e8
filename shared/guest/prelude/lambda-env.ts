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

/** Of the function that is configured: set before any of these is read. */
let current: Configuration | null = null
const named = (read: (configuration: Configuration) => string) => (): string | undefined => (current === null ? undefined : read(current))
const region = named(({ arn }) => StringSplit(arn, ':')[3] ?? '')

interface Variable {
  readonly name: string
  readonly get: () => string | undefined
}

/** Made once: a machine that is configured again, as layers are, is not changed by it. */
const VARIABLES: readonly Variable[] = [
  { name: '_HANDLER', get: named(({ handlerExport }) => `index.${handlerExport ?? 'handler'}`) },
  { name: '_X_AMZN_TRACE_ID', get: () => readTraceId() ?? undefined },
  { name: 'AWS_DEFAULT_REGION', get: region },
  { name: 'AWS_EXECUTION_ENV', get: () => 'AWS_Lambda_outpost' },
  { name: 'AWS_LAMBDA_FUNCTION_MEMORY_SIZE', get: named(({ memoryMib }) => `${memoryMib}`) },
  { name: 'AWS_LAMBDA_FUNCTION_NAME', get: named(({ functionName }) => functionName) },
  { name: 'AWS_LAMBDA_FUNCTION_VERSION', get: named(({ version }) => version) },
  { name: 'AWS_LAMBDA_INITIALIZATION_TYPE', get: () => 'snap-start' },
  { name: 'AWS_LAMBDA_LOG_GROUP_NAME', get: named(({ functionName }) => `/aws/lambda/${functionName}`) },
  { name: 'AWS_LAMBDA_LOG_STREAM_NAME', get: named(logStreamName) },
  { name: 'AWS_REGION', get: region },
  { name: 'LAMBDA_TASK_ROOT', get: () => '/var/task' },
  { name: 'TZ', get: () => ':UTC' },
]

/** Before the function's own variables, which take the place of any of them. */
export function addLambdaVariables(env: object, configuration: Configuration): void {
  current = configuration
  for (let index = 0; index < VARIABLES.length; index++) {
    const { name, get } = VARIABLES[index] as Variable
    if (ObjectGetOwnPropertyDescriptor(env, name) !== undefined) continue
    const set = (value: unknown): void => {
      ObjectDefineProperty(env, name, { value, writable: true, enumerable: true, configurable: true })
    }
    ObjectDefineProperty(env, name, { get, set, enumerable: true, configurable: true })
  }
}

/** For a function without an event handler. */
export function removeLambdaVariables(env: Record<string, unknown>): void {
  for (let index = 0; index < VARIABLES.length; index++) {
    const { name, get } = VARIABLES[index] as Variable
    // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- only those that were added here
    if (ObjectGetOwnPropertyDescriptor(env, name)?.get === get) delete env[name]
  }
}
