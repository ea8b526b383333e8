/**
 * The microVM engine without anything around it: functions built as a region builds them, and run on this thread by the
 * executor that worker threads use. For figures about the engine itself.
 */
import { loadEngine } from '../../shared/microvm/engine.ts'
import { callNumber } from '../../shared/guest/abi.ts'
import { bundlePrelude } from '../../shared/guest/bundle.ts'
import { DEFAULT_FUNCTION_LIMITS, FUNCTION_LIMIT_MAX, MIB } from '../../shared/limits.ts'
import { ImageArena, type ResidentImage } from '../../shared/microvm/arena.ts'
import { buildImage } from '../../shared/microvm/build.ts'
import { Executor } from '../../shared/microvm/executor.ts'
import { decodeManifest } from '../../shared/microvm/manifest.ts'
import { formatMessage } from '../../shared/errors.ts'
import type { Run } from '../../shared/microvm/run.ts'
import { blockOf, createRuntime, globalValues, type RuntimeImages } from '../../shared/microvm/runtime.ts'
import type { StartKind } from '../../shared/outcome.ts'

const ARENA_BYTES = 512 * MIB
/** Far above what slots of the fixtures keep. */
const RESIDENT_MAX_BYTES = 1024 * MIB

export interface LabFunction {
  readonly name: string
  readonly source: string
  readonly image: ResidentImage
  /** Pages of the function's own layer. */
  readonly pages: number
  readonly isPrimed: boolean
  readonly primeNote: string
}

export interface LabRequest {
  readonly method: string
  readonly url: string
  /** `name\nvalue\n...`, lower case; empty for none. */
  readonly headers: string
  readonly body: Uint8Array | null
}

export interface LabAnswer {
  readonly status: number
  readonly body: string
  readonly startKind: StartKind
  /** Time inside the guest: from entering it to its last job, host calls included, reset not. */
  readonly guestUs: number
  readonly dirtyPages: number
}

export class EngineLab {
  readonly images: RuntimeImages
  readonly arena: ImageArena

  private constructor(images: RuntimeImages, arena: ImageArena) {
    this.images = images
    this.arena = arena
  }

  /** Takes about a second. */
  static async create(): Promise<EngineLab> {
    const arena = new ImageArena(ARENA_BYTES)
    return new EngineLab(createRuntime(loadEngine(), await bundlePrelude(), arena), arena)
  }

  /** `prime` null: as a region does by default. */
  build(name: string, source: string, prime: readonly string[] | null = null): LabFunction {
    const result = buildImage(this.images, this.arena, {
      source, chunks: [], ownCodeFirst: false, fileName: `${name}.js`, handlerExport: null, vars: {}, secrets: {}, prime, account: 'bench', functionName: name, version: '1', arn: `arn:bench:${name}`,
      limits: DEFAULT_FUNCTION_LIMITS,
    })
    if (result.kind === 'refused') throw new Error(`${name} was refused: ${formatMessage(result.error.code, result.error.params)}`)
    const built = result.images.at(-1)
    if (built === undefined) throw new Error(`${name} has no image`)
    const manifest = decodeManifest(built.encodedManifest, built.imageId)
    const image = this.arena.add(built.imageId, manifest, globalValues(manifest, this.images.runtime.globalNames), blockOf(built))
    return { name, source, image, pages: result.report.pages, isPrimed: result.report.primed, primeNote: result.report.primeNote }
  }

  executor(slotCount: number): LabExecutor {
    return new LabExecutor(this, slotCount)
  }
}

export class LabExecutor {
  readonly #executor: Executor
  #nextRunId = 1
  #status = 0
  #body = ''
  #ended: Run | null = null

  constructor(lab: EngineLab, slotCount: number) {
    const neverAsked = (): never => {
      throw new Error('the function under test asks for something that this lab does not have')
    }
    this.#executor = new Executor({
      runtime: lab.images.runtime,
      slotCount,
      residentMaxBytes: RESIDENT_MAX_BYTES,
      output: {
        head: (_run, status, _headers, body) => {
          this.#status = status
          this.#body = body === null ? '' : Buffer.from(body).toString()
        },
        data: (_run, chunk) => {
          this.#body += Buffer.from(chunk).toString()
          return true
        },
        bodyEnd: () => undefined,
        bodyTaken: () => undefined,
        flush: () => undefined,
        end: (run) => {
          this.#ended = run
        },
        log: neverAsked,
        fetch: neverAsked,
        fetchRead: neverAsked,
        fetchAbort: neverAsked,
        subtle: neverAsked,
        zip: neverAsked,
        zipWrite: neverAsked,
        service: neverAsked,
        serviceWrite: neverAsked,
        serviceTaken: neverAsked,
        serviceAbort: neverAsked,
      },
      isCanceled: () => false,
      nowMs: () => performance.now(),
      epochMs: () => Date.now(),
      threadCpuMs: () => {
        const { user, system } = process.cpuUsage()
        return (user + system) / 1000
      },
      incident: (what) => {
        throw new Error(`a slot was not clean: ${what}`)
      },
    })
  }

  /** One whole request of a function that answers without waiting: restore or re-image, call, reset. */
  call(target: LabFunction, request: LabRequest): LabAnswer {
    this.#ended = null
    const head = Buffer.from(`00000000-0000-4000-8000-000000000000\n127.0.0.1\n${request.method}\n${request.url}${request.headers === '' ? '' : `\n${request.headers}`}`)
    this.#executor.start({
      id: this.#nextRunId++, image: target.image, call: callNumber(0, request.method, request.body === null ? 0 : 1), limits: FUNCTION_LIMIT_MAX, secrets: {}, account: 'bench', body: request.body, bodyStreamed: false,
      deadlineAtMs: performance.now() + FUNCTION_LIMIT_MAX.wallMs, wantLogs: false, keepMaxBytes: 0, state: null,
    }, head)
    const run = this.#endedRun(target.name)
    return { status: this.#status, body: this.#body, startKind: run.startKind, guestUs: run.cpuUs, dirtyPages: run.dirtyPages }
  }

  /** Every slot by the oracle: memory, flags and globals equal the image. Throws otherwise. */
  verify(rounds: number): void {
    for (let round = 0; round < rounds; round++) this.#executor.idle(true)
  }

  #endedRun(name: string): Run {
    const run = this.#ended
    if (run === null) throw new Error(`${name} did not end at once`)
    const { outcome, error, exception } = run.result(performance.now())
    if (outcome !== 'ok') throw new Error(`${name} ended with ${outcome}: ${exception?.message ?? (error === null ? '' : formatMessage(error.code, error.params))}`)
    return run
  }
}

/** The request of the canonical JSON workload, and the answer that is right for it. */
export function jsonRequest(id: number): { readonly request: LabRequest; readonly answer: string } {
  const body = `{"id":${id},"name":"order-${id}","values":[${id % 9973},${(id * 7) % 1009},1,2,3,4,5,6,7,8],"customer":{"country":"SE","tags":["new","edge"]}}`
  return {
    request: { method: 'POST', url: 'http://localhost/', headers: `content-type\napplication/json\ncontent-length\n${body.length}`, body: Buffer.from(body) },
    answer: `{"id":${id},"sum":${(id % 9973) + ((id * 7) % 1009) + 36},"name":"ORDER-${id}","n":1}`,
  }
}

export const TEXT_REQUEST: LabRequest = { method: 'GET', url: 'http://localhost/hello', headers: 'accept\n*/*', body: null }

export function expectAnswer(got: LabAnswer, status: number, body: string): void {
  if (got.status !== status || got.body !== body) throw new Error(`wrong answer ${got.status} ${got.body.slice(0, 300)}, wanted ${status} ${body}`)
}
