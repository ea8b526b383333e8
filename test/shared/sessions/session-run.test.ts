/** A body that is held until its session's turn comes reaches the function in its order. */
import t from 'tap'
import { REQUEST_WINDOW_BYTES } from '../../../shared/limits.ts'
import { SessionRun, type SessionHost } from '../../../shared/sessions/session-run.ts'
import type { InvocationInput, InvocationSink } from '../../../shared/worker/types.ts'
import { LateSender } from '../../support/late-sender.ts'

function setUp(onWrite: (sink: InvocationSink) => void): { readonly sender: LateSender; readonly written: string[]; readonly begin: () => void } {
  const written: string[] = []
  const host: SessionHost = {
    hasImage: () => true,
    invoke: (_input, sink) => ({
      write(chunk) {
        written.push(`${String.fromCharCode(chunk[0] ?? 0)} ${chunk.length}`)
        onWrite(sink)
      },
      writeEnd: () => void written.push('end'), resume: () => undefined, cancel: () => undefined, withdraw: () => false,
    }),
  }
  const sender = new LateSender(['later'])
  const sink: InvocationSink = {
    head: () => undefined, data: () => true, bodyEnd: () => undefined, end: () => undefined, pauseBody: () => sender.pauseBody(), resumeBody: () => sender.resumeBody(),
  }
  const input = { body: null, bodyMore: true } as unknown as InvocationInput
  // Neither table nor ticket is asked for anything before the run ends.
  const run = new SessionRun({} as never, {} as never, host, input, sink)
  sender.to = run
  run.write(Buffer.alloc(REQUEST_WINDOW_BYTES + 1, 'A'))
  return { sender, written, begin: () => run.begin(input) }
}

t.test('what the sender had at hand comes behind what was held', (t) => {
  const { sender, written, begin } = setUp(() => undefined)
  t.ok(sender.paused, 'more than a window is held')
  begin()
  t.strictSame(written, [`A ${REQUEST_WINDOW_BYTES + 1}`, 'l 5', 'end'])
  t.end()
})

t.test('a pause that the host asked for stands', (t) => {
  const { sender, written, begin } = setUp((sink) => sink.pauseBody?.())
  begin()
  t.ok(sender.paused)
  t.strictSame(written, [`A ${REQUEST_WINDOW_BYTES + 1}`])
  t.end()
})
