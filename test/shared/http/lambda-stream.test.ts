/** InvokeWithResponseStream, read by an unmodified AWS SDK. */
import { InvokeWithResponseStreamCommand, LambdaClient, type InvokeWithResponseStreamCommandInput, type InvokeWithResponseStreamCompleteEvent } from '@aws-sdk/client-lambda'
import t, { type Test } from 'tap'
import { CodedError } from '../../../shared/errors.ts'
import { PAYLOAD_CHUNK_MAX_BYTES } from '../../../shared/http/event-stream.ts'
import { LOCAL, OK, openDoor, post, type Harness, type Run } from './harness.ts'

interface Streamed {
  readonly chunks: readonly string[]
  readonly complete: InvokeWithResponseStreamCompleteEvent | null
  readonly version: string | undefined
}

async function open(t: Test): Promise<Harness & { readonly stream: (more?: Partial<InvokeWithResponseStreamCommandInput>) => Promise<Streamed> }> {
  const harness = await openDoor(t, { mode: 'dev' })
  const client = new LambdaClient({ endpoint: `http://127.0.0.1:${harness.port}`, region: 'us-east-1', credentials: { accessKeyId: 'a', secretAccessKey: 'b' }, maxAttempts: 1 })
  t.teardown(() => client.destroy())
  return {
    ...harness,
    async stream(more = {}) {
      const answer = await client.send(new InvokeWithResponseStreamCommand({ FunctionName: 'hello', Payload: Buffer.from('{"a":1}'), ...more }))
      const chunks: string[] = []
      let complete: Streamed['complete'] = null
      for await (const event of answer.EventStream ?? []) {
        if (event.PayloadChunk?.Payload !== undefined) chunks.push(Buffer.from(event.PayloadChunk.Payload).toString())
        if (event.InvokeComplete !== undefined) complete = event.InvokeComplete
      }
      return { chunks, complete, version: answer.ExecutedVersion }
    },
  }
}

const THROWN = { ...OK, outcome: 'exception', error: { code: 'ERR_FUNCTION_EXCEPTION', params: ['boom'] }, exception: { name: 'RangeError', message: 'boom', stack: '' } } as const
const THROWN_DETAILS = JSON.stringify({ errorType: 'RangeError', errorMessage: 'boom', trace: [] })

t.test('what kept the function from running is an exception of the call', async (t) => {
  const { dispatcher, stream, ask } = await open(t)
  dispatcher.onInvoke = (run) => run.sink.fail(new CodedError('ERR_FUNCTION_NOT_FOUND', ['hello']), null)
  await t.rejects(stream(), { name: 'ResourceNotFoundException' })
  dispatcher.onInvoke = (run) => run.sink.end({ ...OK, outcome: 'loadShed', error: { code: 'ERR_NO_CAPACITY', params: [1] } }, LOCAL)
  await t.rejects(stream(), /No sandbox can be had/)
  t.equal((await ask(post('/2021-11-15/functions/hello/response-streaming-invocations', '{}'))).status, 403, 'unsigned')
})

t.test('a function that fails is told by the last message, before and after the first byte', async (t) => {
  const { dispatcher, stream } = await open(t)
  dispatcher.onInvoke = (run) => run.sink.end(THROWN, LOCAL)
  t.match(await stream(), { chunks: [], complete: { ErrorCode: 'Unhandled', ErrorDetails: THROWN_DETAILS }, version: '7' })
  dispatcher.onInvoke = ({ sink }) => {
    sink.head(200, '', LOCAL, Buffer.from('begun'), false)
    sink.end(THROWN, LOCAL)
  }
  t.match(await stream(), { chunks: ['begun'], complete: { ErrorCode: 'Unhandled', ErrorDetails: THROWN_DETAILS } })
  dispatcher.onInvoke = ({ sink }) => {
    sink.head(200, '', LOCAL, Buffer.from('begun'), false)
    sink.fail(new CodedError('ERR_REGION_LOST', ['r']), LOCAL)
  }
  t.match(await stream(), { chunks: ['begun'], complete: { ErrorCode: 'ERR_REGION_LOST' } })
})

t.test('each piece is a message as it comes; the log is in the last one if it was asked for', async (t) => {
  const { dispatcher, stream } = await open(t)
  const held: Run[] = []
  dispatcher.onInvoke = (run) => {
    held.push(run)
    run.sink.head(200, 'content-type\ntext/plain', LOCAL, null, false)
    run.sink.data(Buffer.from('one'))
    run.sink.data(new Uint8Array(0))
    run.sink.data(Buffer.from('two'))
    run.sink.bodyEnd()
    run.sink.end({ ...OK, logs: ['1\tsaid'] }, LOCAL)
  }
  t.same(await stream(), { chunks: ['one', 'two'], complete: {}, version: '7' })
  t.equal(held[0]?.bodyText(), '{"a":1}')
  t.equal(held[0]?.call.invocationKind, 'event')
  const logged = await stream({ LogType: 'Tail', Qualifier: 'prod' })
  t.match(Buffer.from(logged.complete?.LogResult ?? '', 'base64').toString(), /START RequestId[^]*\tINFO\tsaid\n[^]*REPORT/)
  t.equal(held[1]?.call.qualifier, 'prod')
})

t.test('an answer in one piece, an empty one, and one that takes several messages', async (t) => {
  const { dispatcher, stream } = await open(t)
  const whole = (body: Uint8Array | null): void => {
    dispatcher.onInvoke = (run) => run.reply(body)
  }
  whole(Buffer.from('{"b":2}'))
  t.same((await stream()).chunks, ['{"b":2}'])
  whole(null)
  t.same(await stream(), { chunks: [], complete: {}, version: '7' })
  whole(Buffer.alloc(2 * PAYLOAD_CHUNK_MAX_BYTES + 1, 'x'))
  t.same((await stream()).chunks.map((chunk) => chunk.length), [PAYLOAD_CHUNK_MAX_BYTES, PAYLOAD_CHUNK_MAX_BYTES, 1])
})

t.test('a client that leaves in the midst cancels the run', async (t) => {
  const { dispatcher, client, door } = await open(t)
  const connection = client()
  connection.send(post('/2021-11-15/functions/hello/response-streaming-invocations', '{}', 'Authorization: any\r\n'))
  const run = await dispatcher.run()
  run.sink.head(200, '', LOCAL, Buffer.from('x'), false)
  connection.destroy()
  await run.until(({ cancels }) => cancels === 1)
  run.sink.end({ ...OK, outcome: 'canceled', error: { code: 'ERR_CANCELED', params: [] } }, LOCAL)
  t.equal(door.inFlight, 0)
})
