/**
 * The only way to uWebSockets.js. It reads its bound for request headers from the environment once, while the native
 * library loads, and falls back to 4 KiB, which one cookie or one AWS session token exceeds: hence the setting here,
 * before the import, and hence nobody else may import the package by its name.
 *
 * Main thread only: in a worker thread the library aborts the process when it exits.
 */
import { env } from 'node:process'
import type { TemplatedApp } from 'uWebSockets.js'
import { REQUEST_HEADERS_MAX_BYTES } from '../limits.ts'

env['UWS_HTTP_MAX_HEADERS_SIZE'] = String(REQUEST_HEADERS_MAX_BYTES)

const uws = await import('uWebSockets.js')

export const App = uws.App
export const SSLApp = uws.SSLApp
export const closeListenSocket = uws.us_listen_socket_close
export const localPort = uws.us_socket_local_port
/** Without it two processes share a port silently and each gets half of the connections. */
export const LISTEN_EXCLUSIVE = 1

/** One app's accepted sockets can be those of another of the same kind: what its types leave out. With several to feed they take turns. */
interface Feeding {
  getDescriptor(): unknown
  addChildAppDescriptor(descriptor: unknown): void
  removeChildAppDescriptor(descriptor: unknown): void
}

/** Names an app for the two below. */
export function appDescriptor(app: TemplatedApp): unknown {
  return (app as unknown as Feeding).getDescriptor()
}

export function feedApp(acceptor: TemplatedApp, descriptor: unknown): void {
  (acceptor as unknown as Feeding).addChildAppDescriptor(descriptor)
}

export function starveApp(acceptor: TemplatedApp, descriptor: unknown): void {
  (acceptor as unknown as Feeding).removeChildAppDescriptor(descriptor)
}

export type { HttpRequest, HttpResponse, TemplatedApp, WebSocket, WebSocketBehavior, us_listen_socket, us_socket } from 'uWebSockets.js'
