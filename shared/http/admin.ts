/** What operators ask: alive, ready, and how much. */
import type { Registry } from 'prom-client'
import { encodeHeaders } from '../api/header-list.ts'
import type { Door } from './exchange.ts'
import type { ControlReply } from './types.ts'

/** `path`: one of `/healthz`, `/readyz`, `/metrics`. */
export async function adminReply(path: string, door: Door, registry: Registry): Promise<ControlReply> {
  if (path === '/metrics') {
    return { status: 200, headers: encodeHeaders({ 'content-type': registry.contentType }), body: Buffer.from(await registry.metrics()) }
  }
  if (path === '/healthz') return json(200, { status: 'alive' })
  const { ready, checks } = door.dispatcher.readiness()
  const accepting = ready && !door.draining
  return json(accepting ? 200 : 503, { status: accepting ? 'ready' : 'not ready', checks: { ...checks, draining: door.draining } })
}

function json(status: number, value: unknown): ControlReply {
  return {
    status,
    headers: encodeHeaders({ 'content-type': 'application/json', 'cache-control': 'no-store', ...(status === 503 ? { 'retry-after': '1' } : {}) }),
    body: Buffer.from(JSON.stringify(value)),
  }
}
