/** Bodies that are larger than what anybody holds: through a guest that passes them on, at a POP, at a region, and from one to the other. */
import { createHash } from 'node:crypto'
import { request } from 'node:http'
import t from 'tap'
import { startSite, type Tier } from '../support/site.ts'

const PIECE = Buffer.from(Array.from({ length: 50_000 }, (_, at) => at % 251))
const PIECES = 500

await t.test('25 MB pass through', async (t) => {
  const site = await startSite(t, { pop: ['--hot-min-requests', '1'] })
  for (const name of ['pipe', 'near']) await site.deploy(name, 'export default { fetch: (request) => new Response(request.body ?? "ready") }', { Timeout: 60, Outpost: { Limits: { CpuMs: 1_000 } } })
  await site.deploy('event', 'export const handler = async (event) => (event.body ?? "").length', { Timeout: 60 })
  const expected = createHash('sha256')
  for (let piece = 0; piece < PIECES; piece += 1) expected.update(PIECE)
  const digest = expected.digest('hex')

  for (const [place, tier] of [['region', site.region], ['region; reason=not-hot', site.pop]] as const) {
    t.same(await upload(tier, 'pipe', PIECES), { status: 200, place, digest }, place)
  }
  await site.untilHot('near')
  t.same(await upload(site.pop, 'near', PIECES), { status: 200, place: 'pop', digest })

  // What a handler gets whole is bounded as in an Invoke.
  for (const tier of [site.region, site.pop]) t.match(await upload(tier, 'event', 140), { status: 413 })
  await site.untilHot('event')
  t.match(await upload(site.pop, 'event', 140), { status: 413 })
})

interface Uploaded {
  readonly status: number | undefined
  readonly place: string | undefined
  /** SHA-256 of the answer's body. */
  readonly digest: string
}

/** Sends the piece so many times, as fast as the socket takes them. */
function upload(tier: Tier, name: string, pieces: number): Promise<Uploaded> {
  return new Promise((resolve, reject) => {
    let answered = false
    const outgoing = request(`${tier.url}/fn/${name}/`, { method: 'POST', headers: { 'content-length': pieces * PIECE.length } }, (answer) => {
      answered = true
      const hash = createHash('sha256')
      const { 'x-outpost-place': place } = answer.headers
      answer.on('data', (chunk: Buffer) => hash.update(chunk))
      answer.on('end', () => resolve({ status: answer.statusCode, place: typeof place === 'string' ? place : undefined, digest: hash.digest('hex') }))
      answer.on('error', reject)
    })
    // A refusal may come, and the connection go, before all is sent.
    outgoing.on('error', (error) => {
      if (!answered) reject(error)
    })
    let left = pieces
    const send = (): void => {
      while (left > 0) {
        left -= 1
        if (!outgoing.write(PIECE)) {
          outgoing.once('drain', send)
          return
        }
      }
      outgoing.end()
    }
    send()
  })
}
