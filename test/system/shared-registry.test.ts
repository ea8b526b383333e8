/** Nodes of two regions as real processes on one NATS server: what is published at one runs at the others. */
import { mkdirSync, copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { zipSync } from 'fflate'
import t, { type Test } from 'tap'
import type { ApiClient } from '../../shared/cli/api-client.ts'
import { deployFunction } from '../../shared/cli/deployment.ts'
import { toCodedError } from '../../shared/errors.ts'
import { Keyring } from '../../shared/store/keyring.ts'
import { eventually } from '../support/dev-server.ts'
import { startNats, type NatsServer } from '../support/nats.ts'
import { call, freePort, tier, writeKeys, type AdminTier } from '../support/site.ts'

const EVENT = { version: '2.0', rawPath: '/', rawQueryString: '', headers: {}, requestContext: { http: { method: 'GET', path: '/' } }, isBase64Encoded: false }

interface Node extends AdminTier {
  readonly api: ApiClient
}

async function startNodes(t: Test, server: NatsServer, regions: readonly string[]): Promise<readonly Node[]> {
  const directory = t.testdir({})
  const client = writeKeys(join(directory, 'keys.json'))
  Keyring.load(join(directory, 'keyring.json'))
  return await Promise.all(regions.map(async (region, index) => {
    const data = join(directory, `node${index}`)
    mkdirSync(data)
    copyFileSync(join(directory, 'keyring.json'), join(data, 'keyring.json'))
    const node = await tier(t, 'region', await freePort(), ['--data', data, '--keys', join(directory, 'keys.json'), '--token', 'pops', '--peer-token', 'nodes', '--nats', server.url, '--region-name', region, '--workers', '1'])
    return { ...node, api: client(node.url) }
  }))
}

/** As the command line does. A client that is overtaken tries again. Resolves with how long the one took that was acknowledged. */
async function deploy(api: ApiClient, name: string, text: string): Promise<number> {
  const zip = zipSync({ 'index.mjs': Buffer.from(`export default { fetch: () => new Response(${JSON.stringify(text)}) }`) })
  for (;;) {
    const startedAtMs = performance.now()
    try {
      await deployFunction(api, { name, zip, members: {}, publish: true, alias: null })
      return performance.now() - startedAtMs
    } catch (error) {
      if (!/in progress|409/.test(toCodedError(error).message)) throw error
    }
  }
}

/** Answer of one version to an event; `none` if it is not there. */
async function answerOf(api: ApiClient, version: string): Promise<string> {
  try {
    const { payload } = await api.invoke('raced', Buffer.from(JSON.stringify(EVENT)), version, false)
    return Buffer.from(payload).toString()
  } catch {
    return 'none'
  }
}

t.setTimeout(200_000)

await t.test('nodes of two regions share one registry', { timeout: 180_000 }, async (t) => {
  const server = await startNats(t)
  if (server === null) return
  const nodes = await startNodes(t, server, ['eu-1', 'eu-1', 'us-1'])
  const [a, b, c] = nodes
  if (a === undefined || b === undefined || c === undefined) return

  await t.test('what is published at one answers at the others within 2 s', async (t) => {
    // The first function of all also brings the engine's own images to each node's store, once.
    await deploy(a.api, 'hello', 'first')
    for (const node of [b, c]) await eventually(() => call(node, 'hello'), ({ body }) => body === 'first')
    const lags: number[] = []
    for (let round = 0; round < 5; round += 1) {
      await deploy(a.api, 'hello', `version ${round}`)
      const publishedAtMs = performance.now()
      await Promise.all([b, c].map(async (node) => {
        await eventually(() => call(node, 'hello'), ({ body }) => body === `version ${round}`)
        lags.push(performance.now() - publishedAtMs)
      }))
    }
    t.comment(`acknowledged to answered elsewhere: ${lags.map((lag) => lag.toFixed(0)).join(', ')} ms`)
    t.ok(Math.max(...lags) < 2_000, `acknowledged to answered elsewhere: ${lags.map((lag) => lag.toFixed(0)).join(', ')} ms`)
  })

  await t.test('publishes of one function at all nodes at once: each version that is acknowledged is everywhere', async (t) => {
    const texts = nodes.flatMap((_node, writer) => [0, 1].map((round) => `${writer} ${round}`))
    await deploy(a.api, 'raced', 'made')
    for (const node of nodes) await eventually(() => call(node, 'raced'), ({ status }) => status === 200)
    await Promise.all(nodes.map(async (node, writer) => {
      for (const round of [0, 1]) await deploy(node.api, 'raced', `${writer} ${round}`)
    }))
    const answersOf = async ({ api }: Node): Promise<string[]> => {
      const answers: string[] = []
      for (let version = 1; version <= texts.length + 1; version += 1) answers.push(await answerOf(api, String(version)))
      return answers
    }
    const [first, ...others] = await Promise.all(nodes.map((node) => eventually(() => answersOf(node), (answers) => !answers.includes('none'), 5_000)))
    for (const other of others) t.same(other, first, 'each version answers the same at every node')
    for (const text of texts) t.ok(first?.some((answer) => answer.includes(`"${text}"`)), `${text} has a version`)
  })

  await t.test('a node that is killed and started again has what was published meanwhile', async (t) => {
    await c.kill('SIGKILL')
    await deploy(a.api, 'hello', 'while it was away')
    await deploy(b.api, 'other', 'other')
    await c.start()
    t.equal((await call(c, 'hello')).body, 'while it was away')
    t.equal((await call(c, 'other')).body, 'other')
  })

  await t.test('what is deleted at one is gone at the others', async (t) => {
    await b.api.deleteFunction('other')
    for (const node of [a, c]) await eventually(() => call(node, 'other'), ({ status }) => status === 404, 2_000)
    t.equal((await call(b, 'other')).status, 404)
  })

  await t.test('without NATS every node answers, and none publishes; with it again they do', async (t) => {
    await server.kill()
    for (const node of nodes) {
      await eventually(async () => (await fetch(`${node.adminUrl}/readyz`)).text(), (text) => /"coordination":\s*false/.test(text))
      t.equal((await call(node, 'hello')).body, 'while it was away')
    }
    await t.rejects(deploy(a.api, 'hello', 'not now'), /coordination store/)
    await server.start()
    await eventually(async () => {
      await deploy(a.api, 'hello', 'again')
      return true
    }, Boolean)
    for (const node of nodes) await eventually(() => call(node, 'hello'), ({ body }) => body === 'again', 5_000)
  })
})
