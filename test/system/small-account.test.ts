/**
 * Two regions with one registry, and an account of so few slots that one node counts all of them: it runs in that node's region,
 * and a POP finds it there whichever region it asks first.
 */
import { InvokeCommand, LambdaClient } from '@aws-sdk/client-lambda'
import t from 'tap'
import { startUpstream, waiter } from '../support/counting-upstream.ts'
import { eventually } from '../support/dev-server.ts'
import { startGrid } from '../support/grid.ts'
import { startNats } from '../support/nats.ts'
import { call, type AdminTier, type Called, type Tier } from '../support/site.ts'

const MAXIMUM = 4

t.setTimeout(240_000)
const nats = await startNats(t)
if (nats === null) process.exit(0)
const upstream = await startUpstream(t)
const allow = ['--egress-allow', `127.0.0.1:${upstream.port}`]
// The POP runs nothing itself: what it forwards is counted where it runs.
const grid = await startGrid(t, { regions: 2, pops: 1, nats: nats.url, region: ['--account-concurrency', String(MAXIMUM), ...allow], pop: ['--hot-min-requests', '1000000'] })
const [elsewhere, counting] = grid.regions as [AdminTier, AdminTier]
const [pop] = grid.pops as [AdminTier]

const quick = (at: Tier): Promise<Called> => call(at, 'waiter', { path: '/quick' })
const codeOf = ({ body }: Called): string => (JSON.parse(body) as { error: { code: string } }).error.code

await grid.deploy('waiter', waiter(upstream.port), { Timeout: 60 }, [counting])
// Who asks first counts.
t.equal((await quick(counting)).status, 200)

await t.test('the other region refuses, as Lambda does at a limit, while the account has anything where it is counted', async (t) => {
  const refused = await eventually(() => quick(elsewhere), ({ status }) => status !== 404)
  t.match([refused.status, refused.headers.get('retry-after'), codeOf(refused)], [429, '1', 'ERR_ACCOUNT_ELSEWHERE'])
  const client = new LambdaClient({ endpoint: elsewhere.url, region: 'us-east-1', maxAttempts: 1, credentials: { accessKeyId: 'system-test', secretAccessKey: 'a secret of the system test' } })
  await t.rejects(client.send(new InvokeCommand({ FunctionName: 'waiter' })), { name: 'TooManyRequestsException', Reason: 'ConcurrentInvocationLimitExceeded', Type: 'User', retryAfterSeconds: '1' })
  t.equal((await quick(counting)).status, 200)
})

await t.test('calls at both at once: all of the maximum runs in one, and never more', async (t) => {
  const calls = Array.from({ length: 16 }, (_, index) => call(index % 2 === 0 ? counting : elsewhere, 'waiter'))
  await eventually(() => Promise.resolve(upstream.running()), (running) => running === MAXIMUM, 20_000)
  const atOther = await Promise.all(calls.filter((_, index) => index % 2 === 1))
  t.ok(atOther.every(({ status }) => status === 429))
  t.equal(upstream.running(), MAXIMUM)
  upstream.release()
  const answers = await Promise.all(calls)
  t.equal(answers.filter(({ status }) => status === 200).length, MAXIMUM)
  t.equal(upstream.peak(), MAXIMUM)
  upstream.hold()
})

await t.test('a POP before both is answered by the one that counts; the maximum is the same by that way', async (t) => {
  for (let times = 0; times < 10; times++) t.match(await quick(pop), { status: 200, place: /^region/ })
  const calls = Array.from({ length: 12 }, () => call(pop, 'waiter'))
  await eventually(() => Promise.resolve(upstream.running()), (running) => running === MAXIMUM, 20_000)
  let settled = 0
  for (const each of calls) void each.then(() => settled++)
  await eventually(() => Promise.resolve(settled), (count) => count === 12 - MAXIMUM, 20_000)
  t.equal(upstream.running(), MAXIMUM)
  upstream.release()
  const answers = await Promise.all(calls)
  t.equal(answers.filter(({ status }) => status === 200).length, MAXIMUM)
  for (const answer of answers.filter(({ status }) => status !== 200)) t.match([answer.status, answer.headers.get('retry-after')], [429, '1'])
  t.equal(upstream.peak(), MAXIMUM)
  upstream.hold()
})

await t.test('when the region that counted is gone, the other one does', async (t) => {
  await counting.kill('SIGTERM')
  t.equal((await eventually(() => quick(elsewhere), ({ status }) => status === 200, 60_000)).status, 200)
  await eventually(() => quick(pop), ({ status }) => status === 200, 60_000)
  t.ok(upstream.peak() <= MAXIMUM)
})
