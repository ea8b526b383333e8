/**
 * All nodes of a region replaced one after the other under load that comes through a POP: no request fails, and requests
 * find their image in memory, sessions go on with their state or are told that they begin anew.
 */
import t from 'tap'
import { eventually } from '../support/dev-server.ts'
import { startRegionNodes, untilRing } from '../support/region-nodes.ts'
import { call, freePort, tier, type Called } from '../support/site.ts'

const NAMES = Array.from({ length: 20 }, (_, index) => `f${index}`)
const CLIENTS = 4
const SESSIONS = 60
const SESSION_CLIENTS = 3

t.setTimeout(240_000)
const region = await startRegionNodes(t, 3)
if (region === null) process.exit(0)
const { nodes } = region
for (const name of NAMES) await region.deploy(name, `let n = 0; export default { fetch: () => new Response(${JSON.stringify(name)} + ++n) }`)
await region.deploy('counted', 'let n = 0; export default { fetch: () => new Response(String(++n)) }', { Outpost: { Sessions: { Header: 'x-session' } } })
const pop = await tier(t, 'pop', await freePort(), [...nodes.flatMap(({ url }) => ['--region', url]), '--token', 'site', '--hot-min-requests', '1000000', '--workers', '1'])

await t.test('all nodes are replaced under load', async (t) => {
  const answers: (Called & { readonly name: string; readonly phase: string })[] = []
  let going = true
  let phase = 'before'
  const client = async (seed: number): Promise<void> => {
    for (let index = seed; going; index += CLIENTS) {
      const name = NAMES[index % NAMES.length] ?? ''
      const during = phase
      answers.push({ ...(await call(pop, name)), name, phase: during })
    }
  }
  const first = []
  for (const name of NAMES) first.push((await call(pop, name)).headers.get('x-outpost-start'))
  t.ok(first.every((start) => start === 'cold'), 'an image that has to be loaded is seen')
  const sessions = Array.from({ length: SESSIONS }, (_, index) => ({ id: `session-${index}`, uses: 0, told: 0, silent: 0 }))
  const sessionFailures: string[] = []
  const sessionClient = async (seed: number): Promise<void> => {
    for (let index = seed; going; index += SESSION_CLIENTS) {
      const session = sessions[index % SESSIONS]
      if (session === undefined) return
      const during = phase
      const { status, body, headers } = await call(pop, 'counted', { headers: { 'x-session': session.id } })
      if (status !== 200) sessionFailures.push(`${during}: ${status} ${body}`)
      else if (Number(body) === session.uses + 1) session.uses += 1
      else {
        if (headers.get('x-outpost-session-state')?.startsWith('new') === true) session.told += 1
        else session.silent += 1
        session.uses = Number(body)
      }
    }
  }
  // Each session is one client's: SESSIONS is a multiple of SESSION_CLIENTS.
  const clients = [...Array.from({ length: CLIENTS }, (_, seed) => client(seed)), ...Array.from({ length: SESSION_CLIENTS }, (_, seed) => sessionClient(seed))]
  await eventually(() => Promise.resolve(sessions), (all) => all.every(({ uses }) => uses > 0), 60_000)
  for (const [index, node] of nodes.entries()) {
    phase = `leaving ${index}`
    await node.kill('SIGTERM')
    t.equal((await node.process().ended).code, 0)
    phase = `joining ${index}`
    await node.start()
    await untilRing(nodes)
  }
  going = false
  await Promise.all(clients)
  const failed = answers.filter(({ status, body, name }) => status !== 200 || body !== `${name}1`)
  t.equal(failed.length, 0, failed.map(({ phase: at, status, body }) => `${at}: ${status} ${body}`).slice(0, 5).join('\n'))
  t.same(sessionFailures, [], 'no request of a session fails')
  const began = sessions.reduce((sum, { told }) => sum + told, 0)
  t.equal(sessions.reduce((sum, { silent }) => sum + silent, 0), 0, 'none loses its state without being told')
  t.ok(sessions.filter(({ told }) => told === 0).length >= 0.95 * SESSIONS, `${began} of ${SESSIONS} sessions began anew`)
  t.comment(`${sessions.reduce((sum, { uses }) => sum + uses, 0)} requests of ${SESSIONS} sessions, each moved ${nodes.length} times or less; ${began} began anew and were told`)
  const cold = answers.filter(({ headers }) => headers.get('x-outpost-start') === 'cold')
  const share = 1 - cold.length / answers.length
  t.ok(share >= 0.95, `${(100 * share).toFixed(2)} % of ${answers.length} requests found their image in memory`)
  t.comment(`${answers.length} requests, ${failed.length} failed, ${cold.length} had to have their image loaded: ${cold.map(({ phase: at }) => at).join(', ')}`)
})

await t.test('sessions of a node that is killed begin anew and say so, the others go on', async (t) => {
  const ids = Array.from({ length: 30 }, (_, index) => `later-${index}`)
  const ask = async (id: string): Promise<{ readonly n: number; readonly state: string | null; readonly code: string }> => {
    const { status, body, headers } = await call(pop, 'counted', { headers: { 'x-session': id } })
    return { n: Number(body), state: headers.get('x-outpost-session-state')?.split(';')[0] ?? null, code: status === 200 ? 'ok' : body }
  }
  for (let use = 1; use <= 3; use += 1) for (const answer of await Promise.all(ids.map(ask))) t.match(answer, { n: use, code: 'ok' })
  await nodes[1]?.kill('SIGKILL')
  const startedAtMs = performance.now()
  const after = await Promise.all(ids.map(ask))
  const tookMs = performance.now() - startedAtMs
  t.same(after.filter(({ code }) => code !== 'ok'), [], 'each waits for the lease of the one that is gone')
  t.ok(after.every(({ n, state }) => (state === 'resumed' && n === 4) || (state === 'new' && n === 1)), JSON.stringify(after.filter(({ n, state }) => !(state === 'resumed' && n === 4) && !(state === 'new' && n === 1))))
  const anew = after.filter(({ state }) => state === 'new').length
  t.ok(anew > 0 && anew < ids.length, `${anew} of ${ids.length} were at the node that was killed`)
  for (const answer of await Promise.all(ids.map(ask))) t.match(answer, { state: 'resumed', code: 'ok' })
  t.comment(`${anew} of ${ids.length} sessions began anew; the longest answer took ${(tookMs / 1000).toFixed(1)} s`)
})
