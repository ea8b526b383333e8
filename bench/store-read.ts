/** What sealing adds to a read: a block of a real image read, checked by its id, opened and checked again, against reading and hashing as many bytes. */
import { createHash } from 'node:crypto'
import { DEFAULT_FUNCTION_LIMITS } from '../shared/limits.ts'
import { systemClock } from '../shared/clock.ts'
import { silentLog } from '../shared/log.ts'
import { buildImage } from '../shared/microvm/build.ts'
import { Keyring } from '../shared/store/keyring.ts'
import { LmdbEnvironment } from '../shared/store/lmdb-environment.ts'
import { ObjectStore } from '../shared/store/object-store.ts'
import { chainObjects } from '../shared/store/page-groups.ts'
import type { ObjectId } from '../shared/store/types.ts'
import { ONE_COPY, SaltPolicy } from '../shared/store/salts.ts'
import { EngineLab } from './engine/lab.ts'
import { atMost, type Benchmark } from './harness/benchmark.ts'
import { fixture } from './harness/fixtures.ts'
import { alternate, median, ratios } from './harness/stats.ts'

const ACCOUNT = '000000000000'

export const storeRead: Benchmark = {
  name: 'store-read',
  needs: [],
  figures: [{ key: 'store-read', what: 'sealed and verified read of an image\'s blocks against read and SHA-256 of the same bytes', bar: atMost(2, 'x') }],
  async run(context) {
    const environment = LmdbEnvironment.open({ path: context.scope.temporaryDirectory('outpost-bench-read-'), diskReserveBytes: 0 })
    context.scope.defer(() => environment.close())
    const store = new ObjectStore({ environment, keyring: Keyring.inMemory(), salts: new SaltPolicy(ONE_COPY), clock: systemClock, log: silentLog })
    const lab = await EngineLab.create()
    const result = buildImage(lab.images, lab.arena, {
      source: fixture('hono-app'), fileName: 'hono-app.js', handlerExport: null, chunks: [], ownCodeFirst: false, vars: {}, secrets: {}, prime: null, account: ACCOUNT, functionName: 'hono-app', version: '1', arn: 'arn:bench:hono-app',
      limits: DEFAULT_FUNCTION_LIMITS,
    })
    if (result.kind === 'refused') throw new Error(`the app was refused: ${result.error.code}`)
    const plain = environment.table<string>('plainPieces', 'ordered')
    const objects: { readonly id: ObjectId; readonly pieces: number }[] = []
    for (const { object } of chainObjects(result.images)) {
      await store.put(ACCOUNT, object)
      await environment.write({ kind: 'adds', bytes: 0 }, () => {
        for (const [at, piece] of object.pieces.entries()) void plain.put(`${object.objectId}/${at}`, piece)
      })
      objects.push({ id: object.objectId, pieces: object.pieces.length })
    }
    const opened = objects.map(({ id, pieces }) => {
      const object = store.open(ACCOUNT, id)
      if (object === null) throw new Error('an image is not stored')
      return { object, pieces, id }
    })
    const repeats = context.quick ? 2 : 60
    let bytes = 0
    const read = {
      sealed: (): void => {
        for (const { object, pieces } of opened) for (let at = 0; at < pieces; at++) bytes += object.piece(at).byteLength
      },
      plain: (): void => {
        for (const { id, pieces } of opened) {
          for (let at = 0; at < pieces; at++) {
            const piece = plain.getBinary(`${id}/${at}`)
            if (piece === undefined) throw new Error('a piece is not stored')
            createHash('sha256').update(piece).digest()
            bytes += piece.byteLength
          }
        }
      },
    }
    const results = await alternate(['sealed', 'plain'] as const, Math.max(3, context.rounds), (name) => {
      const startedAtMs = performance.now()
      for (let repeat = 0; repeat < repeats; repeat++) read[name]()
      return (performance.now() - startedAtMs) / repeats
    })
    const values = ratios(results.sealed, results.plain)
    const blocks = objects.reduce((sum, { pieces }) => sum + pieces, 0)
    return [{ key: 'store-read', value: median(values), rounds: values, detail: { blocks, meanBytes: bytes / blocks / repeats / 2 / results.sealed.length, sealedUs: (median(results.sealed) * 1000) / blocks, plainUs: (median(results.plain) * 1000) / blocks }, note: '' }]
  },
}
