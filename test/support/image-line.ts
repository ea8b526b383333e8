/** A region's sealed store, what it gives POPs of it, and POPs on real links, with a slow line between them if wanted. For tests and benchmarks. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { DiskCache } from '../../pop/disk-cache.ts'
import { ImageCache } from '../../pop/image-cache.ts'
import { ImageSupply } from '../../region/image-supply.ts'
import type { ImageId } from '../../shared/brand.ts'
import { systemClock } from '../../shared/clock.ts'
import { CodedError } from '../../shared/errors.ts'
import { App, closeListenSocket, localPort } from '../../shared/http/uws.ts'
import { TokenIdentity } from '../../shared/link/identity.ts'
import { LinkClient } from '../../shared/link/link-client.ts'
import { LinkServer } from '../../shared/link/link-server.ts'
import type { ImageRef, LinkHandler } from '../../shared/link/types.ts'
import { silentLog } from '../../shared/log.ts'
import type { BuiltImage } from '../../shared/microvm/build-types.ts'
import { PAGE_BYTES, blockIdOf, encodeManifest, imageIdOf, type ImageManifest } from '../../shared/microvm/manifest.ts'
import { GROUP_PAGES } from '../../shared/microvm/page-patch.ts'
import { systemRandom } from '../../shared/random.ts'
import { Keyring } from '../../shared/store/keyring.ts'
import { LmdbEnvironment } from '../../shared/store/lmdb-environment.ts'
import { ObjectStore } from '../../shared/store/object-store.ts'
import { chainObjects, imageObjectId } from '../../shared/store/page-groups.ts'
import { loadPopKeys, type PopKeys } from '../../shared/store/pop-keys.ts'
import { ONE_COPY, SaltPolicy } from '../../shared/store/salts.ts'
import type { SealedBlockId } from '../../shared/store/types.ts'
import type { SandboxHost } from '../../shared/worker/types.ts'
import { startDelayingProxy, type DelayingProxy } from './delaying-proxy.ts'

/** Who cleans up: a test, or a benchmark's scope. */
export interface LineOwner {
  defer(undo: () => Promise<void>): void
  /** A new one each time. */
  folder(): string
}

export interface LinePop {
  readonly images: ImageCache
  readonly disk: DiskCache
  readonly keys: PopKeys
  readonly client: LinkClient
  close(): Promise<void>
}

export interface ImageLine {
  readonly store: ObjectStore
  readonly supply: ImageSupply
  readonly links: LinkServer
  readonly proxy: DelayingProxy
  /** Each page's content follows from its seed; it is sealed over pages of zeros, as FakeHost has them. `ancestors`: images that others were made from, last the parent. */
  publish(account: string, functionName: string, seeds: readonly string[], ancestors?: readonly ImageId[]): Promise<ImageRef>
  /** A build's images, ancestors first. */
  publishBuilt(account: string, functionName: string, images: readonly BuiltImage[]): Promise<ImageRef>
  /** With its data in `folder`. */
  pop(popId: string, folder: string, host: SandboxHost): Promise<LinePop>
}

export interface ImageLineOptions {
  readonly delayMs?: number
  readonly allows?: (popId: string, functionName: string) => boolean
  readonly onRead?: (id: SealedBlockId) => void
}

/** Content that a search finds again: no part of it is in another page. */
export function pageOf(seed: string): Buffer {
  const content = Buffer.alloc(PAGE_BYTES)
  for (let at = 0; at < PAGE_BYTES; at += 32) createHash('sha256').update(`${seed}/${at}`).digest().copy(content, at)
  return content
}

export async function startImageLine(owner: LineOwner, { delayMs = 0, allows = () => true, onRead = () => undefined }: ImageLineOptions = {}): Promise<ImageLine> {
  const environment = LmdbEnvironment.open({ path: owner.folder(), diskReserveBytes: 0 })
  const store = new ObjectStore({ environment, keyring: Keyring.inMemory(), salts: new SaltPolicy(ONE_COPY), clock: systemClock, log: silentLog })
  const chains = new Map<string, readonly ImageId[]>()
  const supply = new ImageSupply({
    sealedImage: (account, imageId) => store.openSealed(account, imageObjectId(imageId)),
    block: (id) => {
      onRead(id)
      return store.sealedBlock(id)
    },
    repair: () => Promise.resolve(),
    chainOf: (account, functionName, imageId) => chains.get(`${account}/${functionName}/${imageId}`) ?? null,
    requireGrant: (popId, _account, functionName) => {
      if (!allows(popId, functionName)) throw new CodedError('ERR_LINK_IDENTITY', [functionName])
    },
  })
  const unused = (): never => {
    throw new Error('only images are asked for here')
  }
  const handler: LinkHandler = {
    chain: (...question) => supply.chain(...question),
    blocks: (...question) => supply.blocks(...question),
    snapshot: (_popId, functions) => ({ seq: 0, functions: [], answered: functions.length }),
    invoke: unused, control: unused, describe: unused, report: unused, peerBlocks: unused, ask: unused,
  }
  const links = new LinkServer({ regionId: 'region-1', identity: new TokenIdentity('token'), handler, clock: systemClock, log: silentLog })
  const app = App()
  links.attach(app)
  const [port, closeListener] = await new Promise<[number, () => void]>((resolve, reject) => {
    app.listen('127.0.0.1', 0, (socket) => (socket === false ? reject(new Error('cannot listen')) : resolve([localPort(socket), () => closeListenSocket(socket)])))
  })
  const proxy = await startDelayingProxy(port, delayMs)
  owner.defer(async () => {
    links.close()
    closeListener()
    await proxy.close()
    await environment.close()
  })
  const put = async (account: string, images: readonly BuiltImage[]): Promise<void> => {
    for (const { object } of chainObjects(images)) await store.put(account, object)
  }
  return {
    store, supply, links, proxy,
    async publishBuilt(account, functionName, images) {
      await put(account, images)
      const chain = images.map(({ imageId }) => imageId)
      const imageId = chain.at(-1)
      if (imageId === undefined) throw new Error('a build without images')
      chains.set(`${account}/${functionName}/${imageId}`, chain)
      return { account, functionName, imageId }
    },
    async publish(account, functionName, seeds, ancestors = []) {
      const pages = seeds.map(pageOf)
      const parentId = ancestors.at(-1) ?? null
      const manifest: ImageManifest = {
        format: 1, engineBuild: 'engine-1', parentId, layer: 'function', virtualPages: 64, globals: { stack: '1024' }, entries: { dispatch: 7 },
        // Four pages to a window.
        pages: pages.map((page, index) => [index * (GROUP_PAGES / 4), blockIdOf(page)] as const),
      }
      const encodedManifest = encodeManifest(manifest)
      const imageId = imageIdOf(encodedManifest)
      await put(account, [{ imageId, encodedManifest, blocks: new Map(pages.map((page) => [blockIdOf(page), page])) }])
      chains.set(`${account}/${functionName}/${imageId}`, [...ancestors, imageId])
      return { account, functionName, imageId }
    },
    async pop(popId, folder, host) {
      const keys = loadPopKeys(join(folder, 'pop-key.json'))
      const disk = await DiskCache.open({ path: join(folder, 'cache'), clock: systemClock, log: silentLog, diskReserveBytes: 0 })
      const client = new LinkClient({ url: `ws://127.0.0.1:${proxy.port}/link`, token: 'token', popId, publicKey: keys.publicKey, clock: systemClock, random: systemRandom, log: silentLog })
      await new Promise<void>((resolve) => {
        client.onState(({ kind }) => {
          if (kind === 'open') resolve()
        })
        client.start()
      })
      const images = new ImageCache({ host, disk, link: client, keys, clock: systemClock, log: silentLog, diskBudgetBytes: 1e9, rates: () => new Map() })
      const close = async (): Promise<void> => {
        client.close()
        await disk.close()
      }
      owner.defer(close)
      return { images, disk, keys, client, close }
    },
  }
}
