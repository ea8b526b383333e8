/** The real engine: what Node's modules ask of the host, in an image and in requests of it. */
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'
import t from 'tap'
import { bundlePrelude } from '../../../shared/guest/bundle.ts'
import { BuildMachine } from '../../../shared/microvm/build-machine.ts'
import { buildImage } from '../../../shared/microvm/build.ts'
import { LayerBuilder } from '../../../shared/microvm/layers.ts'
import { decodeManifest } from '../../../shared/microvm/manifest.ts'
import { blockOf, globalValues } from '../../../shared/microvm/runtime.ts'
import { DEFAULT_FUNCTION_LIMITS } from '../../../shared/limits.ts'
import { buildRequest, testEngine } from '../../support/engine.ts'
import { bundleText } from './run-both.ts'

t.test('hashes at top level and in requests, buffers, emitters and streams of an image', async (t) => {
  const { code } = await bundleText(t, `
    import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'
    import { EventEmitter } from 'events'
    import { Readable } from 'stream'
    import { AsyncLocalStorage } from 'async_hooks'
    const storage = new AsyncLocalStorage(), top = createHash('md5').update('top').digest('hex'), emitter = new EventEmitter()
    emitter.on('x', () => seen.push(storage.getStore()))
    let seen = []
    export default { fetch: (request) => storage.run(request.url, async () => {
      seen = []
      await null
      emitter.emit('x')
      const chunks = await Readable.from(['a', 'b']).toArray()
      return Response.json([top, createHmac('sha256', 'k').update('x').digest('base64'), pbkdf2Sync('p', 's', 2000, 16, 'sha1').toString('hex'), seen, chunks, Buffer.from('é').length])
    }) }`)
  const engine = testEngine({ prelude: await bundlePrelude() })
  const result = buildImage(engine.images, engine.arena, buildRequest(Buffer.from(code).toString(), { prime: null }), new LayerBuilder(engine.images, engine.arena))
  if (result.kind === 'refused') throw new Error(`${result.error.code} ${result.error.params.join(' ')}`)
  for (const built of result.images) {
    const manifest = decodeManifest(built.encodedManifest, built.imageId)
    if (manifest.layer === 'layer' || manifest.layer === 'function') engine.arena.add(built.imageId, manifest, globalValues(manifest, engine.images.runtime.globalNames), blockOf(built))
  }
  const image = engine.arena.get(result.images.at(-1)?.imageId ?? ('' as never))
  if (image === undefined) throw new Error('no image')
  const machine = new BuildMachine(engine.images.runtime, DEFAULT_FUNCTION_LIMITS, image)
  for (const path of ['/1', '/2']) {
    machine.restore(image)
    const { text, problem } = machine.request(5_000, { kind: 'http', method: 'GET', url: `http://localhost${path}`, headers: '', body: null })
    t.equal(problem, null)
    t.same(JSON.parse(text?.slice(text.indexOf('\n\n') + 2) ?? 'null'), [createHash('md5').update('top').digest('hex'), createHmac('sha256', 'k').update('x').digest('base64'), pbkdf2Sync('p', 's', 2000, 16, 'sha1').toString('hex'), [`http://localhost${path}`], ['a', 'b'], 2])
  }
})
