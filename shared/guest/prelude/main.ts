/**
 * What runs inside every microVM before a function's code does. The builder evaluates the bundle of this file once,
 * calls `install` with the host's functions, and keeps the result in the engine's base image.
 *
 * `host` and everything made from it stay in this bundle's variables (host.ts). Built-ins are taken before a function
 * can patch them (primordials.ts); CallSite objects give no functions (repairs.ts).
 */
import { AbortController, AbortSignal } from './abort.ts'
import { Blob, File } from './blob.ts'
import { installCompression } from './compression.ts'
import { configure, env, ENV_GLOBAL } from './configuration.ts'
import { installConsole } from './console.ts'
import { installCrypto } from './crypto.ts'
import { dispatch, load } from './dispatch.ts'
import { installEncoding } from './encoding.ts'
import { installWorkers } from './entrypoints.ts'
import { installErrorEvents, tellRejection } from './error-events.ts'
import { CustomEvent, Event, EventTarget } from './events.ts'
import { installFetch } from './fetch.ts'
import { FormData } from './form-data.ts'
import { Headers } from './headers.ts'
import { bindHost, type Host } from './host.ts'
import { installIntl } from './intl.ts'
import { abortBody, follow, renew, settled } from './invocation.ts'
import { installMessages } from './messages.ts'
import { installNode } from './node.ts'
import { idle, settle } from './operations.ts'
import { installRepairs } from './repairs.ts'
import { logUncaught, reportUncaught } from './report.ts'
import { abortIncoming, Request } from './request.ts'
import { Response } from './response.ts'
import { installResponseStream } from './response-stream.ts'
import { installShow } from './show.ts'
import { installStreams } from './streams.ts'
import { installTimers } from './timers.ts'
import { installUrl } from './url.ts'
import { installUrlPattern } from './url-pattern.ts'
import { expose, nameAs, publish, tag } from './webidl.ts'

class Navigator {
  get userAgent(): string {
    return 'Outpost'
  }
}

function installGlobals(): void {
  const classes = { AbortController, AbortSignal, Blob, EventTarget, FormData, Headers, Response }
  for (const [name, constructor] of Object.entries(classes)) expose(name, constructor, 0)
  expose('CustomEvent', CustomEvent, 1)
  expose('Event', Event, 1)
  expose('File', File, 2)
  expose('Request', Request, 1)
  publish('self', globalThis)
  publish(ENV_GLOBAL, env)
  tag(Navigator.prototype, 'Navigator')
  nameAs(Navigator, 'Navigator')
  publish('navigator', new Navigator())
  publish('reportError', function reportError(error: unknown): void {
    if (arguments.length === 0) throw new TypeError('reportError needs an error')
    reportUncaught(error)
  })
}

function unhandled(reason: unknown): void {
  if (!tellRejection(reason)) logUncaught(reason, 'Uncaught (in promise)')
}

function abort(): void {
  abortIncoming()
  abortBody()
}

/** Each entry is a function of GUEST_ENTRIES. */
export function install(host: Host): object {
  bindHost(host)
  installRepairs()
  installUrl()
  installStreams()
  installEncoding()
  installCompression()
  installConsole()
  installShow()
  installCrypto()
  installTimers()
  installFetch()
  installUrlPattern()
  installErrorEvents()
  installMessages()
  installWorkers()
  installIntl()
  installResponseStream()
  installNode()
  installGlobals()
  return { configure, load, dispatch, settled, follow, settle, abort, renew, unhandled, idle }
}
