/** Two regions with the same functions: what one finds damaged it asks the other for. */
import t, { type Test } from 'tap'
import { systemClock } from '../../shared/clock.ts'
import { App, closeListenSocket, localPort } from '../../shared/http/uws.ts'
import { TokenIdentity } from '../../shared/link/identity.ts'
import { LinkClient } from '../../shared/link/link-client.ts'
import { LinkServer } from '../../shared/link/link-server.ts'
import { silentLog } from '../../shared/log.ts'
import { systemRandom } from '../../shared/random.ts'
import { sealedBlockId } from '../../shared/store/block-seal.ts'
import { makePopKeys } from '../../shared/store/pop-keys.ts'
import { Repairer } from '../../shared/store/repair.ts'
import type { SealedBlockId } from '../../shared/store/types.ts'
import { until } from '../shared/link/harness.ts'
import { blockIds, damageBlock } from '../shared/store/store-fixtures.ts'
import { handlerZip, startRegion, type TestRegion } from './fakes.ts'

interface Pair {
  readonly here: TestRegion
  readonly there: TestRegion
  /** A link from here to there that shows this token. */
  readonly link: (token: string) => Promise<LinkClient>
}

async function startPair(t: Test): Promise<Pair> {
  const [here, there] = [await startRegion(), await startRegion()]
  const server = new LinkServer({ regionId: 'there', identity: new TokenIdentity('of POPs', 'of regions'), handler: there.region.links, clock: systemClock, log: silentLog })
  const app = App()
  server.attach(app)
  const [port, closeListener] = await new Promise<[number, () => void]>((resolve, reject) => {
    app.listen('127.0.0.1', 0, (socket) => (socket === false ? reject(new Error('cannot listen')) : resolve([localPort(socket), () => closeListenSocket(socket)])))
  })
  t.teardown(async () => {
    server.close()
    closeListener()
    await here.close()
    await there.close()
  })
  for (const { region } of [here, there]) {
    const body = Buffer.from(JSON.stringify({ FunctionName: 'f', Code: { ZipFile: Buffer.from(handlerZip()).toString('base64') } }))
    await region.control({ requestId: 'r', method: 'POST', rawPath: '/2015-03-31/functions', headers: 'authorization\nAWS4-HMAC-SHA256 any', body, clientIp: '' })
  }
  return {
    here, there,
    async link(token) {
      const client = new LinkClient({ url: `ws://127.0.0.1:${port}/link`, token, popId: 'here', publicKey: makePopKeys().publicKey, role: token === 'of regions' ? 'region' : 'pop', clock: systemClock, random: systemRandom, log: silentLog })
      t.teardown(() => client.close())
      client.start()
      await until(() => client.state.kind === 'open')
      return client
    },
  }
}

t.test('a POP is given no block by its id', async (t) => {
  const { there, link } = await startPair(t)
  const pop = await link('of POPs')
  for (const id of blockIds(there.store)) await t.rejects(pop.fetchBlock(id), { code: 'ERR_LINK_IDENTITY' })
  const peer = await link('of regions')
  for (const id of blockIds(there.store)) t.equal(sealedBlockId((await peer.fetchBlock(id)) ?? new Uint8Array(0)), id)
})

t.test('every block of images and bundles that is damaged here is mended from there; what is damaged there too is not', async (t) => {
  const { here, there, link } = await startPair(t)
  const repairer = new Repairer({ store: here.store, log: silentLog, peer: await link('of regions') })
  const ids = blockIds(here.store)
  t.ok(ids.length > 3)
  t.same(ids, blockIds(there.store), 'convergent: equal content is an equal block under another keyring')
  for (const id of ids) {
    await damageBlock(here, id)
    t.throws(() => here.store.sealedBlock(id), { code: 'ERR_STORE_BLOCK' })
    t.ok(await repairer.repair(id))
    t.ok(here.store.sealedBlock(id))
  }
  t.same(here.audit(), [])
  const [lost] = ids
  if (lost === undefined) return
  await damageBlock(here, lost)
  await damageBlock(there, lost)
  t.notOk(await repairer.repair(lost))
})

t.test('a peer that is away, or asked for what it has not, mends nothing and breaks nothing', async (t) => {
  const { here, link } = await startPair(t)
  const peer = await link('of regions')
  t.equal(await peer.fetchBlock('0'.repeat(64) as SealedBlockId), null)
  await t.rejects(peer.fetchBlock('x' as SealedBlockId), { code: 'ERR_LINK_PROTOCOL' })
  peer.close()
  const [id] = blockIds(here.store)
  if (id === undefined) return
  await damageBlock(here, id)
  t.notOk(await new Repairer({ store: here.store, log: silentLog, peer }).repair(id))
})
