/** The two servers that bench/front-door.ts compares, one per process: `node servers.ts front-door|bare|bare-minimal`. Prints its port. */
import { randomUUID } from 'node:crypto'
import { argv, cpuUsage, stdout } from 'node:process'
import { systemClock } from '../../shared/clock.ts'
import { FrontDoor } from '../../shared/http/front-door.ts'
import type { Answer, AnswerSink, Dispatcher, InvokeCall, Placement } from '../../shared/http/types.ts'
import { App, localPort } from '../../shared/http/uws.ts'
import { silentLog } from '../../shared/log.ts'
import type { InvocationResult } from '../../shared/worker/types.ts'

const REPLY = Buffer.from('{"hello":"world","sum":42}')
const placement: Placement = { place: 'pop', reason: null, version: '1', startKind: 'warm', stale: false }
const result: InvocationResult = {
  outcome: 'ok', error: null, exception: null, startKind: 'warm', cpuUs: 5, wallUs: 7, dirtyPages: 30, memoryBytes: 2_000_000, logs: [],
}
const answer: Answer = { write() {}, writeEnd() {}, resume() {}, cancel() {} }

/** Answers at once, as a function would that takes no time. */
const dispatcher: Dispatcher = {
  invoke(_call: InvokeCall, sink: AnswerSink) {
    sink.head(200, 'content-type\napplication/json', placement, REPLY, true)
    sink.bodyEnd()
    sink.end(result, placement)
    return answer
  },
  control: () => Promise.resolve({ status: 404, headers: '', body: new Uint8Array(0) }),
  readiness: () => ({ ready: true, checks: {} }),
}

let served = 0

/** What anybody would write by hand to give a function the same input and a client the same answer, without checks. */
function bare(work: 'same' | 'minimal'): Promise<number> {
  return new Promise((resolve) => {
    App().any('/*', (response, request) => {
      response.onAborted(() => {})
      let headers = ''
      if (work === 'same') {
        request.forEach((name, value) => {
          headers += name + '\n' + value + '\n'
        })
        headers = request.getMethod() + request.getUrl() + headers
      }
      response.onData((chunk, last) => {
        if (!last) return
        served += headers.length + chunk.byteLength > 0 ? 1 : 0
        if (work === 'same') {
          const body = Buffer.from(new Uint8Array(chunk))
          served += body.byteLength < 0 ? 1 : 0
          response.writeHeader('content-type', 'application/json')
            .writeHeader('x-outpost-place', 'pop').writeHeader('x-outpost-start', 'warm').writeHeader('x-outpost-version', '1')
            .writeHeader('x-outpost-request-id', randomUUID())
        }
        response.end(REPLY)
      })
    }).listen('127.0.0.1', 0, (socket) => resolve(socket === false ? 0 : localPort(socket)))
  })
}

const [, , variant] = argv
let port = 0
if (variant === 'front-door') {
  const door = new FrontDoor({ tier: 'pop', mode: 'production', dispatcher, clock: systemClock, log: silentLog, port: 0 })
  port = (await door.listen()).port
} else {
  port = await bare(variant === 'bare' ? 'same' : 'minimal')
}
stdout.write(`${port}\n`)
/** CPU time so far, when asked: a steadier figure than throughput on a machine with other work. */
process.on('message', () => process.send?.({ cpuUs: cpuUsage().user + cpuUsage().system, served }))
