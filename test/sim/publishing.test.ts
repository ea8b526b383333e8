import t from 'tap'
import { PublishModel } from './publishing.ts'
import type { PublishFault } from './publishing.ts'
import { firstFailure, runSeeds } from './seeds.ts'

t.setTimeout(3_600_000)

t.test('no acknowledged publish is lost', async (t) => {
  let acknowledged = 0
  runSeeds((seed) => {
    const model = new PublishModel(seed)
    return { world: model.world, run: () => { model.run(); acknowledged += model.acknowledged.length } }
  }, 40, 10_000)
  t.ok(acknowledged > 0)
})

t.test('rules broken on purpose are found', async (t) => {
  const broken: readonly (readonly [PublishFault, RegExp])[] = [
    [{ acknowledges: 'before-head' }, /was acknowledged and is not|has acknowledged/],
    [{ acknowledges: 'before-mirror' }, /does not know it after a restart/],
    [{ headFirst: true }, /has no objects/],
    [{ blindWrite: true }, /was acknowledged and is not|has acknowledged/],
  ]
  for (const [fault, found] of broken) t.ok(firstFailure((seed) => new PublishModel(seed, fault), found, 200), JSON.stringify(fault))
})
