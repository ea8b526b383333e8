/** How the log shows web objects, whose state is private. */
import { isAbortSignal } from './abort.ts'
import { isBlob } from './blob.ts'
import { isFormData } from './form-data.ts'
import { isHeaders } from './headers.ts'
import { setShower } from './inspect.ts'
import { ArrayPush, NativeURL } from './primordials.ts'
import { isRequest } from './request.ts'
import { isResponse } from './response.ts'
import { isSearchParams } from './search-params.ts'

type Shown = readonly (readonly [string, unknown])[]

function attributes(value: object, names: readonly string[]): Shown {
  const shown: (readonly [string, unknown])[] = []
  for (let i = 0; i < names.length; i++) ArrayPush(shown, [names[i] ?? '', (value as Record<string, unknown>)[names[i] ?? '']] as const)
  return shown
}

export function installShow(): void {
  setShower((value): Shown | null => {
    if (isResponse(value)) return attributes(value, ['status', 'statusText', 'ok', 'redirected', 'type', 'url', 'bodyUsed', 'headers'])
    if (isRequest(value)) return attributes(value, ['method', 'url', 'redirect', 'bodyUsed', 'headers'])
    if (isHeaders(value) || isSearchParams(value) || isFormData(value)) return [...(value as Iterable<readonly [string, unknown]>)]
    if (isBlob(value)) return attributes(value, ['size', 'type'])
    if (isAbortSignal(value)) return attributes(value, ['aborted'])
    if (value instanceof NativeURL && value !== NativeURL.prototype) return attributes(value, ['href', 'origin', 'protocol', 'username', 'password', 'host', 'hostname', 'port', 'pathname', 'search', 'searchParams', 'hash'])
    return null
  })
}
