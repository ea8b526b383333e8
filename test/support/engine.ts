/** A whole machine runtime in this process, over the mini prelude, for tests of the engine itself. */
import { readFileSync } from 'node:fs'
import { ImageArena, type ResidentImage } from '../../shared/microvm/arena.ts'
import { buildImage } from '../../shared/microvm/build.ts'
import type { BuildRequest } from '../../shared/microvm/build-types.ts'
import { type Engine, loadEngine } from '../../shared/microvm/engine.ts'
import { Executor } from '../../shared/microvm/executor.ts'
import type { ExecutorOptions } from '../../shared/microvm/executor-options.ts'
import type { Run, RunOutput, RunSpec } from '../../shared/microvm/run.ts'
import { warmUpPrelude } from '../../shared/guest/warm-up.ts'
import { blockOf, createRuntime, globalValues, type RuntimeImages } from '../../shared/microvm/runtime.ts'
import { DEFAULT_FUNCTION_LIMITS, type FunctionLimits, MIB } from '../../shared/limits.ts'
import { decodeManifest } from '../../shared/microvm/manifest.ts'

export const MINI_PRELUDE = readFileSync(new URL('../fixtures/mini-prelude.js', import.meta.url), 'utf8')

export interface TestEngine {
  readonly arena: ImageArena
  readonly images: RuntimeImages
  /** Builds `source` and makes its image resident. Throws what the builder refuses. */
  image(source: string, request?: Partial<BuildRequest>): ResidentImage
}

let cached: Engine | undefined

export function testEngine(options: { readonly prelude?: string; readonly engine?: Engine } = {}): TestEngine {
  const engine = options.engine ?? (cached ??= loadEngine())
  const arena = new ImageArena(512 * MIB)
  const images = createRuntime(engine, options.prelude ?? MINI_PRELUDE, arena, options.prelude === undefined ? null : warmUpPrelude)
  return {
    arena, images,
    image(source, request = {}) {
      const result = buildImage(images, arena, buildRequest(source, request))
      if (result.kind === 'refused') throw new Error(`${result.error.code}: ${result.error.params.join(' ')}`)
      const built = result.images.at(-1)
      if (built === undefined) throw new Error('nothing was built')
      const manifest = decodeManifest(built.encodedManifest, built.imageId)
      return arena.add(built.imageId, manifest, globalValues(manifest, images.runtime.globalNames), blockOf(built))
    },
  }
}

export function buildRequest(source: string, request: Partial<BuildRequest> = {}): BuildRequest {
  return {
    source, chunks: [], ownCodeFirst: false, fileName: 'index.mjs', handlerExport: null, vars: {}, secrets: {}, prime: [], account: '000000000000', functionName: 'test', version: '$LATEST',
    arn: 'arn:aws:lambda:local:000000000000:function:test', limits: DEFAULT_FUNCTION_LIMITS, ...request,
  }
}

export interface Ended {
  readonly status: number | null
  readonly body: string
  readonly run: Run
}

/** An executor whose clock and CPU time are real, with what its runs answered. */
export function testExecutor(engine: TestEngine, { acceptsData = () => true, ...options }: Partial<ExecutorOptions> & { readonly acceptsData?: () => boolean } = {}): {
  readonly executor: Executor
  readonly ended: Map<number, Ended>
  readonly fetches: { readonly run: Run; readonly id: number; readonly head: string }[]
  readonly logs: string[]
  readonly incidents: string[]
  readonly run: (image: ResidentImage, head?: string, spec?: Partial<Omit<RunSpec, 'limits'>> & { readonly limits?: Partial<FunctionLimits> }) => number
} {
  const answers = new Map<number, { status: number | null; body: string }>()
  const ended = new Map<number, Ended>()
  const fetches: { run: Run; id: number; head: string }[] = []
  const logs: string[] = []
  const incidents: string[] = []
  const answerOf = (run: Run): { status: number | null; body: string } => {
    const known = answers.get(run.spec.id) ?? { status: null, body: '' }
    answers.set(run.spec.id, known)
    return known
  }
  const output: RunOutput = {
    head(run, status, _headers, body) {
      const answer = answerOf(run)
      answer.status = status
      if (body !== null) answer.body += Buffer.from(body).toString()
    },
    data(run, chunk) {
      answerOf(run).body += Buffer.from(chunk).toString()
      return acceptsData()
    },
    bodyEnd: () => undefined,
    bodyTaken: () => undefined,
    flush: () => undefined,
    end: (run) => ended.set(run.spec.id, { ...answerOf(run), run }),
    log: (_run, _level, line) => logs.push(line),
    fetch: (run, id, head) => fetches.push({ run, id, head }),
    fetchRead: () => undefined,
    fetchAbort: () => undefined,
    subtle: () => undefined,
    zip: () => undefined,
    zipWrite: () => undefined,
    service: () => undefined,
    serviceWrite: () => undefined,
    serviceTaken: () => undefined,
    serviceAbort: () => undefined,
  }
  let nextId = 1
  const executor = new Executor({
    runtime: engine.images.runtime, slotCount: 2, residentMaxBytes: 256 * MIB, output,
    isCanceled: () => false, nowMs: () => performance.now(), epochMs: () => 1_750_000_000_000,
    threadCpuMs: () => process.threadCpuUsage().user / 1000, incident: (what) => incidents.push(what), ...options,
  })
  return {
    executor, ended, fetches, logs, incidents,
    run(image, head = '', spec = {}) {
      const id = nextId++
      const { limits, ...rest } = spec
      executor.start({
        id, image, call: 0, secrets: {}, account: 'a', body: null, bodyStreamed: false, wantLogs: false, keepMaxBytes: 0, state: null,
        deadlineAtMs: performance.now() + 30_000, ...rest, limits: { ...DEFAULT_FUNCTION_LIMITS, ...limits },
      }, Buffer.from(head))
      return id
    },
  }
}
