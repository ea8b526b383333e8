/** Functions on a real host of one worker, with its egress thread: built, given to the host, called, without a front door. */
import type { Test } from 'tap'
import type { BuildKey, ImageId, RequestId } from '../../shared/brand.ts'
import { systemClock } from '../../shared/clock.ts'
import { DEFAULT_FUNCTION_LIMITS, type FunctionLimits } from '../../shared/limits.ts'
import { silentLog } from '../../shared/log.ts'
import { decodeManifest } from '../../shared/microvm/manifest.ts'
import { ProcessImageBuilder } from '../../shared/microvm/process-builder.ts'
import { blockOf } from '../../shared/microvm/runtime.ts'
import { createSandboxHost } from '../../shared/worker/create-host.ts'
import { DEFAULT_FUNCTION_TRAITS, type BuildSpec, type InvocationInput, type InvocationResult } from '../../shared/worker/types.ts'
import { buildRequest } from './engine.ts'

export interface Sandbox {
  publish(source: string, options?: { readonly account?: string; readonly limits?: Partial<FunctionLimits> }): Promise<BuildSpec>
  call(build: BuildSpec, more?: Partial<Pick<InvocationInput, 'selection' | 'kind' | 'body' | 'wantLogs'>>): Promise<{ readonly text: string; readonly result: InvocationResult }>
}

export async function startSandbox(t: Test, memoryMib = 256): Promise<Sandbox> {
  const builder = new ProcessImageBuilder({ clock: systemClock, log: silentLog })
  const host = await createSandboxHost({ workers: 1, slots: 4, memoryMib, queueMax: 1_000, clock: systemClock, log: silentLog, egressAllowed: [], ownPorts: [], onLogLine: () => undefined, onException: () => undefined })
  t.teardown(() => Promise.all([builder.close(), host.close()]))
  await host.start()
  return {
    async publish(source, { account = 'a', limits = {} } = {}) {
      const built = await builder.build(buildRequest(source, { prime: [] }))
      if (built.kind === 'refused') throw new Error(`${built.error.code} ${built.error.params.join(' ')}`)
      for (const image of built.images) if (!host.hasImage(image.imageId)) host.addImage(image.imageId, decodeManifest(image.encodedManifest, image.imageId), blockOf(image))
      const imageId = built.images.at(-1)?.imageId as ImageId
      return { key: `${account}/f@${imageId}` as BuildKey, imageId, handlerKind: built.handlerKind, account, functionName: 'f', version: '$LATEST', limits: { ...DEFAULT_FUNCTION_LIMITS, ...limits }, traits: DEFAULT_FUNCTION_TRAITS, secrets: {} }
    },
    call(build, more = {}) {
      const { promise, resolve } = Promise.withResolvers<{ text: string; result: InvocationResult }>()
      const chunks: Buffer[] = []
      host.invoke({ requestId: 'r' as RequestId, build, kind: 'http', method: 'GET', url: 'http://localhost/', headers: '', body: null, bodyMore: false, clientIp: '127.0.0.1', deadlineAtMs: Date.now() + 20_000, wantLogs: false, ...more }, {
        head(_status, _headers, _startKind, body) {
          if (body !== null) chunks.push(Buffer.from(body))
        },
        data(chunk) {
          chunks.push(Buffer.from(chunk))
          return true
        },
        bodyEnd: () => undefined,
        end: (result) => resolve({ text: Buffer.concat(chunks).toString(), result }),
      })
      return promise
    },
  }
}
