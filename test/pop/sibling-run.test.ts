/** A call that another host of the site refused goes elsewhere with all of its body. */
import t from 'tap'
import { SiblingRun } from '../../pop/sibling-run.ts'
import type { InvokeCall } from '../../shared/http/types.ts'
import { LateSender } from '../support/late-sender.ts'

t.test('what the sender had at hand when it was refused comes behind what was kept', (t) => {
  const call: InvokeCall = { requestId: 'r', account: 'a', functionName: 'f', qualifier: null, invocationKind: 'http', method: 'POST', url: 'http://x/', headers: '', body: null, bodyMore: true, clientIp: '', deadlineAtMs: 1_000, wantLogs: false }
  const sender = new LateSender(['later'])
  const stream = { write: () => false, writeEnd: () => undefined, resume: () => undefined, cancel: () => undefined }
  const written: string[] = []
  const run = new SiblingRun(call, {
    head: () => undefined, data: () => true, bodyEnd: () => undefined, end: () => undefined, fail: (error) => t.fail(error.message),
    pauseBody: () => sender.pauseBody(), resumeBody: () => sender.resumeBody(),
  }, {
    peers: { open: () => stream } as never, memberId: 'm', reservation: 'r', reason: 'capacity', nowMs: 0, onOver: () => undefined,
    onRefused: () => ({ write: (chunk) => void written.push(Buffer.from(chunk).toString()), writeEnd: () => void written.push('end'), resume: () => undefined, cancel: () => undefined }),
  })
  sender.to = run
  run.write(Buffer.from('first'))
  t.ok(sender.paused)
  run.error({ code: 'ERR_QUEUE_FULL', params: [1] })
  t.strictSame(written, ['first', 'later', 'end'])
  t.end()
})
