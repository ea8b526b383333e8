/** Runs the load generator (open-loop.ts) and refuses results that rest on failures. */
import { fileURLToPath } from 'node:url'
import { Child } from '../harness/child.ts'
import type { Scope } from '../harness/scope.ts'
import type { LoadResult, LoadSpec, StreamResult } from './load-spec.ts'

const MAIN = fileURLToPath(new URL('open-loop.ts', import.meta.url))

/** Rejects if a single request of any stream failed or a single answer was wrong. */
export async function runLoad(scope: Scope, spec: LoadSpec): Promise<LoadResult & { readonly stream: (label: string) => StreamResult }> {
  const result = await runLoadUnjudged(scope, spec)
  for (const stream of result.streams) {
    if (stream.failed > 0) throw new Error(`${stream.label}: ${stream.failed} of ${stream.sent} requests failed; first: ${stream.firstFailure}`)
    if (stream.answered === 0) throw new Error(`${stream.label}: no request was sent`)
  }
  return {
    ...result,
    stream(label) {
      const found = result.streams.find((stream) => stream.label === label)
      if (found === undefined) throw new Error(`no stream ${label}`)
      return found
    },
  }
}

/** For figures that are counts of failures. */
export async function runLoadUnjudged(scope: Scope, spec: LoadSpec): Promise<LoadResult> {
  const child = await Child.start(scope, { command: process.execPath, args: ['--disable-warning=ExperimentalWarning', MAIN, JSON.stringify(spec)] })
  return JSON.parse(await child.result(spec.durationMs + spec.drainMs + 30_000)) as LoadResult
}
