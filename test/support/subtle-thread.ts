/** Does operations of `crypto.subtle` while the caller waits, as the harness of guests does not wait for real time: another thread does them. */
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads'
import type { SubtleAnswer } from '../../shared/web-crypto/perform.ts'

const CODE = `
import { workerData } from 'node:worker_threads'
import { performSubtle } from ${JSON.stringify(new URL('../../shared/web-crypto/perform.ts', import.meta.url).href)}
const { port, signal } = workerData
port.on('message', async ({ request, data }) => {
  port.postMessage(await performSubtle(request, data))
  Atomics.store(signal, 0, 1)
  Atomics.notify(signal, 0)
})`

let ask: ((request: string, data: Uint8Array) => SubtleAnswer) | null = null

export function subtleNow(request: string, data: Uint8Array): SubtleAnswer {
  ask ??= startThread()
  return ask(request, data)
}

function startThread(): (request: string, data: Uint8Array) => SubtleAnswer {
  const signal = new Int32Array(new SharedArrayBuffer(4))
  const { port1, port2 } = new MessageChannel()
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(CODE)}`), { workerData: { port: port2, signal }, transferList: [port2] })
  worker.unref()
  port1.unref()
  return (request, data) => {
    Atomics.store(signal, 0, 0)
    port1.postMessage({ request, data })
    if (Atomics.wait(signal, 0, 0, 30_000) === 'timed-out') throw new Error('the thread for crypto.subtle does not answer')
    const answer = receiveMessageOnPort(port1) as { readonly message: SubtleAnswer } | undefined
    if (answer === undefined) throw new Error('the thread for crypto.subtle gave no answer')
    return answer.message
  }
}
