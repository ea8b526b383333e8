/** Functions on a real host that call one another by bindings: a dispatcher that does nothing but look names up stands behind it. */
import { MessageChannel } from 'node:worker_threads'
import type { Test } from 'tap'
import type { BuildKey, ImageId, RequestId } from '../../shared/brand.ts'
import { systemClock } from '../../shared/clock.ts'
import { CodedError } from '../../shared/errors.ts'
import { bundlePrelude } from '../../shared/guest/bundle.ts'
import type { Answer, AnswerSink, InvokeCall, Placement } from '../../shared/http/types.ts'
import { DEFAULT_FUNCTION_LIMITS, type FunctionLimits, MIB } from '../../shared/limits.ts'
import { silentLog } from '../../shared/log.ts'
import { decodeManifest } from '../../shared/microvm/manifest.ts'
import { ProcessImageBuilder } from '../../shared/microvm/process-builder.ts'
import { blockOf } from '../../shared/microvm/runtime.ts'
import type { SandboxHostOptions } from '../../shared/worker/host-options.ts'
import { WorkerThreadHost } from '../../shared/worker/host.ts'
import { DEFAULT_FUNCTION_TRAITS, type BuildSpec, type Invocation, type InvocationInput, type InvocationResult, type ServiceBinding } from '../../shared/worker/types.ts'
import { buildRequest } from './engine.ts'

export interface LinkedFunction {
  readonly source: string
  /** Function by name of its binding. */
  readonly services?: Readonly<Record<string, string>>
  readonly limits?: Partial<FunctionLimits>
  /** For what a build may not do by itself, as priming is off. */
  readonly vars?: Readonly<Record<string, unknown>>
}

export interface LinkedAnswer {
  readonly status: number | null
  readonly headers: string
  readonly body: string
  readonly result: InvocationResult
}

export interface LinkedFunctions {
  readonly host: WorkerThreadHost
  /** Calls that came by bindings, in order. */
  readonly calls: readonly InvokeCall[]
  /** Outcomes of these calls, as they end. */
  readonly outcomes: readonly string[]
  call(name: string, input?: Partial<InvocationInput>, onData?: (chunk: Uint8Array) => boolean): Promise<LinkedAnswer>
  start(name: string, input: Partial<InvocationInput>): { readonly invocation: Invocation; readonly answer: Promise<LinkedAnswer> }
}

const PLACEMENT: Placement = { place: 'pop', reason: null, version: '$LATEST', startKind: null, stale: false }

export async function linkedFunctions(t: Test, functions: Readonly<Record<string, LinkedFunction>>, options: Partial<SandboxHostOptions> = {}): Promise<LinkedFunctions> {
  const builder = new ProcessImageBuilder({ clock: systemClock, log: silentLog })
  const host = new WorkerThreadHost({
    workers: 1, slotsPerWorker: 4, memoryBudgetBytes: 256 * MIB, queueMax: 10_000, preludeSource: await bundlePrelude(), clock: systemClock, log: silentLog,
    egressPort: () => new MessageChannel().port1, ...options,
  })
  t.teardown(() => Promise.all([builder.close(), host.close()]))
  await host.start()
  const builds = new Map<string, BuildSpec>()
  for (const [name, { source, services = {}, limits = {}, vars = {} }] of Object.entries(functions)) {
    const built = await builder.build(buildRequest(source, { prime: [], vars, services: Object.keys(services), functionName: name }))
    if (built.kind === 'refused') throw new Error(`${name}: ${built.error.code} ${built.error.params.join(' ')}`)
    for (const image of built.images) if (!host.hasImage(image.imageId)) host.addImage(image.imageId, decodeManifest(image.encodedManifest, image.imageId), blockOf(image))
    const imageId = built.images.at(-1)?.imageId as ImageId
    builds.set(name, {
      key: `a/${name}@${imageId}` as BuildKey, imageId, handlerKind: built.handlerKind, account: 'a', functionName: name, version: '$LATEST',
      limits: { ...DEFAULT_FUNCTION_LIMITS, ...limits }, traits: DEFAULT_FUNCTION_TRAITS, secrets: {},
      services: Object.entries(services).map(([binding, service]): ServiceBinding => ({ binding, service, qualifier: null, entrypoint: null, props: null })),
    })
  }
  const calls: InvokeCall[] = []
  const outcomes: string[] = []
  host.services.attach({
    invoke(call: InvokeCall, sink: AnswerSink): Answer {
      calls.push(call)
      const build = builds.get(call.functionName)
      if (build === undefined) {
        sink.fail(new CodedError('ERR_FUNCTION_NOT_FOUND', [call.functionName]), null)
        return { write() {}, writeEnd() {}, resume() {}, cancel() {} }
      }
      const { requestId, invocationKind: kind, method, url, headers, body, bodyMore, clientIp, deadlineAtMs, wantLogs, selection = null, chain = null } = call
      return host.invoke({ requestId: requestId as RequestId, build, kind, method, url, headers, body, bodyMore, clientIp, deadlineAtMs, wantLogs, selection, chain }, {
        head: (status, lines, startKind, content, last) => sink.head(status, lines, { ...PLACEMENT, startKind }, content, last),
        data: (chunk) => sink.data(chunk),
        bodyEnd: () => sink.bodyEnd(),
        end: (result) => {
          outcomes.push(`${call.functionName} ${result.outcome}`)
          sink.end(result, PLACEMENT)
        },
      })
    },
  })
  const start: LinkedFunctions['start'] = (name, input) => startOn(host, builds.get(name), input, () => true)
  return { host, calls, outcomes, start, call: (name, input = {}, onData = () => true) => startOn(host, builds.get(name), input, onData).answer }
}

function startOn(host: WorkerThreadHost, build: BuildSpec | undefined, input: Partial<InvocationInput>, onData: (chunk: Uint8Array) => boolean): { readonly invocation: Invocation; readonly answer: Promise<LinkedAnswer> } {
  if (build === undefined) throw new Error('there is no such function')
  const { promise, resolve } = Promise.withResolvers<LinkedAnswer>()
  let status: number | null = null
  let headers = ''
  const chunks: Buffer[] = []
  const invocation = host.invoke({
    requestId: 'request' as RequestId, build, kind: 'http', method: 'POST', url: 'http://localhost/', headers: '', body: null, bodyMore: false,
    clientIp: '127.0.0.1', deadlineAtMs: Date.now() + 60_000, wantLogs: false, ...input,
  }, {
    head(code, lines, _startKind, body) {
      status = code
      headers = lines
      if (body !== null) chunks.push(Buffer.from(body))
    },
    data(chunk) {
      chunks.push(Buffer.from(chunk))
      return onData(chunk)
    },
    bodyEnd: () => undefined,
    end: (result) => resolve({ status, headers, body: Buffer.concat(chunks).toString('latin1'), result }),
  })
  return { invocation, answer: promise }
}
