/** A region in a process of its own, so that a test can kill or stop it. Says its port, then every run it begins. */
import { systemClock } from '../../../shared/clock.ts'
import { startRegion, TestHandler } from './harness.ts'
import type { LinkAnswer, LinkInvocation, LinkPeer, OpenInvocation } from '../../../shared/link/types.ts'

class TellingHandler extends TestHandler {
  override invoke(peer: LinkPeer, open: OpenInvocation, deadlineAtMs: number, answer: LinkAnswer): LinkInvocation {
    process.send?.({ run: open.requestId })
    const run = super.invoke(peer, open, deadlineAtMs, answer)
    if (open.functionName === 'held') answer.started()
    return run
  }
}

const region = await startRegion({ handler: new TellingHandler(), clock: systemClock })
process.send?.({ port: region.port })
process.once('disconnect', () => process.exit(0))
