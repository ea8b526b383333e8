/** A call of a session that looks for the node that may serve it; the nodes are a list of answers. */
import t from 'tap'
import { SessionCall } from '../../region/session-call.ts'
import type { RegionRun, RunRequest, RunSink } from '../../region/run.ts'
import { ManualClock } from '../../shared/clock.ts'
import { CodedError, type ErrorCode } from '../../shared/errors.ts'
import { MIB, REQUEST_BODY_MAX_BYTES } from '../../shared/limits.ts'
import type { BuildSpec } from '../../shared/worker/types.ts'
import { okResult } from './fakes.ts'

class Heard implements RunSink {
  readonly events: string[] = []
  started(_build: BuildSpec, node?: string): void {
    this.events.push(`started ${node ?? ''}`)
  }

  head(): void {
    this.events.push('head')
  }

  data(): boolean {
    return true
  }

  bodyEnd(): void {
    this.events.push('bodyEnd')
  }

  end(result: { readonly error: { readonly code: string } | null }): void {
    this.events.push(`end ${result.error?.code ?? 'ok'}`)
  }

  fail(error: CodedError): void {
    this.events.push(`fail ${error.code}`)
  }
}

interface Attempt {
  readonly sink: RunSink
  readonly request: RunRequest
  readonly code: ErrorCode | null
  readonly written: string[]
  ended: boolean
  canceled: boolean
}

function setUp(deadlineMs = 60_000): { readonly clock: ManualClock; readonly heard: Heard; readonly attempts: Attempt[]; readonly call: SessionCall; reachable: boolean; fault: Error | null } {
  const clock = new ManualClock()
  const heard = new Heard()
  const attempts: Attempt[] = []
  const state: { reachable: boolean; fault: Error | null } = { reachable: true, fault: null }
  const request: RunRequest = { requestId: 'r', kind: 'http', method: 'POST', url: 'http://x/', headers: '', body: Buffer.from('first'), bodyMore: true, clientIp: '', deadlineAtMs: clock.nowMs() + deadlineMs, wantLogs: false }
  const call = new SessionCall(request, heard, {
    clock,
    attempt(given, sink, code): RegionRun | null {
      if (state.fault !== null) throw state.fault
      if (!state.reachable) return null
      const attempt: Attempt = { sink, request: given, code, written: [], ended: false, canceled: false }
      attempts.push(attempt)
      return {
        write: (chunk) => void attempt.written.push(Buffer.from(chunk).toString()),
        writeEnd: () => {
          attempt.ended = true
        },
        resume: () => undefined,
        cancel: () => {
          attempt.canceled = true
        },
      }
    },
  })
  return Object.assign(state, { clock, heard, attempts, call })
}

const BUILD = {} as BuildSpec
const refused = (code: ErrorCode) => ({ ...okResult, outcome: 'loadShed', error: { code, params: [] } }) as const

t.test('refused by one that does not own it, it goes on to the next with all of its body, and is answered once', (t) => {
  const { clock, heard, attempts, call } = setUp()
  call.write(Buffer.from('second'))
  attempts[0]?.sink.started(BUILD, 'a')
  attempts[0]?.sink.end(refused('ERR_RING_MOVED'))
  t.equal(attempts.length, 1, 'not at once')
  call.write(Buffer.from('third'))
  clock.advance(300)
  t.equal(attempts.length, 2)
  t.match(attempts[1], { code: 'ERR_RING_MOVED', written: ['second', 'third'] })
  t.equal(Buffer.from(attempts[1]?.request.body ?? []).toString(), 'first')
  call.writeEnd()
  t.equal(attempts[1]?.ended, true)
  attempts[1]?.sink.fail(new CodedError('ERR_PEER_UNREACHABLE', ['b', 'gone']))
  clock.advance(300)
  attempts[2]?.sink.started(BUILD, 'c')
  t.same(heard.events, [], 'nothing is told before somebody answers')
  attempts[2]?.sink.head(200, '', 'resumed', null, true)
  attempts[2]?.sink.end(okResult)
  t.same(heard.events, ['started c', 'head', 'end ok'])
  clock.advance(60_000)
  t.equal(attempts.length, 3)
  t.end()
})

t.test('what may have run, and what no other node would do better, is the answer', (t) => {
  for (const code of ['ERR_PEER_LOST', 'ERR_SESSION_BUSY', 'ERR_HAND_OFF_TIMEOUT', 'ERR_ACCOUNT_LIMIT', 'ERR_OWNERSHIP_LOST'] as const) {
    const { clock, heard, attempts } = setUp()
    attempts[0]?.sink.fail(new CodedError(code))
    clock.advance(60_000)
    t.same(heard.events, [`fail ${code}`])
    t.equal(attempts.length, 1)
  }
  const { clock, heard, attempts } = setUp()
  attempts[0]?.sink.started(BUILD)
  attempts[0]?.sink.head(200, '', 'resumed', null, false)
  attempts[0]?.sink.fail(new CodedError('ERR_PEER_UNREACHABLE'))
  clock.advance(60_000)
  t.same(heard.events, ['started ', 'head', 'fail ERR_PEER_UNREACHABLE'], 'not after its answer has begun')
  t.end()
})

t.test('nobody in reach: it waits for one, and gives up in time', (t) => {
  const waiting = setUp()
  waiting.reachable = false
  waiting.attempts[0]?.sink.fail(new CodedError('ERR_RING_MOVED'))
  waiting.clock.advance(19_000)
  t.same(waiting.heard.events, [])
  waiting.clock.advance(2_000)
  t.same(waiting.heard.events, ['fail ERR_HAND_OFF_TIMEOUT'])
  const short = setUp(1_000)
  short.reachable = false
  short.attempts[0]?.sink.fail(new CodedError('ERR_RING_MOVED'))
  short.clock.advance(1_500)
  t.same(short.heard.events, ['fail ERR_HAND_OFF_TIMEOUT'], 'within its own time')
  t.end()
})

t.test('a client that leaves ends it, whether somebody runs it or not', (t) => {
  const running = setUp()
  running.call.cancel()
  t.equal(running.attempts[0]?.canceled, true)
  running.attempts[0]?.sink.end(refused('ERR_CANCELED'))
  t.same(running.heard.events, ['end ERR_CANCELED'])
  const seeking = setUp()
  seeking.attempts[0]?.sink.fail(new CodedError('ERR_RING_MOVED'))
  seeking.call.cancel()
  t.same(seeking.heard.events, ['fail ERR_CANCELED'])
  seeking.clock.advance(60_000)
  t.equal(seeking.attempts.length, 1)
  t.end()
})

t.test('a body that no request may have is not kept while a node is looked for', (t) => {
  const state = setUp()
  state.attempts[0]?.sink.fail(new CodedError('ERR_RING_MOVED', [1]))
  const chunk = new Uint8Array(MIB)
  for (let mib = 0; mib < REQUEST_BODY_MAX_BYTES / MIB - 1; mib++) state.call.write(chunk)
  t.throws(() => state.call.write(chunk), { code: 'ERR_BODY_TOO_LARGE' }, 'five bytes came with the request')
  t.end()
})

t.test('what throws after a pause fails the call, and nothing else', (t) => {
  const state = setUp()
  state.attempts[0]?.sink.fail(new CodedError('ERR_RING_MOVED', [1]))
  state.fault = new CodedError('ERR_BODY_TOO_LARGE', [1])
  state.clock.advance(1_000)
  t.same(state.heard.events, ['fail ERR_BODY_TOO_LARGE'])
  t.end()
})
