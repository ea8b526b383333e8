/**
 * The thread that makes outbound requests for the guests of all workers, and does their cryptography with keys: undici agents,
 * sockets, decompression and libuv's threads are neither on the front door's thread nor in a thread that runs guests. A worker asks over its own port, and is woken
 * by its shared memory when an answer lies there.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { systemClock } from '../clock.ts'
import { Egress, type EgressRequest } from '../egress/egress.ts'
import { ZipStream } from '../egress/zip-stream.ts'
import { formatMessage } from '../errors.ts'
import { FairShare } from '../fair-share.ts'
import { ZIPS_MAX } from '../limits.ts'
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

/** What is under way for a run: `read` and `abort` are meant for it by its id. */
type Open = EgressRequest | ZipStream | { abort(): void }

const { allowed, ownPorts } = workerData as EgressThreadData
const cryptoQueue = new CryptoQueue()
/** Open ones of all workers. */
const zips = new FairShare(ZIPS_MAX)
const egress = new Egress({ allowPrivate: false, allowedHosts: allowed, ownListeners: () => ownPorts.map((port) => ({ port })), clock: systemClock, log: silentLog })

parentPort?.on('message', ({ port, control }: ToEgressThread) => serveWorker(port, control))

function serveWorker(port: MessagePort, control: Int32Array): void {
  const open = new Map<string, Open>()
  const send = (message: FromEgress): void => {
    port.postMessage(message)
    postedToWorker(control)
  }
  // The worker was replaced: nobody waits for what it had begun.
  port.on('close', () => {
    for (const request of open.values()) request.abort()
    open.clear()
  })
  port.on('message', (message: ToEgress) => {
    const key = `${message.runId} ${message.kind === 'fetch' || message.kind === 'zip' || message.kind === 'subtle' ? message.id : message.fetchId}`
    switch (message.kind) {
      case 'subtle': {
        const { runId, id, account, request, data } = message
        const abort = cryptoQueue.start(account, request, data, (answer) => {
          open.delete(key)
          send({ kind: 'subtle', runId, id, answer })
        })
        open.set(key, { abort })
        break
      }
      case 'zip':
        startZip(open, key, message, send)
        break
      case 'zipWrite': {
        const { runId, id, chunk } = message
        const zip = open.get(key)
        // One that has failed or was cancelled: the guest has heard of it.
        if (zip instanceof ZipStream) zip.write(chunk, () => send({ kind: 'taken', runId, id }))
        break
      }
      case 'fetch':
        start(open, key, message, send)
        break
      case 'read': {
        const request = open.get(key)
        if (request !== undefined && 'read' in request) request.read()
        break
      }
      case 'abort':
        open.get(key)?.abort()
        open.delete(key)
        break
    }
  })
}

function startZip(open: Map<string, Open>, key: string, { runId, id, account, format }: Extract<ToEgress, { kind: 'zip' }>, send: (message: FromEgress) => void): void {
  const fail = (message: string, code: string): void => send({ kind: 'failed', runId, fetchId: id, name: 'TypeError', message, code })
  if (!zips.take(account, 1)) return fail(formatMessage('ERR_LIMIT_OPERATIONS', ['as many compression streams as this account may have are open']), 'ERR_LIMIT_OPERATIONS')
  const zip = new ZipStream(format, {
    data: (chunk) => send({ kind: 'data', runId, fetchId: id, chunk }),
    fail: (reason) => fail(reason, ''),
    over: () => {
      open.delete(key)
      zips.add(account, -1)
    },
  })
  open.set(key, zip)
  send({ kind: 'taken', runId, id })
}

function start(open: Map<string, Open>, key: string, { runId, id, account, head, body }: Extract<ToEgress, { kind: 'fetch' }>, send: (message: FromEgress) => void): void {
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
