/**
 * Concurrency limits of a region and its POPs, as real processes. A function calls an upstream of the test and waits there:
 * what the upstream counts is what runs, wherever it runs.
 */
import { join } from 'node:path'
import { type AccountLimit, DeleteFunctionConcurrencyCommand, GetAccountSettingsCommand, GetFunctionCommand, GetFunctionConcurrencyCommand, InvokeCommand, LambdaClient, PutFunctionConcurrencyCommand } from '@aws-sdk/client-lambda'
import { zipSync } from 'fflate'
import t from 'tap'
import { deployFunction } from '../../shared/cli/deployment.ts'
import { runHere } from '../support/cli.ts'
import { eventually } from '../support/dev-server.ts'
import { startUpstream, waiter } from '../support/counting-upstream.ts'
import { call, freePort, tier, writeKeys, type AdminTier, type Called, type Tier } from '../support/site.ts'

const ACCOUNT = '000000000000'
/** After this a changed maximum holds at every POP. */
const HOLDS_MS = 2_000

t.setTimeout(240_000)

await t.test('a region, two POPs and a maximum of 8', async (t) => {
  const upstream = await startUpstream(t)
  const allow = ['--egress-allow', `127.0.0.1:${upstream.port}`]
  const directory = t.testdir({ pop1: {}, pop2: {}, region: {} })
  const regionData = join(directory, 'region')
  const sign = writeKeys(join(directory, 'keys.json'))
  const region = await tier(t, 'region', await freePort(), ['--data', regionData, '--keys', join(directory, 'keys.json'), '--token', 'site', '--account-concurrency', '8', ...allow])
  const startPop = async (name: string): Promise<AdminTier> => tier(t, 'pop', await freePort(), ['--data', join(directory, name), '--region', region.url, '--token', 'site', '--hot-min-requests', '1', '--stale-max', '4000', ...allow])
  const [first, second] = [await startPop('pop1'), await startPop('pop2')]
  const pops = [first, second]
  const makeClient = (): LambdaClient => new LambdaClient({ endpoint: region.url, region: 'us-east-1', maxAttempts: 1, credentials: { accessKeyId: 'system-test', secretAccessKey: 'a secret of the system test' } })
  const quick = (tier: Tier): Promise<Called> => call(tier, 'waiter', { path: '/quick' })
  await deployFunction(sign(region.url), { name: 'waiter', zip: zipSync({ 'index.mjs': Buffer.from(waiter(upstream.port)) }), members: { Timeout: 60 }, publish: false, alias: null })
  for (const pop of pops) await eventually(() => quick(pop), ({ place }) => place === 'pop')

  await t.test('40 slow calls by all three ways: exactly 8 run, the others are refused and told when to come back', async (t) => {
    const doors = [first, second, region]
    const calls = Array.from({ length: 40 }, (_, index) => call(doors[index % 3] ?? first, 'waiter'))
    const refused = await untilSettled(calls, 32)
    // A slot that was on its way to a POP while its calls were refused waits there for the next ones.
    let turn = 0
    const later = await gather(() => call(doors[turn++ % 3] ?? first, 'waiter'), () => upstream.running() === 8)
    t.equal(upstream.running(), 8)
    t.equal(upstream.peak(), 8)
    for (const { status, headers, body } of refused) {
      t.equal(status, 429)
      t.equal(headers.get('retry-after'), '1')
      t.match(JSON.parse(body), { error: { code: 'ERR_ACCOUNT_LIMIT' } })
    }
    upstream.release()
    const answers = await Promise.all([...calls, ...later])
    t.equal(answers.filter(({ status }) => status === 200).length, 8)
    t.ok(answers.some(({ status, place }) => status === 200 && place === 'pop'), 'some ran at a POP')
    t.equal(upstream.peak(), 8)
  })

  await t.test('all of the maximum may be had at one door, whatever the others held idle', async (t) => {
    upstream.hold()
    for (const pop of pops) await quick(pop)
    const calls = await gather(() => call(region, 'waiter'), () => upstream.running() === 8)
    t.equal(upstream.running(), 8)
    upstream.release()
    await Promise.all(calls)
    t.equal(upstream.peak(), 8)
  })

  await t.test('a POP that was killed gives its slots back after its lease, and not before; one that is started again at once', async (t) => {
    upstream.hold()
    await eventually(() => quick(first), ({ place }) => place === 'pop')
    const atPop = await gather(() => call(first, 'waiter').catch(() => null), () => upstream.running() === 8)
    const here = await leasedBy(region)
    await second.kill('SIGKILL')
    await second.start()
    await first.kill('SIGKILL')
    const killedAtMs = performance.now()
    await Promise.all(atPop)
    upstream.release()
    await eventually(() => Promise.resolve(upstream.running()), (running) => running === 0)
    upstream.hold()
    t.ok(here > 0)
    // The region's own share of the maximum is there; what the POP had is not, until its lease of 4 s and the grace of 10 s are over.
    const after: Promise<unknown>[] = []
    let fullAtMs = 0
    while (fullAtMs === 0) {
      after.push(...Array.from({ length: 4 }, () => call(region, 'waiter')))
      await new Promise((resolve) => setTimeout(resolve, 250))
      if (upstream.running() === 8) fullAtMs = performance.now()
      else if (performance.now() - killedAtMs > 40_000) break
    }
    t.ok(fullAtMs > killedAtMs + 13_000, `${Math.round(fullAtMs - killedAtMs)} ms`)
    t.equal(upstream.peak(), 8)
    upstream.release()
    await Promise.all(after)
    await first.start()
  })

  await t.test('a region that is killed and started again counts what its POPs run', async (t) => {
    upstream.hold()
    for (const pop of pops) await eventually(() => quick(pop), ({ place }) => place === 'pop')
    const atPops = await gather(() => call(first, 'waiter').catch(() => null), () => upstream.running() === 8)
    await region.kill('SIGKILL')
    await eventually(() => Promise.resolve(upstream.running()), (running) => running < 8)
    const left = upstream.running()
    t.ok(left > 0, `${left} run on at the POP`)
    await region.start()
    const again = await gather(() => call(region, 'waiter'), () => upstream.running() === 8)
    t.equal(upstream.running(), 8)
    t.equal(upstream.peak(), 8)
    upstream.release()
    await Promise.all([...atPops, ...again])
    for (const pop of pops) await eventually(() => quick(pop), ({ status, headers }) => status === 200 && headers.get('x-outpost-stale') === null)
  })

  await t.test('the maximum is changed while everything runs, and holds within two seconds', async (t) => {
    upstream.hold()
    t.match(await runHere(['region', 'account', 'set', ACCOUNT, '--concurrency', '3', '--data', regionData]), { code: 0 })
    const setAtMs = performance.now()
    await eventually(() => settings(makeClient()), ({ ConcurrentExecutions }) => ConcurrentExecutions === 3)
    t.ok(performance.now() - setAtMs < 2_000)
    const calls = await gather(() => call(region, 'waiter'), () => upstream.running() === 3)
    await new Promise((resolve) => setTimeout(resolve, HOLDS_MS))
    calls.push(...Array.from({ length: 6 }, (_, index) => call(pops[index % 2] ?? first, 'waiter')))
    await untilSettled(calls, calls.length - 3)
    t.equal(upstream.running(), 3)
    upstream.release()
    await Promise.all(calls)
    t.match(await runHere(['region', 'account', 'set', ACCOUNT, '--concurrency', '20', '--data', regionData]), { code: 0 })
    await eventually(() => settings(makeClient()), ({ ConcurrentExecutions }) => ConcurrentExecutions === 20)
  })

  await t.test('reserved concurrency by the AWS SDK', async (t) => {
    upstream.hold()
    const client = makeClient()
    await t.rejects(client.send(new PutFunctionConcurrencyCommand({ FunctionName: 'nobody', ReservedConcurrentExecutions: 1 })), { name: 'ResourceNotFoundException' })
    await t.rejects(client.send(new PutFunctionConcurrencyCommand({ FunctionName: 'waiter', ReservedConcurrentExecutions: 19 })), { name: 'InvalidParameterValueException', message: /below its minimum value of \[2\]/ })
    t.equal((await client.send(new GetFunctionConcurrencyCommand({ FunctionName: 'waiter' }))).ReservedConcurrentExecutions, undefined)
    t.match(await client.send(new PutFunctionConcurrencyCommand({ FunctionName: 'waiter', ReservedConcurrentExecutions: 2 })), { ReservedConcurrentExecutions: 2 })
    t.equal((await client.send(new GetFunctionConcurrencyCommand({ FunctionName: 'waiter' }))).ReservedConcurrentExecutions, 2)
    t.match(await client.send(new GetFunctionCommand({ FunctionName: 'waiter' })), { Concurrency: { ReservedConcurrentExecutions: 2 } })
    t.match(await settings(client), { ConcurrentExecutions: 20, UnreservedConcurrentExecutions: 18 })
    await new Promise((resolve) => setTimeout(resolve, HOLDS_MS))
    const doors = [first, second, region]
    const calls = Array.from({ length: 12 }, (_, index) => call(doors[index % 3] ?? first, 'waiter'))
    const refused = await untilSettled(calls, 10)
    // As above: a slot may have been on its way.
    let turn = 0
    calls.push(...await gather(() => call(doors[turn++ % 3] ?? first, 'waiter'), () => upstream.running() === 2))
    t.equal(upstream.running(), 2)
    for (const { body } of refused) t.match(JSON.parse(body), { error: { code: 'ERR_FUNCTION_LIMIT' } })
    await t.rejects(client.send(new InvokeCommand({ FunctionName: 'waiter' })), { name: 'TooManyRequestsException', Reason: 'ReservedFunctionConcurrentInvocationLimitExceeded', Type: 'User', retryAfterSeconds: '1' })
    upstream.release()
    await Promise.all(calls)

    await client.send(new PutFunctionConcurrencyCommand({ FunctionName: 'waiter', ReservedConcurrentExecutions: 0 }))
    for (const tier of [first, second, region]) await eventually(() => quick(tier), ({ status }) => status === 429, 5_000)
    await client.send(new DeleteFunctionConcurrencyCommand({ FunctionName: 'waiter' }))
    t.equal((await client.send(new GetFunctionCommand({ FunctionName: 'waiter' }))).Concurrency, undefined)
    for (const tier of [first, second, region]) await eventually(() => quick(tier), ({ status }) => status === 200, 5_000)
  })
})

async function settings(client: LambdaClient): Promise<AccountLimit> {
  return (await client.send(new GetAccountSettingsCommand({}))).AccountLimit ?? {}
}

/** Makes calls, four at a time, until `enough` holds; those of them that are still under way are among what is returned. */
async function gather<T>(make: () => Promise<T>, enough: () => boolean): Promise<Promise<T>[]> {
  const calls: Promise<T>[] = []
  await eventually(async () => {
    calls.push(...Array.from({ length: 4 }, make))
    await new Promise((resolve) => setTimeout(resolve, 100))
    return enough()
    // Leases that ended while the region was away are over there 15 s after it is back.
  }, (is) => is, 60_000)
  return calls
}

/** The first `count` that have an answer. */
async function untilSettled<T>(calls: readonly Promise<T>[], count: number): Promise<T[]> {
  const settled: T[] = []
  for (const each of calls) void each.then((answer) => settled.push(answer))
  await eventually(() => Promise.resolve(settled.length), (length) => length >= count)
  return settled.slice(0, count)
}

async function leasedBy(region: AdminTier): Promise<number> {
  const text = await (await fetch(`${region.adminUrl}/metrics`)).text()
  return Number(/^region_limits_leased_slots_count (\d+)$/m.exec(text)?.[1] ?? 0)
}
