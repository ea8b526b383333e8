/** CompressionStream and DecompressionStream through a real host: the host's zlib, in both directions, a chunk at a time. */
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import t from 'tap'
import { startSandbox } from '../../support/sandbox.ts'

const sandbox = await startSandbox(t)

const HELP = `
const text = (stream) => new Response(stream).text()
const bytes = async (stream) => new Uint8Array(await new Response(stream).arrayBuffer())
const streamOf = (...chunks) => new ReadableStream({ start(c) { for (const chunk of chunks) c.enqueue(chunk); c.close() } })
const packed = (base64) => Uint8Array.fromBase64(base64)
const failure = async (work) => { try { await work(); return 'went through' } catch (error) { return error.name } }
`
const TEXT = 'the quick brown fox jumps over the lazy dog. '.repeat(5_000)

/** What the body of an async function gives. */
async function inGuest(code: string): Promise<unknown> {
  const { text, result } = await sandbox.call(await sandbox.publish(`${HELP} export default { async fetch() { const run = async () => { ${code} }; return Response.json((await run()) ?? null) } }`, { limits: { cpuMs: 5_000 } }))
  t.equal(result.outcome, 'ok', result.exception?.message ?? 'it ran')
  return JSON.parse(text)
}

const PACK = { gzip: gzipSync, deflate: deflateSync, 'deflate-raw': deflateRawSync }

for (const [format, pack] of Object.entries(PACK)) {
  await t.test(`${format}: what Node packed is unpacked, what is packed unpacks to the same`, async (t) => {
    const [unpacked, length, again] = (await inGuest(`
      const unpacked = await text(streamOf(packed('${pack(TEXT).toString('base64')}')).pipeThrough(new DecompressionStream('${format}')))
      const small = await bytes(streamOf(new TextEncoder().encode(unpacked)).pipeThrough(new CompressionStream('${format}')))
      const again = await text(streamOf(small.subarray(0, 10), small.subarray(10)).pipeThrough(new DecompressionStream('${format}')))
      return [unpacked.length, small.length, again === unpacked]`)) as [number, number, boolean]
    t.equal(unpacked, TEXT.length)
    t.ok(length < 2_000, String(length))
    t.ok(again)
  })

  await t.test(`${format}: data that is altered, cut off or too long is a TypeError at both ends`, async (t) => {
    const good = pack('some text that is packed here')
    const altered = Buffer.from(good.map((byte, index) => (index === 0 ? 0x07 : byte)))
    for (const bad of [altered, good.subarray(0, good.length - 5), Buffer.concat([good, Buffer.from('more')])]) {
      t.same(await inGuest(`
        const one = new DecompressionStream('${format}')
        const writer = one.writable.getWriter()
        const writing = failure(async () => { await writer.write(packed('${bad.toString('base64')}')); await writer.close() })
        return [await failure(() => text(one.readable)), await writing]`), ['TypeError', 'TypeError'])
    }
  })
}

await t.test('formats and chunks that are none', async (t) => {
  t.same(await inGuest(`
    const c = new CompressionStream('gzip')
    const writer = c.writable.getWriter()
    return [await failure(() => new CompressionStream('br')), await failure(() => new DecompressionStream()), await failure(() => writer.write('text')), await failure(() => text(c.readable))]`), ['TypeError', 'TypeError', 'TypeError', 'TypeError'])
  t.ok(brotliCompressSync('x').length > 0, 'brotli is known to Node and not to the standard')
})

await t.test('a bomb is unpacked only as far as it is read', async (t) => {
  const bomb = gzipSync(Buffer.alloc(200 * 1024 * 1024))
  t.same(await inGuest(`
    const reader = streamOf(packed('${bomb.toString('base64')}')).pipeThrough(new DecompressionStream('gzip')).getReader()
    const first = await reader.read()
    await reader.cancel()
    return [first.done, first.value.length <= 65536]`), [false, true])
})

await t.test('output comes before the input has ended', async (t) => {
  t.same(await inGuest(`
    const noise = crypto.getRandomValues(new Uint8Array(65536))
    const c = new CompressionStream('gzip')
    const writer = c.writable.getWriter()
    const reader = c.readable.getReader()
    let sent = 0
    const sending = (async () => { for (let i = 0; i < 8; i++) { await writer.write(noise); sent++ } await writer.close() })()
    await reader.read(); await reader.read()
    const early = sent < 8
    for (;;) if ((await reader.read()).done) break
    await sending
    return [early, sent]`), [true, 8])
})

await t.test('streams of an invocation are bounded, and are gone with it', async (t) => {
  const build = await sandbox.publish(`export default { async fetch() { const made = []; try { for (let i = 0; i < 100; i++) made.push(new CompressionStream('gzip')) } catch (error) { return new Response(made.length + error.name) } return new Response('no bound') } }`)
  // More of them in all than may be open at once.
  for (let times = 0; times < 20; times++) t.equal((await sandbox.call(build)).text, '64Error')
})
