/** A body that is held while a function's image comes reaches the function in its order, whenever its sender goes on. */
import t from 'tap'
import { Run, type RunDeps, type RunSink } from '../../region/run.ts'
import type { ImageLease } from '../../region/image-residency.ts'
import { REQUEST_WINDOW_BYTES } from '../../shared/limits.ts'
import type { BuildSpec, InvocationSink } from '../../shared/worker/types.ts'
import { LateSender } from '../support/late-sender.ts'

const BUILD = { account: 'a', functionName: 'f', imageId: 'i' } as unknown as BuildSpec

function setUp(onWrite: (sink: InvocationSink) => void): { readonly sender: LateSender; readonly written: string[]; readonly begin: () => Promise<void> } {
  const written: string[] = []
  const image = Promise.withResolvers<ImageLease>()
  const deps: RunDeps = {
    admission: null,
    host: {
      invoke: (_input, sink) => ({
        write(chunk) {
          written.push(`${String.fromCharCode(chunk[0] ?? 0)} ${chunk.length}`)
          onWrite(sink)
        },
        writeEnd: () => void written.push('end'), resume: () => undefined, cancel: () => undefined, withdraw: () => false,
      }),
    },
    residency: { tryAcquire: () => null, acquire: () => image.promise } as unknown as RunDeps['residency'],
    repair: () => Promise.resolve(null),
  }
  const sender = new LateSender(['later'])
  const sink: RunSink = {
    started: () => undefined, head: () => undefined, data: () => true, bodyEnd: () => undefined, end: () => undefined, fail: (error) => t.fail(error.message),
    pauseBody: () => sender.pauseBody(), resumeBody: () => sender.resumeBody(),
  }
  const run = Run.start(deps, BUILD, { requestId: 'r', kind: 'http', method: 'POST', url: 'http://x/', headers: '', body: null, bodyMore: true, clientIp: '', deadlineAtMs: Infinity, wantLogs: false }, sink)
  sender.to = run
  run.write(Buffer.alloc(REQUEST_WINDOW_BYTES + 1, 'A'))
  return {
    sender, written,
    async begin() {
      image.resolve({ loaded: true, release: () => undefined })
      await new Promise(setImmediate)
    },
  }
}

t.test('what the sender had at hand comes behind what was held', async (t) => {
  const { sender, written, begin } = setUp(() => undefined)
  t.ok(sender.paused, 'more than a window is held')
  await begin()
  t.strictSame(written, [`A ${REQUEST_WINDOW_BYTES + 1}`, 'l 5', 'end'])
})

t.test('a pause that the host asked for stands', async (t) => {
  const { sender, written, begin } = setUp((sink) => sink.pauseBody?.())
  await begin()
  t.ok(sender.paused)
  t.strictSame(written, [`A ${REQUEST_WINDOW_BYTES + 1}`])
})
