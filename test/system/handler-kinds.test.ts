/** Handlers of every kind, as users write them, in `outpost dev`: two processes, a POP and its region. */
import t from 'tap'
import { join } from 'node:path'
import { startDev, text } from '../support/dev-server.ts'

t.setTimeout(120_000)

const dir = t.testdir({ data: {}, src: {
  'class.js': `import { WorkerEntrypoint } from 'cloudflare:workers'\nexport default class extends WorkerEntrypoint { fetch(request) { return new Response('class ' + new URL(request.url).pathname + ' ' + typeof this.env) } }\n`,
  'cron.js': `let runs = 0\nexport default { async scheduled(controller, env, ctx) {\n  runs += 1\n  console.log('ran', runs, controller.cron, controller.scheduledTime)\n  if (controller.cron === 'fail') ctx.waitUntil(Promise.reject(new Error('late failure')))\n  if (controller.cron === 'never') controller.noRetry()\n} }\n`,
} })
const dev = await startDev(t, join(dir, 'src'), { data: join(dir, 'data') })

await t.test('a default class answers requests', async (t) => {
  t.equal(await text(`${dev.url}/fn/class/a`), 'class /a object')
})

await t.test('a function with only a scheduled handler is published and run by hand', async (t) => {
  t.ok(dev.functions.some(({ name }) => name === 'cron'))
  const scheduled = (query: string): Promise<Response> => fetch(`${dev.url}/fn/cron/cdn-cgi/handler/scheduled?${query}`)
  const first = await scheduled('cron=*/5+*+*+*+*&time=1700000000000')
  t.same([first.status, await first.text()], [200, 'ok'])
  await dev.untilErr('ran 1 */5 * * * * 1700000000000')
  t.equal(await text(`${dev.url}/fn/cron/__scheduled?cron=x`), 'Ran scheduled event')
  t.equal(await text(`${dev.url}/fn/cron/cdn-cgi/handler/scheduled?cron=never&format=json`), '{"outcome":"ok","noRetry":true}')
  const failed = await scheduled('cron=fail')
  t.same([failed.status, await failed.text()], [500, 'exception'])
  await dev.untilErr('late failure')
  const request = await fetch(`${dev.url}/fn/cron/`)
  t.equal(request.status, 500)
  t.match(await request.text(), /Handler does not export a fetch\(\) function\./)
  t.equal((await fetch(`${dev.url}/fn/class/__scheduled`)).status, 500)
})
