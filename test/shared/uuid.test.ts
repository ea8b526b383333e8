import t from 'tap'
import { randomUuid } from '../../shared/uuid.ts'

t.test('UUIDs of version 4, all different', async (t) => {
  const seen = new Set<string>()
  for (let count = 0; count < 2_000; count++) {
    const uuid = randomUuid()
    if (!/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(uuid)) t.fail(uuid)
    seen.add(uuid)
  }
  t.equal(seen.size, 2_000)
  const variants = new Set([...seen].map((uuid) => uuid[19]))
  t.same([...variants].sort(), ['8', '9', 'a', 'b'])
})
