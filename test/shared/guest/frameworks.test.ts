/** Whole applications, bundled as a deploy would, answer in the guest as they do in Node. */
import { build } from 'esbuild'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import { Machine } from './harness.ts'

interface Application {
  readonly default: { fetch(request: Request, env: object, ctx: object): Response | Promise<Response> }
}

interface Sent {
  readonly path: string
  readonly method?: string
  readonly headers?: [string, string][]
  readonly body?: string
}

async function bundle(name: string): Promise<string> {
  const result = await build({
    entryPoints: [fileURLToPath(new URL(`../../fixtures/guest/${name}.js`, import.meta.url))],
    bundle: true, write: false, format: 'esm', target: 'es2022', conditions: ['workerd', 'worker', 'browser'], mainFields: ['browser', 'module', 'main'], define: { 'process.env.NODE_ENV': '"production"' }, logLevel: 'silent',
  })
  return result.outputFiles[0]?.text ?? ''
}

async function inNode(application: Application, { path, method = 'GET', headers = [], body }: Sent): Promise<unknown> {
  const request = new Request(`http://app.localhost${path}`, { method, headers, ...(body === undefined ? {} : { body }) })
  const response = await application.default.fetch(request, {}, { waitUntil() {}, passThroughOnException() {} })
  return { status: response.status, headers: [...response.headers], body: await response.text() }
}

function inGuest(machine: Machine, { path, method = 'GET', headers = [], body }: Sent): unknown {
  const implied: [string, string][] = body === undefined || headers.some(([name]) => name === 'content-type') ? [] : [['content-type', 'text/plain;charset=UTF-8']]
  const out = machine.invoke({ url: `http://app.localhost${path}`, method, headers: [...headers, ...implied], ...(body === undefined ? {} : { body }) })
  if (out.failure !== null) return out.failure
  return { status: out.status, headers: [...new Headers(out.headers)], body: out.text }
}

const form: [string, string][] = [['content-type', 'application/x-www-form-urlencoded']]
const json: [string, string][] = [['content-type', 'application/json']]
const multipart = '--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--B\r\nContent-Disposition: form-data; name="b"\r\n\r\ntwo\r\n--B--\r\n'

const JWE = [['RSA-OAEP-256', 'A256GCM'], ['ECDH-ES', 'A128GCM'], ['ECDH-ES+A256KW', 'A256CBC-HS512'], ['A128KW', 'A128CBC-HS256'], ['A256GCMKW', 'A256GCM'], ['dir', 'A256GCM'], ['PBES2-HS256+A128KW', 'A128GCM']] as const

const APPLICATIONS: Readonly<Record<string, readonly Sent[]>> = {
  'hono-app': [
    { path: '/' }, { path: '/json' }, { path: '/html' }, { path: '/users/ada/posts/12' }, { path: '/users/ada/posts/x' }, { path: '/query?a=1&b=2&b=%C3%A9&c' }, { path: '/header', headers: [['x-a', '1'], ['user-agent', 'test']] },
    { path: '/echo', method: 'POST', body: '{"a":[1,{"b":"é"}]}', headers: json }, { path: '/echo', method: 'POST', body: '{', headers: json }, { path: '/text', method: 'POST', body: 'hé' }, { path: '/form', method: 'POST', body: 'a=1&b=%C3%A9', headers: form },
    { path: '/form', method: 'POST', body: multipart, headers: [['content-type', 'multipart/form-data; boundary=B']] }, { path: '/bytes', method: 'POST', body: 'abc' }, { path: '/cookies', headers: [['cookie', 'x=1; y=%C3%A9']] }, { path: '/redirect' },
    { path: '/cors/x', headers: [['origin', 'http://example.com']] }, { path: '/cors/x', method: 'OPTIONS', headers: [['origin', 'http://example.com'], ['access-control-request-method', 'PUT']] },
    { path: '/secure/x' }, { path: '/auth/x' }, { path: '/auth/x', headers: [['authorization', 'Basic YWRhOnNlY3JldA==']] }, { path: '/timed/x' }, { path: '/etag/x' }, { path: '/stream' }, { path: '/stream-text' }, { path: '/sse' },
    { path: '/throw' }, { path: '/boom' }, { path: '/any', method: 'PATCH' }, { path: '/sub/deep' }, { path: '/missing' }, { path: '/', method: 'HEAD' },
  ],
  'jose-app': [
    { path: '/thumbprint' }, ...['HS256', 'HS512', 'RS256', 'PS384', 'ES256', 'ES512', 'EdDSA'].map((alg) => ({ path: `/jws/${alg}` })), ...JWE.map(([alg, enc]) => ({ path: `/jwe/${alg}/${enc}` })),
  ],
  'itty-app': [
    { path: '/' }, { path: '/params/1/2?x=1&y=2&y=3' }, { path: '/params/1' }, { path: '/with/ada' }, { path: '/headers', headers: [['x-a', '1']] }, { path: '/cookies', headers: [['cookie', 'a=1; b=2']] }, { path: '/content', method: 'POST', body: '{"a":1}', headers: json },
    { path: '/content', method: 'POST', body: 'text' }, { path: '/content', method: 'POST', body: 'a=1', headers: form }, { path: '/status' }, { path: '/error' }, { path: '/throw' }, { path: '/json', headers: [['origin', 'http://example.com']] }, { path: '/json', method: 'OPTIONS', headers: [['origin', 'http://example.com']] }, { path: '/missing' },
  ],
}

for (const [name, requests] of Object.entries(APPLICATIONS)) {
  void test(`${name} answers as in Node`, async (t) => {
    const source = await bundle(name)
    const machine = await Machine.create(source)
    const application = (await import(`data:text/javascript;base64,${Buffer.from(source).toString('base64')}`)) as Application
    t.equal(machine.kind, 'fetch')
    for (const sent of requests) {
      void t.test(`${sent.method ?? 'GET'} ${sent.path}${sent.headers === undefined ? '' : ` ${sent.headers.flat().join(' ')}`}`, async (t) => {
        t.same(inGuest(machine, sent), await inNode(application, sent))
      })
    }
  })
}
