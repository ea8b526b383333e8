/** A POP's pull of images from a region's sealed store over a link with 35 ms each way. */
import t from 'tap'
import { LINK_BULK_CREDIT_BYTES, LINK_DATA_MAX_BYTES } from '../../shared/limits.ts'
import { FakeHost } from '../pop/harness.ts'
import { until } from '../shared/link/harness.ts'
import { startImageLine } from '../support/image-line.ts'
import { ownedBy } from '../support/owner.ts'

const DELAY_MS = 35
const ACCOUNT = '000000000000'
const PAGES_PER_MIB = 256

function seeds(name: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${name}/${index}`)
}

await t.test('an image of 1 to 4 MiB is here after two round trips, the question for its size included', async (t) => {
  const line = await startImageLine(ownedBy(t), { delayMs: DELAY_MS })
  const host = new FakeHost()
  const { images } = await line.pop('pop-1', t.testdir({ pop: {} }), host)
  for (const mib of [1, 2, 4]) {
    const image = await line.publish(ACCOUNT, `size-${mib}`, seeds(`size-${mib}`, mib * PAGES_PER_MIB))
    line.proxy.restart()
    const startedAtMs = performance.now()
    t.equal(await images.sizeOf(image), mib * PAGES_PER_MIB * 4096)
    t.same(await images.pull(image), { kind: 'ready' })
    const tookMs = performance.now() - startedAtMs
    t.ok(host.hasImage(image.imageId))
    t.equal(line.proxy.rounds, 2, `${mib} MiB: ${line.proxy.rounds} round trips, ${Math.round(tookMs)} ms, ${line.proxy.upBytes} bytes up, ${line.proxy.downBytes} down`)
    t.ok(tookMs >= 4 * DELAY_MS - 5, 'the line is as slow as it is said to be')
  }
})

await t.test('so it is with five layers below it, and of those that are known nothing comes again', async (t) => {
  const line = await startImageLine(ownedBy(t), { delayMs: DELAY_MS })
  const { images } = await line.pop('pop-1', t.testdir({ pop: {} }), new FakeHost())
  const layers: Awaited<ReturnType<typeof line.publish>>[] = []
  for (let layer = 0; layer < 5; layer++) layers.push(await line.publish(ACCOUNT, 'layers', seeds(`layer-${layer}`, 100), layers.map(({ imageId }) => imageId)))
  const ancestors = layers.map(({ imageId }) => imageId)
  const first = await line.publish(ACCOUNT, 'f', seeds('f', 84), ancestors)
  line.proxy.restart()
  t.same(await images.pull(first), { kind: 'ready' })
  t.equal(line.proxy.rounds, 2)
  t.ok(line.proxy.downBytes > 584 * 4096)
  // Its own code changed: three of its pages.
  const changed = await line.publish(ACCOUNT, 'f', [...seeds('f', 81), ...seeds('g', 3)], ancestors)
  line.proxy.restart()
  t.same(await images.pull(changed), { kind: 'ready' })
  t.equal(line.proxy.rounds, 2)
  t.ok(line.proxy.downBytes <= 0.1 * 84 * 4096, `${line.proxy.downBytes} bytes for three new pages of 84`)
})

await t.test('a POP that takes nothing holds up one frame at the region, and its credit bounds what is read for it', async (t) => {
  let readBytes = 0
  let heldMaxBytes = 0
  const look = (): number => (heldMaxBytes = Math.max(heldMaxBytes, line.links.pops()[0]?.bufferedBytes ?? 0))
  const line = await startImageLine(ownedBy(t), {
    onRead: (id) => {
      readBytes += line.store.sealedBlock(id).byteLength
      look()
    },
  })
  const { images } = await line.pop('pop-1', t.testdir({ pop: {} }), new FakeHost())
  const image = await line.publish(ACCOUNT, 'large', seeds('large', 24 * PAGES_PER_MIB))
  await images.sizeOf(image)
  line.proxy.pause('paused')
  const pull = images.pull(image)
  await until(() => readBytes > 0)
  for (let stillFor = 0, before = readBytes; stillFor < 20; before = readBytes) {
    await new Promise((resolve) => setTimeout(resolve, 10))
    look()
    stillFor = readBytes === before ? stillFor + 1 : 0
  }
  t.ok(readBytes <= LINK_BULK_CREDIT_BYTES + 2 * LINK_DATA_MAX_BYTES, `${readBytes} bytes read`)
  line.proxy.pause('flowing')
  t.same(await pull, { kind: 'ready' })
  t.ok(heldMaxBytes <= LINK_DATA_MAX_BYTES, `${heldMaxBytes} bytes waited at most`)
  t.equal(line.links.pops()[0]?.bufferedBytes, 0)
})
