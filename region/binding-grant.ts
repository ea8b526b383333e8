/** What a grant of one function brings along: calls of others by its service bindings. Pure. */
import { selectionLine } from '../shared/guest/selection.ts'
import type { OpenInvocation } from '../shared/link/types.ts'
import type { BuildSpec } from '../shared/worker/types.ts'

/** Whether `caller` has a binding that makes just this call: function, version, entrypoint and props are what its owner wrote, not what a POP says. */
export function isBoundTo(caller: BuildSpec, { functionName, qualifier, invocationKind, selection = null }: OpenInvocation): boolean {
  if (invocationKind !== 'http') return false
  return caller.services?.some((bound) => bound.service === functionName && bound.qualifier === qualifier && selectionLine({ entrypoint: bound.entrypoint, handler: 'fetch', props: bound.props }) === selection) ?? false
}
