/**
 * Streamed answers to clients whose line takes less at once than loopback does: sockets fill up in the middle of a write,
 * and whatever the HTTP server below makes of that, every byte has to arrive in its place.
 */
import { createHash } from 'node:crypto'
import { get } from 'node:http'
import t from 'tap'
import { deploy, startNet } from '../support/net-site.ts'

/** Long enough for the socket to fill, short enough for it to be full in the middle of a chunk again and again: a chunk that is written in one piece breaks one download in ten. */
const PAUSE_MS = 5
const PIECES = 50
const PIECE_BYTES = 60_000
/** Piece n is n, all over. Made without waiting, so that the socket is what holds it up. */
const SOURCE = `export default { fetch: () => { let piece = 0; return new Response(new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(${PIECE_BYTES}).fill(++piece)); if (piece === ${PIECES}) c.close() } })) } }`

/** Downloads for each delay; a minute or two for the 12 that show a fault. */
const DOWNLOADS = Number(process.env['OUTPOST_DOWNLOADS'] ?? 0)

await t.test('streamed answers of 3 MB arrive whole, whatever the socket took at a time', { skip: DOWNLOADS === 0 && 'takes minutes: OUTPOST_DOWNLOADS=12' }, async (t) => {
  const net = await startNet(t, ['region'])
  if (net === null) return
  const region = await net.region('region')
  await deploy(region, 'large', SOURCE, { Timeout: 60, Outpost: { Limits: { CpuMs: 10_000 } } })
  const expected = createHash('sha256')
  for (let piece = 1; piece <= PIECES; piece += 1) expected.update(Buffer.alloc(PIECE_BYTES, piece))
  const digest = expected.digest('hex')
  const outcomes: string[] = []
  for (const delayMs of [0, 5]) {
    await net.wan.between('here', 'region', { delayMs })
    for (let times = 0; times < DOWNLOADS; times += 1) {
      outcomes.push(await slowlyRead(`${region.url}/fn/large/`).then((read) => (read === digest ? 'whole' : 'other bytes'), (error: unknown) => String(error)))
    }
  }
  t.same(outcomes, outcomes.map(() => 'whole'))
})

/** The hash of an answer's body, of which little is taken at a time, so that the server's socket is full again and again. */
function slowlyRead(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent: false }, (answer) => {
      const hash = createHash('sha256')
      answer.on('data', (chunk: Buffer) => {
        hash.update(chunk)
        answer.pause()
        setTimeout(() => answer.resume(), PAUSE_MS)
      })
      answer.on('end', () => resolve(hash.digest('hex')))
      answer.on('error', reject)
    })
    // What is wrong with an answer's framing is told here.
    request.on('error', reject)
  })
}
