/**
 * The thread that makes outbound requests for the guests of all workers, and does their cryptography with keys: undici agents,
 * sockets, decompression and libuv's threads are neither on the front door's thread nor in a thread that runs guests. A worker asks over its own port, and is woken
 * by its shared memory when an answer lies there.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { systemClock } from '../clock.ts'
import { Egress, type EgressRequest } from '../egress/egress.ts'
import { ZipStream } from '../egress/zip-stream.ts'
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

const { allowed, ownPorts } = workerData as EgressThreadData
const cryptoQueue = new CryptoQueue()
/** Open ones of all workers. */
const zips = new Set<ZipStream>()
const egress = new Egress({ allowPrivate: false, allowedHosts: allowed, ownListeners: () => ownPorts.map((port) => ({ port })), clock: systemClock, log: silentLog })

parentPort?.on('message', ({ port, control }: ToEgressThread) => serveWorker(port, control))

function serveWorker(port: MessagePort, control: Int32Array): void {
  const open = new Map<string, EgressRequest | ZipStream>()
  const send = (message: FromEgress): void => {
    port.postMessage(message)
    postedToWorker(control)
  }
  // The worker was replaced: nobody waits for what it had begun.
  port.on('close', () => {
    for (const request of open.values()) end(request)
    open.clear()
  })
  port.on('message', (message: ToEgress) => {
    if (message.kind === 'subtle') {
      const { runId, id, account, request, data } = message
      // A run that has ended meanwhile has no such operation any more: its answer is dropped there.
      cryptoQueue.start(account, request, data, (answer) => send({ kind: 'subtle', runId, id, answer }))
      return
    }
    const key = `${message.runId} ${message.kind === 'fetch' || message.kind === 'zip' ? message.id : message.fetchId}`
    switch (message.kind) {
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
      case 'read':
        open.get(key)?.read()
        break
      case 'abort':
        end(open.get(key))
        open.delete(key)
        break
    }
  })
}

function end(request: EgressRequest | ZipStream | undefined): void {
  request?.abort()
  if (request instanceof ZipStream) zips.delete(request)
}

function startZip(open: Map<string, EgressRequest | ZipStream>, key: string, { runId, id, format }: Extract<ToEgress, { kind: 'zip' }>, send: (message: FromEgress) => void): void {
  const fail = (message: string): void => send({ kind: 'failed', runId, fetchId: id, name: 'TypeError', message, code: '' })
  if (zips.size >= ZIPS_MAX) return fail(`${ZIPS_MAX} compression streams are open already`)
  const zip: ZipStream = new ZipStream(format, {
    data: (chunk) => {
      if (chunk === null) forget()
      send({ kind: 'data', runId, fetchId: id, chunk })
    },
    fail: (reason) => {
      forget()
      fail(reason)
    },
  })
  const forget = (): void => {
    open.delete(key)
    zips.delete(zip)
  }
  open.set(key, zip)
  zips.add(zip)
  send({ kind: 'taken', runId, id })
}

function start(open: Map<string, EgressRequest | ZipStream>, key: string, { runId, id, account, head, body }: Extract<ToEgress, { kind: 'fetch' }>, send: (message: FromEgress) => void): void {
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
