/**
 * Runs tests inside microVMs: one function whose request names the scripts, on a real host of worker threads with its
 * egress. Every request starts from the function's image, so every file has a realm of its own.
 *
 * testharness.js and the tests are evaluated by the guest's own indirect `eval`. There a `const` at the top of a script
 * is not global, so helpers and test are one script; it is strict if the test is.
 */
import { availableParallelism } from 'node:os'
import type { BuildKey, ImageId, RequestId } from '../../shared/brand.ts'
import { systemClock } from '../../shared/clock.ts'
import { DEFAULT_FUNCTION_LIMITS, MIB } from '../../shared/limits.ts'
import { silentLog } from '../../shared/log.ts'
import { decodeManifest } from '../../shared/microvm/manifest.ts'
import { ProcessImageBuilder } from '../../shared/microvm/process-builder.ts'
import { blockOf } from '../../shared/microvm/runtime.ts'
import { createSandboxHost } from '../../shared/worker/create-host.ts'
import { type BuildSpec, DEFAULT_FUNCTION_TRAITS, type InvocationResult } from '../../shared/worker/types.ts'
import { buildRequest } from '../support/engine.ts'
import { GUEST_BASE, REALM_REPORT, REALM_SETUP } from './realm.ts'
import type { SuiteServer } from './suite-server.ts'
import type { FileReport, Runner } from './types.ts'

const GRACE_MS = 10_000
const LIMITS = { ...DEFAULT_FUNCTION_LIMITS, cpuMs: 120_000, wallMs: 180_000, memoryMib: 512, responseMaxBytes: 64 * MIB, subrequestMax: 10_000 }

const SOURCE = `
const evaluate = eval
const setup = ${REALM_SETUP}
const report = ${REALM_REPORT}
const base = ${GUEST_BASE}
export default {
  async fetch(request) {
    const { origin, id, scripts, timeoutMs } = await request.json()
    const load = async (path) => {
      const response = await fetch(origin + '/' + path)
      if (!response.ok) throw new Error('the suite has no ' + path)
      return response.text()
    }
    const { stringify } = JSON
    const answer = (value) => new Response(stringify(value))
    try {
      const harness = await load('resources/testharness.js')
      const texts = []
      for (const path of scripts) texts.push(await load(path))
      const here = setup(origin + '/' + id)
      base(here)
      evaluate(harness)
      const { promise, resolve } = Promise.withResolvers()
      report(timeoutMs, resolve)
      const isStrict = /^\\s*(\\/\\/.*\\n|\\s|\\/\\*[^]*?\\*\\/)*['"]use strict['"]/.test(texts.at(-1))
      evaluate((isStrict ? '"use strict";' : ';') + texts.join('\\n;'))
      return answer(await promise)
    } catch (error) {
      return answer({ status: 1, message: String(error) + ' ' + String(error?.stack), subtests: [] })
    }
  },
}`

export async function createGuestRunner(server: SuiteServer): Promise<Runner> {
  const builder = new ProcessImageBuilder({ clock: systemClock, log: silentLog })
  const workers = availableParallelism()
  const host = await createSandboxHost({ workers, slots: workers * 2, memoryMib: 2_000, queueMax: 1_000, clock: systemClock, log: silentLog, egressAllowed: [`127.0.0.1:${server.port}`], ownPorts: [], onLogLine: () => undefined, onException: () => undefined })
  const close = async (): Promise<void> => {
    await Promise.all([builder.close(), host.close()])
  }
  await host.start()
  const built = await builder.build(buildRequest(SOURCE, { prime: [], limits: LIMITS }))
  if (built.kind === 'refused') {
    await close()
    throw new Error(`${built.error.code} ${built.error.params.join(' ')}`)
  }
  for (const image of built.images) if (!host.hasImage(image.imageId)) host.addImage(image.imageId, decodeManifest(image.encodedManifest, image.imageId), blockOf(image))
  const imageId = built.images.at(-1)?.imageId as ImageId
  const build: BuildSpec = { key: `wpt/f@${imageId}` as BuildKey, imageId, handlerKind: built.handlerKind, account: 'wpt', functionName: 'f', version: '$LATEST', limits: LIMITS, traits: DEFAULT_FUNCTION_TRAITS, secrets: {} }
  return {
    async run(file) {
      const { promise, resolve } = Promise.withResolvers<{ text: string; result: InvocationResult }>()
      const chunks: Buffer[] = []
      const body = Buffer.from(JSON.stringify({ origin: server.origin, id: file.id, scripts: file.scripts, timeoutMs: file.timeoutMs }))
      host.invoke({ requestId: 'r' as RequestId, build, kind: 'http', method: 'POST', url: `${server.origin}/`, headers: 'content-type\napplication/json', body, bodyMore: false, clientIp: '127.0.0.1', deadlineAtMs: Date.now() + file.timeoutMs + GRACE_MS, wantLogs: false }, {
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
      const { text, result } = await promise
      try {
        return JSON.parse(text) as FileReport
      } catch {
        // Whatever kept the guest from answering in full is told by its outcome.
        return { status: 1, message: `${result.outcome} ${result.error?.code ?? ''} ${result.exception?.message ?? text.slice(0, 200)}`, subtests: [] }
      }
    },
    close,
  }
}
