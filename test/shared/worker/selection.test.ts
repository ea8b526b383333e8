import t from 'tap'
import { selectionLine, type Selection } from '../../../shared/guest/selection.ts'
import { startSandbox } from '../../support/sandbox.ts'

t.test('a host runs the entrypoint that an invocation selects, and the default one when it selects none', async (t) => {
  const sandbox = await startSandbox(t)
  const build = await sandbox.publish(`
    export class Api extends __OUTPOST_WORKERS__.WorkerEntrypoint { fetch() { return Response.json(this.ctx.props) } }
    export default { fetch: (request, env, ctx) => Response.json(['default', ctx.props]) }`)
  const select = (more: Partial<Selection>): string | null => selectionLine({ entrypoint: null, handler: 'fetch', props: null, ...more })
  t.equal((await sandbox.call(build, { selection: select({ entrypoint: 'Api', props: { a: 1 } }) })).text, '{"a":1}')
  t.equal((await sandbox.call(build)).text, '["default",{}]')
  t.match((await sandbox.call(build, { selection: select({ entrypoint: 'None' }) })).result, { outcome: 'exception', exception: { message: 'The function has no entrypoint "None"' } })
})
