/** The control plane as an unmodified AWS SDK sees it, from HTTP to the store on disk. */
import {
  CreateAliasCommand, CreateFunctionCommand, DeleteAliasCommand, DeleteFunctionCommand, GetAliasCommand, GetFunctionCommand, GetFunctionConfigurationCommand,
  InvokeCommand, LambdaClient, ListAliasesCommand, ListFunctionsCommand, ListVersionsByFunctionCommand, PublishVersionCommand, UpdateAliasCommand,
  UpdateFunctionCodeCommand, UpdateFunctionConfigurationCommand, waitUntilFunctionActiveV2, waitUntilFunctionUpdatedV2, type CreateFunctionCommandInput,
} from '@aws-sdk/client-lambda'
import t from 'tap'
import { SigV4Authenticator } from '../../shared/api/sigv4.ts'
import { ManualClock } from '../../shared/clock.ts'
import { handlerZip, serveControl, startRegion, zipOf, type TestRegion, type TestRegionOptions } from './fakes.ts'

const ROLE = 'arn:aws:iam::000000000000:role/any'
const ARN = 'arn:aws:lambda:us-east-1:000000000000:function:'

/** What of tap's test is used here. */
interface Test {
  teardown(undo: () => Promise<void>): unknown
}

interface ClientOptions {
  readonly secret?: string
  readonly accessKeyId?: string
  readonly maxAttempts?: number
}

function clientOf(url: string, { secret = 'any', accessKeyId = 'AKIDEXAMPLE', maxAttempts = 1 }: ClientOptions = {}): LambdaClient {
  return new LambdaClient({ endpoint: url, region: 'us-east-1', maxAttempts, credentials: { accessKeyId, secretAccessKey: secret } })
}

async function connect(test: Test, options: TestRegionOptions = {}): Promise<TestRegion & { client: LambdaClient; url: string }> {
  const made = await startRegion(options)
  const server = await serveControl(made.region)
  const client = clientOf(server.url)
  test.teardown(async () => {
    client.destroy()
    await server.close()
    await made.close()
  })
  return { ...made, client, url: server.url }
}

function create(name: string, more: Partial<CreateFunctionCommandInput> & { Outpost?: unknown } = {}): CreateFunctionCommand {
  return new CreateFunctionCommand({ FunctionName: name, Role: ROLE, Runtime: 'nodejs22.x', Handler: 'index.handler', Code: { ZipFile: handlerZip() }, ...more })
}

interface Failure {
  readonly name: string
  readonly message: string
  readonly status: number
}

async function failure(promise: Promise<unknown>): Promise<Failure> {
  try {
    await promise
  } catch (error) {
    const { name, message, $metadata } = error as { name: string; message: string; $metadata: { httpStatusCode: number } }
    return { name, message, status: $metadata.httpStatusCode }
  }
  throw new Error('nothing failed')
}

await t.test('errors carry the exception name, the status and a message', async (t) => {
  const { client } = await connect(t)
  const cases: [string, () => Promise<unknown>, string, number, RegExp][] = [
    ['unknown function', () => client.send(new GetFunctionCommand({ FunctionName: 'nope' })), 'ResourceNotFoundException', 404, /^Function not found: arn:aws:lambda:us-east-1:000000000000:function:nope$/],
    ['unknown qualifier', () => client.send(new GetFunctionCommand({ FunctionName: 'nope', Qualifier: 'prod' })), 'ResourceNotFoundException', 404, /function:nope:prod$/],
    ['bad name', () => client.send(new GetFunctionCommand({ FunctionName: 'no spaces' })), 'InvalidParameterValueException', 400, /functionName/],
    ['other region', () => client.send(new GetFunctionCommand({ FunctionName: 'arn:aws:lambda:eu-west-1:000000000000:function:a' })), 'ResourceNotFoundException', 404, /not reachable in this region/],
    ['other account', () => client.send(new GetFunctionCommand({ FunctionName: 'arn:aws:lambda:us-east-1:111111111111:function:a' })), 'ResourceNotFoundException', 404, /not found/],
    ['two qualifiers', () => client.send(new GetFunctionCommand({ FunctionName: 'a:1', Qualifier: '2' })), 'InvalidParameterValueException', 400, /derived qualifier/],
    ['no code', () => client.send(create('a', { Code: {} })), 'InvalidParameterValueException', 400, /ZipFile/],
    ['code in S3', () => client.send(create('a', { Code: { S3Bucket: 'b', S3Key: 'k' } })), 'InvalidParameterValueException', 400, /S3 is not supported/],
    ['a container', () => client.send(create('a', { PackageType: 'Image', Code: { ImageUri: 'x' } })), 'InvalidParameterValueException', 400, /only Zip packages/],
    ['too much memory', () => client.send(create('a', { MemorySize: 2048 })), 'InvalidParameterValueException', 400, /1024 MB of memory/],
    ['too long', () => client.send(create('a', { Timeout: 901 })), 'InvalidParameterValueException', 400, /Timeout/],
    ['python', () => client.send(create('a', { Runtime: 'python3.13' })), 'InvalidParameterValueException', 400, /only nodejs and provided/],
    ['layers', () => client.send(create('a', { Layers: ['arn:x'] })), 'InvalidParameterValueException', 400, /Layers is not supported/],
    ['a network', () => client.send(create('a', { VpcConfig: { SubnetIds: ['s'] } })), 'InvalidParameterValueException', 400, /VpcConfig is not supported/],
    ['not a zip', () => client.send(create('a', { Code: { ZipFile: Buffer.from('hello') } })), 'InvalidParameterValueException', 400, /not a zip/],
    ['handler file missing', () => client.send(create('a', { Handler: 'main.handler' })), 'InvalidParameterValueException', 400, /no main.mjs.*it holds index.mjs/],
    ['syntax', () => client.send(create('a', { Code: { ZipFile: handlerZip('export const handler = ') } })), 'InvalidParameterValueException', 400, /index.mjs:1/],
    ['refused by the builder', () => client.send(create('a', { Code: { ZipFile: handlerZip('export const handler = "REFUSE ERR_BUNDLE_ENTROPY"') } })), 'InvalidParameterValueException', 400, /randomness at top level.*index.mjs:1/],
    ['builder broken', () => client.send(create('a', { Code: { ZipFile: handlerZip('export const handler = "BROKEN"') } })), 'ServiceException', 500, /image builder failed/],
    ['variables too large', () => client.send(create('a', { Environment: { Variables: { A: 'x'.repeat(17_000) } } })), 'InvalidParameterValueException', 400, /Environment.Variables/],
    ['variable name', () => client.send(create('a', { Environment: { Variables: { 'a b': 'x' } } })), 'InvalidParameterValueException', 400, /names of variables/],
    ['qualified create', () => client.send(create('a:1')), 'InvalidParameterValueException', 400, /may not have a qualifier/],
    ['page size', () => client.send(new ListFunctionsCommand({ MaxItems: 0 })), 'InvalidParameterValueException', 400, /MaxItems/],
    ['marker', () => client.send(new ListFunctionsCommand({ Marker: 'made-up' })), 'InvalidParameterValueException', 400, /Marker/],
    ['delete unknown', () => client.send(new DeleteFunctionCommand({ FunctionName: 'nope' })), 'ResourceNotFoundException', 404, /nope/],
    ['publish unknown', () => client.send(new PublishVersionCommand({ FunctionName: 'nope' })), 'ResourceNotFoundException', 404, /nope/],
    ['alias of unknown', () => client.send(new CreateAliasCommand({ FunctionName: 'nope', Name: 'prod', FunctionVersion: '$LATEST' })), 'ResourceNotFoundException', 404, /nope/],
  ]
  for (const [title, attempt, name, status, message] of cases) {
    const failed = await failure(attempt())
    t.match(failed, { name, status, message }, title)
  }
  const listed = await client.send(new ListFunctionsCommand({}))
  t.same(listed.Functions, [], 'nothing came of any of them')
})

await t.test('an error says it in the header, under both message keys, with our code beside', async (t) => {
  const { url } = await connect(t)
  const response = await fetch(`${url}/2015-03-31/functions/nope`, { headers: { authorization: 'AWS4-HMAC-SHA256 anything' } })
  const body = await response.json() as Record<string, string>
  t.equal(response.status, 404)
  t.equal(response.headers.get('x-amzn-errortype'), 'ResourceNotFoundException')
  t.equal(body['Message'], body['message'])
  t.match(body, { Type: 'User', OutpostCode: 'ERR_RESOURCE_NOT_FOUND', Message: /nope/ })
  t.ok(response.headers.get('x-amzn-requestid'))
  t.ok(Math.abs(Date.parse(response.headers.get('date') ?? '') - Date.now()) < 10_000, 'clients set their clocks by it')
  const unknown = await fetch(`${url}/2015-03-31/nothing`, { headers: { authorization: 'AWS4-HMAC-SHA256 anything' } })
  t.match([unknown.status, unknown.headers.get('x-amzn-errortype')], [404, 'UnknownOperationException'])
  const broken = await fetch(`${url}/2015-03-31/functions`, { method: 'POST', body: '{', headers: { authorization: 'AWS4-HMAC-SHA256 anything' } })
  t.match([broken.status, broken.headers.get('x-amzn-errortype')], [400, 'InvalidRequestContentException'])
  const escape = await fetch(`${url}/2015-03-31/functions/%E0%A4%A`, { headers: { authorization: 'AWS4-HMAC-SHA256 anything' } })
  t.equal(escape.status, 400)
})

await t.test('without an Authorization header nothing works, in development too', async (t) => {
  const { url } = await connect(t)
  const response = await fetch(`${url}/2015-03-31/functions`)
  t.equal(response.status, 403)
  t.equal(response.headers.get('x-amzn-errortype'), 'MissingAuthenticationTokenException')
  const odd = await fetch(`${url}/2015-03-31/functions`, { headers: { authorization: 'x' } })
  t.equal(odd.headers.get('x-amzn-errortype'), 'IncompleteSignatureException')
})

await t.test('a function is created, read, listed and deleted', async (t) => {
  const { client, registry, store, collect, audit } = await connect(t)
  const zip = handlerZip()
  const created = await client.send(create('hello', { Timeout: 5, MemorySize: 256, Description: 'says it', Environment: { Variables: { A: '1' } }, Tags: { team: 'x' } }))
  t.equal(created.$metadata.httpStatusCode, 201)
  t.match(created, {
    FunctionName: 'hello', FunctionArn: `${ARN}hello`, Runtime: 'nodejs22.x', Role: ROLE, Handler: 'index.handler', Timeout: 5, MemorySize: 256, Description: 'says it',
    Version: '$LATEST', State: 'Active', LastUpdateStatus: 'Successful', PackageType: 'Zip', CodeSize: zip.byteLength, Environment: { Variables: { A: '1' } },
    CodeSha256: /^[A-Za-z0-9+/]{43}=$/, RevisionId: /^[0-9a-f-]{36}$/, LastModified: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$/,
  })
  const got = await client.send(new GetFunctionCommand({ FunctionName: `${ARN}hello` }))
  t.match(got, { Configuration: { FunctionName: 'hello', RevisionId: created.RevisionId }, Code: { RepositoryType: 'S3' }, Tags: { team: 'x' } })
  t.match(await client.send(new GetFunctionConfigurationCommand({ FunctionName: '000000000000:function:hello', Qualifier: '$LATEST' })), { FunctionArn: `${ARN}hello:$LATEST` })
  await waitUntilFunctionActiveV2({ client, maxWaitTime: 5 }, { FunctionName: 'hello' })
  await waitUntilFunctionUpdatedV2({ client, maxWaitTime: 5 }, { FunctionName: 'hello' })
  t.match(await failure(client.send(create('hello'))), { name: 'ResourceConflictException', status: 409, message: 'Function already exist: hello' })
  const defaults = await client.send(create('defaults', { Handler: undefined, Runtime: undefined }))
  t.match(defaults, { Timeout: 3, MemorySize: 128, Handler: 'index.handler' })
  t.equal(defaults.Environment, undefined)
  const listed = await client.send(new ListFunctionsCommand({}))
  t.same(listed.Functions?.map(({ FunctionName }) => FunctionName), ['defaults', 'hello'])
  t.equal(listed.Functions?.[0]?.State, undefined, 'listings have no state')
  for (const name of ['hello', 'defaults']) t.equal((await client.send(new DeleteFunctionCommand({ FunctionName: name }))).$metadata.httpStatusCode, 204)
  t.match(await failure(client.send(new GetFunctionCommand({ FunctionName: 'hello' }))), { name: 'ResourceNotFoundException' })
  await collect()
  t.same(store.counts(), { objects: 0, blocks: 0, blockBytes: 0, manifestBytes: 0, logicalBytes: 0 }, 'nothing is left in the store')
  t.same(audit(), [])
  t.same([...registry.liveObjects()], [])
})

await t.test('new code takes effect, and the same code again stores nothing', async (t) => {
  const { client, store, builder, collect, audit, storedImages } = await connect(t)
  const created = await client.send(create('f'))
  const before = store.counts()
  const same = await client.send(new UpdateFunctionCodeCommand({ FunctionName: 'f', ZipFile: handlerZip() }))
  t.equal(same.CodeSha256, created.CodeSha256)
  t.not(same.RevisionId, created.RevisionId, 'every write has a revision')
  t.same(store.counts(), before)
  t.equal(builder.requests.length, 1, 'nothing was built again')
  const other = await client.send(new UpdateFunctionCodeCommand({ FunctionName: 'f', ZipFile: handlerZip('export const handler = async () => 2') }))
  t.not(other.CodeSha256, created.CodeSha256)
  t.equal(builder.requests.length, 2)
  await collect()
  t.equal(storedImages().length, 2, 'the image of the old code goes')
  t.match(await failure(client.send(new UpdateFunctionCodeCommand({ FunctionName: 'f', ZipFile: handlerZip(), RevisionId: created.RevisionId }))), { name: 'PreconditionFailedException', status: 412 })
  const dry = await client.send(new UpdateFunctionCodeCommand({ FunctionName: 'f', ZipFile: handlerZip('export const handler = 3'), DryRun: true }))
  t.not(dry.CodeSha256, other.CodeSha256)
  t.equal((await client.send(new GetFunctionConfigurationCommand({ FunctionName: 'f' }))).RevisionId, other.RevisionId, 'a dry run changes nothing')
  t.match(await failure(client.send(new UpdateFunctionCodeCommand({ FunctionName: 'f', ZipFile: Buffer.from('x'), DryRun: true }))), { name: 'InvalidParameterValueException' })
  const published = await client.send(new UpdateFunctionCodeCommand({ FunctionName: 'f', ZipFile: handlerZip('export const handler = 4'), Publish: true }))
  t.match(published, { Version: '1', FunctionArn: `${ARN}f:1` })
  t.match(await failure(client.send(new UpdateFunctionCodeCommand({ FunctionName: 'f:1', ZipFile: handlerZip() }))), { name: 'InvalidParameterValueException' })
  t.same(audit(), [])
})

await t.test('configuration is changed member by member, and only what an image depends on builds', async (t) => {
  const { client, builder, registry, audit } = await connect(t)
  const created = await client.send(create('f', { Environment: { Variables: { A: '1' } } }))
  const timeout = await client.send(new UpdateFunctionConfigurationCommand({ FunctionName: 'f', Timeout: 9, Description: 'd' }))
  t.match(timeout, { Timeout: 9, Description: 'd', MemorySize: 128, Environment: { Variables: { A: '1' } } })
  t.equal(builder.requests.length, 1)
  t.match(registry.resolve('000000000000', 'f', null), { limits: { wallMs: 9000 } })
  await client.send(new UpdateFunctionConfigurationCommand({ FunctionName: 'f', Environment: { Variables: { B: '2' } } }))
  t.equal(builder.requests.length, 2)
  t.same(builder.requests[1]?.vars, { B: '2' })
  await client.send(new UpdateFunctionConfigurationCommand({ FunctionName: 'f', Environment: { Variables: {} } }))
  t.equal((await client.send(new GetFunctionConfigurationCommand({ FunctionName: 'f' }))).Environment, undefined)
  t.match(await failure(client.send(new UpdateFunctionConfigurationCommand({ FunctionName: 'f', RevisionId: created.RevisionId }))), { name: 'PreconditionFailedException' })
  t.match(await failure(client.send(new UpdateFunctionConfigurationCommand({ FunctionName: 'f', Handler: 'other.handler' }))), { name: 'InvalidParameterValueException', message: /other.mjs/ })
  t.same(audit(), [])
})

await t.test('another handler of the same zip is bundled from the stored zip', async (t) => {
  const { client, builder } = await connect(t)
  await client.send(create('f', { Code: { ZipFile: zipOf({ 'index.js': 'exports.handler = 1', 'lib/other.mjs': 'import "../index.js"; export const go = 2' }) } }))
  await client.send(new UpdateFunctionConfigurationCommand({ FunctionName: 'f', Handler: 'lib/other.go' }))
  t.match(builder.requests[1], { fileName: 'lib/other.mjs', handlerExport: 'go' })
  await client.send(new UpdateFunctionCodeCommand({ FunctionName: 'f', ZipFile: zipOf({ 'lib/other.mjs': 'export const go = 3' }) }))
  t.match(builder.requests[2], { fileName: 'lib/other.mjs', handlerExport: 'go', source: 'export const go = 3' })
})

await t.test('versions are immutable, numbered once and published only after a change', async (t) => {
  const { client, audit } = await connect(t)
  const created = await client.send(create('f', { Publish: true }))
  t.match(created, { Version: '1', FunctionArn: `${ARN}f` })
  const again = await client.send(new PublishVersionCommand({ FunctionName: 'f', Description: 'other words' }))
  t.match([again.$metadata.httpStatusCode, again.Version, again.FunctionArn], [201, '1', `${ARN}f:1`])
  await client.send(new UpdateFunctionCodeCommand({ FunctionName: 'f', ZipFile: handlerZip('export const handler = 2') }))
  t.match(await failure(client.send(new PublishVersionCommand({ FunctionName: 'f', CodeSha256: created.CodeSha256 }))), { name: 'InvalidParameterValueException', message: /CodeSHA256/ })
  t.match(await failure(client.send(new PublishVersionCommand({ FunctionName: 'f', RevisionId: created.RevisionId }))), { name: 'PreconditionFailedException' })
  const second = await client.send(new PublishVersionCommand({ FunctionName: 'f', Description: 'two' }))
  t.match(second, { Version: '2', Description: 'two', State: 'Active' })
  t.equal((await client.send(new GetFunctionCommand({ FunctionName: 'f', Qualifier: '1' }))).Configuration?.CodeSha256, created.CodeSha256, 'version 1 is what it was')
  const listed = await client.send(new ListVersionsByFunctionCommand({ FunctionName: 'f' }))
  t.same(listed.Versions?.map(({ FunctionArn }) => FunctionArn), [`${ARN}f:$LATEST`, `${ARN}f:1`, `${ARN}f:2`])
  t.match(await failure(client.send(new DeleteFunctionCommand({ FunctionName: 'f', Qualifier: '$LATEST' }))), { name: 'InvalidParameterValueException' })
  t.match(await failure(client.send(new DeleteFunctionCommand({ FunctionName: 'f', Qualifier: '9' }))), { name: 'ResourceNotFoundException' })
  t.match(await failure(client.send(new GetFunctionCommand({ FunctionName: 'f', Qualifier: '01' }))), { name: 'ResourceNotFoundException' })
  await client.send(new DeleteFunctionCommand({ FunctionName: 'f:2' }))
  const third = await client.send(new PublishVersionCommand({ FunctionName: 'f' }))
  t.equal(third.Version, '3', 'a number is never used twice')
  t.same(audit(), [])
})

await t.test('aliases point to versions and keep them from being deleted', async (t) => {
  const { client, registry } = await connect(t)
  await client.send(create('f', { Publish: true }))
  const made = await client.send(new CreateAliasCommand({ FunctionName: 'f', Name: 'prod', FunctionVersion: '1', Description: 'live' }))
  t.match(made, { AliasArn: `${ARN}f:prod`, Name: 'prod', FunctionVersion: '1', Description: 'live', RevisionId: /-/ })
  t.equal(made.$metadata.httpStatusCode, 201)
  t.match(await failure(client.send(new CreateAliasCommand({ FunctionName: 'f', Name: 'prod', FunctionVersion: '1' }))), { name: 'ResourceConflictException', message: /Alias already exists/ })
  t.match(await failure(client.send(new CreateAliasCommand({ FunctionName: 'f', Name: '42', FunctionVersion: '1' }))), { name: 'InvalidParameterValueException' })
  t.match(await failure(client.send(new CreateAliasCommand({ FunctionName: 'f', Name: 'x', FunctionVersion: '7' }))), { name: 'ResourceNotFoundException', message: /f:7/ })
  t.match(await failure(client.send(new CreateAliasCommand({ FunctionName: 'f', Name: 'x', FunctionVersion: '1', RoutingConfig: { AdditionalVersionWeights: { 2: 0.1 } } }))), { name: 'InvalidParameterValueException', message: /weighted aliases are not supported yet/ })
  await client.send(new CreateAliasCommand({ FunctionName: 'f', Name: 'beta', FunctionVersion: '$LATEST', RoutingConfig: { AdditionalVersionWeights: {} } }))
  t.match(await client.send(new GetFunctionConfigurationCommand({ FunctionName: 'f', Qualifier: 'prod' })), { Version: '1', FunctionArn: `${ARN}f:prod` })
  t.match(await failure(client.send(new DeleteFunctionCommand({ FunctionName: 'f', Qualifier: '1' }))), { name: 'ResourceConflictException', message: /\[prod\]/ })
  t.match(await failure(client.send(new UpdateAliasCommand({ FunctionName: 'f', Name: 'prod', FunctionVersion: '$LATEST', RevisionId: 'stale' }))), { name: 'PreconditionFailedException' })
  const updated = await client.send(new UpdateAliasCommand({ FunctionName: 'f', Name: 'prod', FunctionVersion: '$LATEST', RevisionId: made.RevisionId }))
  t.match(updated, { FunctionVersion: '$LATEST', Description: 'live' })
  t.match(await failure(client.send(new UpdateAliasCommand({ FunctionName: 'f', Name: 'none' }))), { name: 'ResourceNotFoundException', message: /Cannot find alias arn/ })
  t.same((await client.send(new ListAliasesCommand({ FunctionName: 'f' }))).Aliases?.map(({ Name }) => Name), ['beta', 'prod'])
  t.same((await client.send(new ListAliasesCommand({ FunctionName: 'f', FunctionVersion: '1' }))).Aliases, [])
  for (let round = 0; round < 2; round += 1) {
    t.equal((await client.send(new DeleteAliasCommand({ FunctionName: 'f', Name: 'prod' }))).$metadata.httpStatusCode, 204, 'deleting is the same twice')
  }
  t.match(await failure(client.send(new GetAliasCommand({ FunctionName: 'f', Name: 'prod' }))), { name: 'ResourceNotFoundException' })
  t.same(registry.audit(), [])
})

await t.test('listings come in pages', async (t) => {
  const { client } = await connect(t)
  for (const name of ['a', 'b', 'c']) await client.send(create(name, { Publish: true }))
  await client.send(new UpdateFunctionCodeCommand({ FunctionName: 'b', ZipFile: handlerZip('export const handler = 2'), Publish: true }))
  for (const MaxItems of [1, 2, 3, 50]) {
    const all: string[] = []
    for (let Marker: string | undefined = undefined, first = true; first || Marker !== undefined; first = false) {
      const page: { Functions?: { FunctionArn?: string | undefined }[] | undefined; NextMarker?: string | undefined } = await client.send(new ListFunctionsCommand({ FunctionVersion: 'ALL', MaxItems, Marker }))
      t.ok((page.Functions?.length ?? 0) <= MaxItems)
      all.push(...(page.Functions ?? []).map(({ FunctionArn }) => (FunctionArn ?? '').slice(ARN.length)))
      Marker = page.NextMarker
    }
    t.same(all, ['a:$LATEST', 'a:1', 'b:$LATEST', 'b:1', 'b:2', 'c:$LATEST', 'c:1'], `pages of ${MaxItems}`)
  }
  const first = await client.send(new ListFunctionsCommand({ MaxItems: 2 }))
  t.same(first.Functions?.map(({ FunctionName }) => FunctionName), ['a', 'b'])
  t.same((await client.send(new ListFunctionsCommand({ MaxItems: 2, Marker: first.NextMarker }))).Functions?.map(({ FunctionName }) => FunctionName), ['c'])
  const versions = await client.send(new ListVersionsByFunctionCommand({ FunctionName: 'b', MaxItems: 2 }))
  t.same(versions.Versions?.map(({ Version }) => Version), ['$LATEST', '1'])
  t.same((await client.send(new ListVersionsByFunctionCommand({ FunctionName: 'b', Marker: versions.NextMarker }))).Versions?.map(({ Version }) => Version), ['2'])
})

await t.test('invoke runs, and a dry run only asks', async (t) => {
  const { client } = await connect(t)
  await client.send(create('f', { Publish: true }))
  t.equal((await client.send(new InvokeCommand({ FunctionName: 'f', InvocationType: 'DryRun' }))).StatusCode, 204)
  t.match(await failure(client.send(new InvokeCommand({ FunctionName: 'f', Qualifier: '5', InvocationType: 'DryRun' }))), { name: 'ResourceNotFoundException' })
  const ran = await client.send(new InvokeCommand({ FunctionName: `${ARN}f:1`, Payload: '{"a":1}', LogType: 'Tail' }))
  t.match([ran.StatusCode, ran.ExecutedVersion, ran.FunctionError], [200, '1', undefined])
  t.match(JSON.parse(Buffer.from(ran.Payload ?? []).toString()), { version: '1', body: '{"a":1}', url: `${ARN}f:1` })
  t.match(Buffer.from(ran.LogResult ?? '', 'base64').toString(), /hello from the log[\s\S]*REPORT/)
  t.match(await failure(client.send(new InvokeCommand({ FunctionName: 'f', Payload: '{' }))), { name: 'InvalidRequestContentException', status: 400 })
  t.match(await failure(client.send(new InvokeCommand({ FunctionName: 'none' }))), { name: 'ResourceNotFoundException', status: 404 })
})

await t.test('our own members: limits, secrets, priming and routes; secrets are never given back', async (t) => {
  const { url, registry, builder } = await connect(t)
  const call = async (method: string, path: string, body: unknown): Promise<{ status: number; text: string; json: Record<string, unknown> }> => {
    const response = await fetch(`${url}/2015-03-31/functions${path}`, { method, body: JSON.stringify(body), headers: { authorization: 'AWS4-HMAC-SHA256 anything' } })
    const text = await response.text()
    return { status: response.status, text, json: JSON.parse(text) as Record<string, unknown> }
  }
  const ZipFile = Buffer.from(handlerZip('export default { fetch() {} }')).toString('base64')
  const created = await call('POST', '', {
    FunctionName: 'f', Code: { ZipFile },
    Outpost: { Secrets: { TOKEN: 'hunter2-hunter2' }, Prime: ['/warm'], Limits: { CpuMs: 200, SubrequestMax: 3 }, Routes: ['example.com/*'] },
  })
  t.equal(created.status, 201)
  t.match(created.json['Outpost'], {
    ImageId: /^[0-9a-f]{64}$/, HandlerKind: 'fetch', BuildKey: /^000000000000\/f@[0-9a-f]{32}$/, Report: { warnings: ['a warning'] },
    Limits: { CpuMs: 200, SubrequestMax: 3 }, SecretNames: ['TOKEN'], Prime: ['/warm'], Routes: ['example.com/*'],
  })
  const spec = registry.resolve('000000000000', 'f', null)
  t.match(spec, { secrets: { TOKEN: 'hunter2-hunter2' }, limits: { cpuMs: 200 } })
  t.same(builder.requests[0]?.prime, ['/warm'])
  const updated = await call('PUT', '/f/configuration', { Outpost: { Prime: false, Secrets: { TOKEN: 'another-secret', SECOND: 'x' } } })
  t.match(updated.json['Outpost'], { SecretNames: ['SECOND', 'TOKEN'], Prime: [] })
  t.not(registry.resolve('000000000000', 'f', null).key, spec.key, 'a POP that has the old secrets must not run with them')
  const kept = await call('PUT', '/f/configuration', { Timeout: 7 })
  t.match(registry.resolve('000000000000', 'f', null).secrets, { TOKEN: 'another-secret', SECOND: 'x' }, 'secrets stay when nothing is said of them')
  const got = await fetch(`${url}/2015-03-31/functions/f`, { headers: { authorization: 'AWS4-HMAC-SHA256 anything' } }).then((response) => response.text())
  for (const text of [created.text, updated.text, kept.text, got]) t.notMatch(text, /hunter2|another-secret/)
  const bad = await call('PUT', '/f/configuration', { Outpost: { Secrets: { A: 'my-secret-value'.repeat(2_000) } } })
  t.equal(bad.status, 400)
  t.notMatch(bad.text, /my-secret-value/, 'an error does not repeat them either')
  t.match(await call('PUT', '/f/configuration', { Outpost: { Surprise: 1 } }), { status: 400, text: /Surprise/ })
  t.match(await call('PUT', '/f/configuration', { Environment: { Variables: { TOKEN: 'x' } } }), { status: 400, text: /TOKEN is a variable and a secret/ })
  const cleared = await call('PUT', '/f/configuration', { Outpost: { Secrets: {} } })
  t.match(cleared.json['Outpost'], { SecretNames: [] })
  t.same(registry.audit(), [])
})

await t.test('an origin is checked, belongs to the version that was published with it, and stays until it is taken away', async (t) => {
  const { url, client, registry, builder } = await connect(t)
  const put = async (Outpost: unknown): Promise<{ status: number; text: string }> => {
    const response = await fetch(`${url}/2015-03-31/functions/f/configuration`, { method: 'PUT', body: JSON.stringify({ Outpost }), headers: { authorization: 'AWS4-HMAC-SHA256 anything' } })
    return { status: response.status, text: await response.text() }
  }
  const originOf = async (Qualifier: string): Promise<unknown> => {
    const answer = await fetch(`${url}/2015-03-31/functions/f/configuration?Qualifier=${Qualifier}`, { headers: { authorization: 'AWS4-HMAC-SHA256 anything' } })
    return (await answer.json() as { Outpost: { Origin: unknown } }).Outpost.Origin
  }
  await client.send(create('f', { Publish: true }))
  t.equal(await originOf('1'), null)
  for (const bad of ['', 'origin.example', '//origin.example', 'ftp://origin.example', 'https://origin.example/path', 'https://origin.example/?q', 'https://origin.example#a', 'https://user:secret-word@origin.example', 'https://origin.example\\@evil.example', 'https://a b', 'https://a:99999', 'https://%zz', 'https://[::1', `https://${'a'.repeat(300)}`, 7, false]) {
    const refused = await put({ Origin: bad })
    t.match(refused, { status: 400, text: /"message":"1 validation error detected: Outpost\.Origin: .*ERR_PARAMETER/ }, String(bad))
    t.notMatch(refused.text, /secret-word/)
  }
  t.equal(builder.requests.length, 1)
  const before = registry.resolve('000000000000', 'f', null).key
  t.equal((await put({ Origin: 'https://Origin.example:443/' })).status, 200)
  t.equal(builder.requests.at(-1)?.origin, 'https://origin.example')
  t.not(registry.resolve('000000000000', 'f', null).key, before, 'a POP must not run the image of before')
  await client.send(new PublishVersionCommand({ FunctionName: 'f' }))
  await client.send(new CreateAliasCommand({ FunctionName: 'f', Name: 'live', FunctionVersion: '2' }))
  await put({ LatencySensitivity: 'high' })
  t.equal(await originOf('$LATEST'), 'https://origin.example', 'what is not named stays')
  await client.send(new UpdateFunctionCodeCommand({ FunctionName: 'f', ZipFile: handlerZip('export const handler = () => 2') }))
  t.equal(builder.requests.at(-1)?.origin, 'https://origin.example')
  await put({ Origin: 'http://[::1]:8080' })
  t.equal(await originOf('$LATEST'), 'http://[::1]:8080')
  await put({ Origin: null })
  t.same(await Promise.all(['$LATEST', '1', '2', 'live'].map(originOf)), [null, null, 'https://origin.example', 'https://origin.example'])
  await client.send(new UpdateAliasCommand({ FunctionName: 'f', Name: 'live', FunctionVersion: '1' }))
  t.equal(await originOf('live'), null)
  t.same(registry.audit(), [])
})

await t.test('a record from before there were origins has none', async (t) => {
  const { client, registry, builder } = await connect(t)
  await client.send(create('f'))
  await registry.commit('000000000000', 'f', { kind: 'write' }, (transaction) => {
    const record = transaction.function()
    if (record === null) throw new Error('no record')
    const { origin, ...settings } = record.latest.settings
    t.equal(origin, null)
    transaction.putFunction({ ...record, latest: { ...record.latest, settings } })
  })
  t.match(await client.send(new GetFunctionConfigurationCommand({ FunctionName: 'f' })), { FunctionName: 'f' })
  await client.send(new UpdateFunctionConfigurationCommand({ FunctionName: 'f', Timeout: 9 }))
  await client.send(new UpdateFunctionCodeCommand({ FunctionName: 'f', ZipFile: handlerZip('export const handler = () => 2') }))
  t.equal(builder.requests.at(-1)?.origin, null)
  t.match(registry.resolve('000000000000', 'f', null), { limits: { wallMs: 9_000 } })
})

await t.test('with keys, the SDK is let in only with the right one, and sees its own account', async (t) => {
  const clock = new ManualClock(Date.now())
  const accounts = new Map([['AKIDEXAMPLE', '123456789012'], ['AKIDSECOND', '210987654321']])
  const keys = { lookup: (id: string) => (accounts.has(id) ? { secret: `secret of ${id}`, account: accounts.get(id) ?? '' } : null) }
  const { url } = await connect(t, { clock, authenticator: new SigV4Authenticator({ keys, clock }) })
  const client = clientOf(url, { secret: 'secret of AKIDEXAMPLE' })
  const other = clientOf(url, { accessKeyId: 'AKIDSECOND', secret: 'secret of AKIDSECOND' })
  t.match(await failure(clientOf(url, { secret: 'wrong' }).send(create('f'))), { name: 'InvalidSignatureException', status: 403 })
  t.match(await failure(clientOf(url, { accessKeyId: 'AKIDNONE' }).send(create('f'))), { name: 'UnrecognizedClientException', status: 403 })
  t.match(await client.send(create('f', { Publish: true })), { FunctionArn: 'arn:aws:lambda:us-east-1:123456789012:function:f' })
  const arn = 'arn:aws:lambda:us-east-1:123456789012:function:f'
  t.match(await client.send(new GetFunctionConfigurationCommand({ FunctionName: `${arn}:1` })), { Version: '1' })
  t.match(await client.send(new InvokeCommand({ FunctionName: arn, Qualifier: '$LATEST', Payload: '{}' })), { StatusCode: 200 })
  t.match(await failure(other.send(new GetFunctionCommand({ FunctionName: 'f' }))), { name: 'ResourceNotFoundException' })
  t.match(await failure(other.send(new InvokeCommand({ FunctionName: arn }))), { name: 'ResourceNotFoundException' })
  t.same((await other.send(new ListFunctionsCommand({}))).Functions, [])
  clock.advance(60 * 60 * 1000)
  t.match(await failure(client.send(new ListFunctionsCommand({}))), { name: 'InvalidSignatureException', message: /expired or not yet valid/ })
  const retrying = clientOf(url, { secret: 'secret of AKIDEXAMPLE', maxAttempts: 3 })
  t.equal((await retrying.send(new ListFunctionsCommand({}))).Functions?.length, 1, 'an SDK with a wrong clock sets it by our Date and tries again')
})
