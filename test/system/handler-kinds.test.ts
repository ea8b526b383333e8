/** Handlers of every kind, as users write them, in `outpost dev`: two processes, a POP and its region. */
import { CreateAliasCommand, InvokeCommand, InvokeWithResponseStreamCommand, LambdaClient, PublishVersionCommand } from '@aws-sdk/client-lambda'
import t from 'tap'
import { join } from 'node:path'
import { eventually, startDev, text } from '../support/dev-server.ts'

t.setTimeout(120_000)

const dir = t.testdir({ data: {}, src: {
  'class.js': `import { WorkerEntrypoint } from 'cloudflare:workers'\nexport default class extends WorkerEntrypoint { fetch(request) { return new Response('class ' + new URL(request.url).pathname + ' ' + typeof this.env) } }\n`,
  'stream.js': `export const handler = awslambda.streamifyResponse(async (event, stream, context) => {
  const how = event.how ?? event.queryStringParameters?.how
  if (how === 'throw') throw new RangeError('no stream')
  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 202, headers: { 'content-type': 'text/event-stream' } })
  stream.write('data: one\\n\\n')
  await new Promise((done) => setTimeout(done, 300))
  if (how === 'late') throw new RangeError('late')
  stream.end('data: two\\n\\n')
})\n`,
  'place.js': `export default { fetch: (request) => Response.json(request.cf) }\n`,
  'context.js': `export const handler = async (event, context) => [context.functionVersion, context.invokedFunctionArn, context.clientContext, process.env.AWS_LAMBDA_FUNCTION_NAME, process.env.AWS_REGION]\n`,
  'boom.ts': `import { refuse } from './lib/refuse.ts'\n\ninterface Order {\n  readonly id: number\n}\n\nexport const handler = async (event: { readonly order?: Order, readonly spin?: boolean }): Promise<void> => {\n  if (event.spin === true) {\n    let count = 0\n    for (;;) count += refuse.length\n  }\n  refuse(event.order?.id ?? 7)\n}\n`,
  lib: { 'refuse.ts': `type Id = number\n\nexport function refuse(id: Id): never {\n  throw new RangeError('refused ' + id)\n}\n` },
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

await t.test('stacks name the lines that the user wrote: in the answer of Invoke, in its log, and when the time is up', async (t) => {
  const client = new LambdaClient({ endpoint: dev.url, region: 'us-east-1', credentials: { accessKeyId: 'a', secretAccessKey: 'b' }, maxAttempts: 1 })
  t.teardown(() => client.destroy())
  const invoke = async (event: object): Promise<{ error: string | undefined; answer: unknown; log: string }> => {
    const { FunctionError, Payload, LogResult } = await client.send(new InvokeCommand({ FunctionName: 'boom', Payload: JSON.stringify(event), LogType: 'Tail' }))
    return { error: FunctionError, answer: JSON.parse(Buffer.from(Payload ?? []).toString()), log: Buffer.from(LogResult ?? '', 'base64').toString() }
  }
  const stack = [/^RangeError: refused \d$/, /^ {4}at refuse \(lib\/refuse\.ts:4:\d+\)$/, /^ {4}at handler \(boom\.ts:12:\d+\)$/]
  const thrown = await invoke({ order: { id: 3 } })
  t.match(thrown, { error: 'Unhandled', answer: { errorType: 'RangeError', errorMessage: 'refused 3', trace: stack } })
  t.match(thrown.log, /at refuse \(lib\/refuse\.ts:4:/)
  const spun = await invoke({ spin: true })
  t.match(spun, { error: 'Unhandled', answer: { errorType: 'ERR_LIMIT_CPU', trace: [/^at handler \(boom\.ts:10:\d+\)$/] } })
  t.match(spun.log, /ERR_LIMIT_CPU: .*\r {4}at handler \(boom\.ts:10:/)
  const { error } = JSON.parse(await text(`${dev.url}/fn/boom/`)) as { error: { stack: string } }
  t.match(error.stack.split('\n'), stack)
  await dev.untilErr('at refuse (lib/refuse.ts:4:')
})

await t.test('a streaming handler answers requests in pieces, as they are written', async (t) => {
  const response = await fetch(`${dev.url}/fn/stream/`)
  t.same([response.status, response.headers.get('content-type')], [202, 'text/event-stream'])
  const pieces: string[] = []
  for await (const piece of response.body ?? []) pieces.push(Buffer.from(piece as Uint8Array).toString())
  t.same(pieces, ['data: one\n\n', 'data: two\n\n'])
  t.equal((await fetch(`${dev.url}/fn/stream/?how=throw`)).status, 500)
  await t.rejects(text(`${dev.url}/fn/stream/?how=late`), 'the answer is cut off')
})

await t.test('the AWS SDK reads it as a stream, with its metadata before eight zero bytes, and as a whole', async (t) => {
  const client = new LambdaClient({ endpoint: dev.url, region: 'us-east-1', credentials: { accessKeyId: 'a', secretAccessKey: 'b' }, maxAttempts: 1 })
  t.teardown(() => client.destroy())
  const stream = async (payload: object): Promise<{ text: string; count: number; error: string | undefined }> => {
    const { EventStream } = await client.send(new InvokeWithResponseStreamCommand({ FunctionName: 'stream', Payload: Buffer.from(JSON.stringify(payload)) }))
    const pieces: Uint8Array[] = []
    let error: string | undefined
    for await (const event of EventStream ?? []) {
      if (event.PayloadChunk?.Payload !== undefined) pieces.push(event.PayloadChunk.Payload)
      error = event.InvokeComplete?.ErrorDetails
    }
    return { text: Buffer.concat(pieces).toString(), count: pieces.length, error }
  }
  const whole = `{"statusCode":202,"headers":{"content-type":"text/event-stream"}}${'\0'.repeat(8)}data: one\n\ndata: two\n\n`
  const good = await stream({})
  t.same([good.text, good.error], [whole, undefined])
  t.ok(good.count >= 2, 'in pieces')
  t.match(await stream({ how: 'throw' }), { text: '', error: /"errorType":"RangeError","errorMessage":"no stream"/ })
  t.match(await stream({ how: 'late' }), { text: /data: one\n\n$/, error: /"errorMessage":"late"/ })
  t.equal(Buffer.from((await client.send(new InvokeCommand({ FunctionName: 'stream' }))).Payload ?? '').toString(), whole)
  const plain = await client.send(new InvokeCommand({ FunctionName: 'stream', Payload: Buffer.from('{"how":"throw"}') }))
  t.equal(plain.FunctionError, 'Unhandled')
})

await t.test('a request tells the place that runs it: the region, and the POP once it is hot there', async (t) => {
  const ask = async (): Promise<{ place: string; cf: unknown }> => {
    const response = await fetch(`${dev.url}/fn/place/`)
    return { place: (response.headers.get('x-outpost-place') ?? '').split(';')[0] ?? '', cf: await response.json() }
  }
  const seen = new Map<string, unknown>()
  await eventually(async () => {
    const { place, cf } = await ask()
    seen.set(place, cf)
    return place
  }, (place) => place === 'pop')
  t.same(seen.get('pop'), { httpProtocol: 'HTTP/1.1', colo: 'site-1' })
  if (seen.has('region')) t.same(seen.get('region'), { httpProtocol: 'HTTP/1.1', colo: 'us-east-1' })
})

await t.test('an Invoke says version, ARN and client context to the handler', async (t) => {
  const client = new LambdaClient({ endpoint: dev.url, region: 'us-east-1', credentials: { accessKeyId: 'a', secretAccessKey: 'b' }, maxAttempts: 1 })
  t.teardown(() => client.destroy())
  const { Version } = await client.send(new PublishVersionCommand({ FunctionName: 'context' }))
  await client.send(new CreateAliasCommand({ FunctionName: 'context', Name: 'prod', FunctionVersion: Version }))
  const { Payload } = await client.send(new InvokeCommand({ FunctionName: 'context', Qualifier: 'prod', ClientContext: Buffer.from('{"Custom":{"a":"b"}}').toString('base64') }))
  t.same(JSON.parse(Buffer.from(Payload ?? '').toString()), [Version, 'arn:aws:lambda:us-east-1:000000000000:function:context:prod', { Custom: { a: 'b' } }, 'context', 'us-east-1'])
})
