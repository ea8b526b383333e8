/**
 * The thread that makes outbound requests for the guests of all workers, and does their cryptography with keys: undici agents,
 * sockets, decompression and libuv's threads are neither on the front door's thread nor in a thread that runs guests. A worker asks over its own port, and is woken
 * by its shared memory when an answer lies there.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { systemClock } from '../clock.ts'
import { Egress, type EgressRequest } from '../egress/egress.ts'
import { silentLog } from '../log.ts'
import { CryptoQueue } from '../web-crypto/crypto-queue.ts'
import { postedToWorker } from './channel.ts'
import type { FromEgress, ToEgress } from './messages.ts'

export interface EgressThreadData {
  readonly allowed: readonly string[]
  readonly ownPorts: readonly number[]
}

export interface ToEgressThread {
  readonly port: MessagePort
  readonly control: Int32Array
}

const { allowed, ownPorts } = workerData as EgressThreadData
const cryptoQueue = new CryptoQueue()
const egress = new Egress({ allowPrivate: false, allowedHosts: allowed, ownListeners: () => ownPorts.map((port) => ({ port })), clock: systemClock, log: silentLog })

parentPort?.on('message', ({ port, control }: ToEgressThread) => serveWorker(port, control))

function serveWorker(port: MessagePort, control: Int32Array): void {
  const open = new Map<string, EgressRequest>()
  const send = (message: FromEgress): void => {
    port.postMessage(message)
    postedToWorker(control)
  }
  port.on('message', (message: ToEgress) => {
    if (message.kind === 'subtle') {
      const { runId, id, account, request, data } = message
      // A run that has ended meanwhile has no such operation any more: its answer is dropped there.
      cryptoQueue.start(account, request, data, (answer) => send({ kind: 'subtle', runId, id, answer }))
      return
    }
    const key = `${message.runId} ${message.kind === 'fetch' ? message.id : message.fetchId}`
    switch (message.kind) {
      case 'fetch':
        start(open, key, message, send)
        break
      case 'read':
        open.get(key)?.read()
        break
      case 'abort':
        open.get(key)?.abort()
        open.delete(key)
        break
    }
  })
}

function start(open: Map<string, EgressRequest>, key: string, { runId, id, account, head, body }: Extract<ToEgress, { kind: 'fetch' }>, send: (message: FromEgress) => void): void {
  const [method = 'GET', url = '', redirect = 'follow', ...headers] = head.split('\n')
  const request = egress.start({ account, method, url, redirect: redirect === 'manual' || redirect === 'error' ? redirect : 'follow', headers: headers.join('\n'), body }, {
    head: (status, statusText, finalUrl, redirected, responseHeaders) => {
      send({ kind: 'head', runId, id, head: `${status}\n${statusText}\n${finalUrl}\n${redirected ? 1 : 0}${responseHeaders === '' ? '' : `\n${responseHeaders}`}` })
    },
    data: (chunk) => send({ kind: 'data', runId, fetchId: id, chunk }),
    end: () => {
      open.delete(key)
      send({ kind: 'data', runId, fetchId: id, chunk: null })
    },
    fail: (name, message, code) => {
      open.delete(key)
      send({ kind: 'failed', runId, fetchId: id, name, message, code })
    },
  })
  open.set(key, request)
}
