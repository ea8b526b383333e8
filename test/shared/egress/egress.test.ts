import { createHash, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import t from 'tap'
import type { Test } from 'tap'
import { systemClock } from '../../../shared/clock.ts'
import { Egress } from '../../../shared/egress/egress.ts'
import type { EgressOptions, EgressRequest, FetchRequest } from '../../../shared/egress/egress.ts'
import { silentLog } from '../../../shared/log.ts'

interface Origin {
  readonly port: number
  readonly url: string
  readonly requests: { readonly method: string; readonly url: string; readonly headers: IncomingMessage['headers']; body: string }[]
  connections: number
}

async function startOrigin(t: Test, handle: (request: IncomingMessage, response: ServerResponse, body: string) => void): Promise<Origin> {
  const server: Server = createServer((request, response) => {
    let body = ''
    request.setEncoding('latin1')
    request.on('data', (chunk: string) => {
      body += chunk
    })
    request.on('end', () => {
      origin.requests.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers, body })
      handle(request, response, body)
    })
  })
  server.maxConnections = 5_000
  server.on('connection', () => (origin.connections += 1))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 5_000, resolve))
  const { port } = server.address() as AddressInfo
  const origin: Origin = { port, url: `http://127.0.0.1:${port}`, requests: [], connections: 0 }
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return origin
}

function makeEgress(t: Test, options: Partial<EgressOptions> = {}): Egress {
  const egress = new Egress({ allowPrivate: true, allowedHosts: [], ownListeners: () => [], clock: systemClock, log: silentLog, ...options })
  t.teardown(() => egress.close())
  return egress
}

interface Answer {
  readonly status: number
  readonly statusText: string
  readonly url: string
  readonly redirected: boolean
  readonly headers: Readonly<Record<string, string>>
  readonly headerText: string
  readonly body: Buffer
}

interface Failure {
  readonly failed: true
  readonly name: string
  readonly message: string
  readonly code: string
}

/** Fetches and reads to the end. */
function fetchAll(egress: Egress, url: string, overrides: Partial<FetchRequest> = {}, onData: (request: EgressRequest) => void = (request) => request.read()): Promise<Answer | Failure> {
  return new Promise((resolve) => {
    const chunks: Uint8Array[] = []
    let head: Omit<Answer, 'body'> | null = null
    const request = egress.start({ account: 'a', method: 'GET', url, redirect: 'follow', headers: '', body: null, ...overrides }, {
      head: (status, statusText, finalUrl, redirected, headerText) => {
        const parts = headerText.split('\n')
        const headers: Record<string, string> = {}
        for (let index = 0; index + 1 < parts.length; index += 2) headers[parts[index] ?? ''] = parts[index + 1] ?? ''
        head = { status, statusText, url: finalUrl, redirected, headers, headerText }
        request.read()
      },
      data: (chunk) => {
        chunks.push(chunk)
        onData(request)
      },
      end: () => {
        if (head !== null) resolve({ ...head, body: Buffer.concat(chunks) })
      },
      fail: (name, message, code) => resolve({ failed: true, name, message, code }),
    })
  })
}

async function fetchOk(egress: Egress, url: string, overrides: Partial<FetchRequest> = {}): Promise<Answer> {
  const answer = await fetchAll(egress, url, overrides)
  if ('failed' in answer) throw new Error(answer.message)
  return answer
}

async function until(condition: () => boolean): Promise<void> {
  const endAtMs = Date.now() + 20_000
  while (!condition()) {
    if (Date.now() > endAtMs) throw new Error('never came')
    await new Promise((resolve) => setImmediate(resolve))
  }
}

t.test('a request goes out as it was made and its answer comes back whole', async (t) => {
  const origin = await startOrigin(t, (_request, response) => {
    response.writeHead(201, 'Made', [['X-One', '1'], ['Set-Cookie', 'a=1'], ['Set-Cookie', 'b=2'], ['X-Latin', 'caf\u00e9']].flat())
    response.end('answer')
  })
  const egress = makeEgress(t)
  const body = randomBytes(100_000)
  const answer = await fetchOk(egress, `${origin.url}/path?q=%20x#hash`, { method: 'post', headers: 'X-Mine\nyes\ncontent-type\ntext/plain', body })
  t.match(answer, { status: 201, statusText: 'Made', url: `${origin.url}/path?q=%20x`, redirected: false })
  t.equal(answer.body.toString(), 'answer')
  t.match(answer.headerText, /set-cookie\na=1\nset-cookie\nb=2/)
  t.equal(answer.headers['x-latin'], 'caf\u00e9')
  t.equal(answer.headers.connection, undefined, 'hop-by-hop headers stay here')
  t.match(origin.requests[0], { method: 'POST', url: '/path?q=%20x', headers: { 'x-mine': 'yes', 'content-type': 'text/plain', 'content-length': '100000', accept: '*/*', 'user-agent': 'outpost' } })
  t.equal(createHash('sha1').update(Buffer.from(origin.requests[0]?.body ?? '', 'latin1')).digest('hex'), createHash('sha1').update(body).digest('hex'))
  t.equal(egress.stats().running, 0)
})

t.test('headers that a function may not set are dropped, malformed ones refused', async (t) => {
  const origin = await startOrigin(t, (_request, response) => response.end())
  const egress = makeEgress(t)
  const forbidden = ['Host', 'evil.example', 'Connection', 'close, x-mine', 'Transfer-Encoding', 'chunked', 'Content-Length', '5', 'Proxy-Authorization', 'x', 'X-Outpost-Hops', '0', 'Upgrade', 'websocket', 'Expect', '100-continue', 'TE', 'trailers', 'Keep-Alive', 'x', 'x-mine', 'yes']
  await fetchOk(egress, origin.url, { headers: forbidden.join('\n') })
  const seen = origin.requests[0]?.headers ?? {}
  t.equal(seen.host, `127.0.0.1:${origin.port}`)
  t.equal(seen['x-mine'], 'yes')
  for (const name of ['transfer-encoding', 'content-length', 'proxy-authorization', 'x-outpost-hops', 'upgrade', 'expect', 'te', 'keep-alive']) t.equal(seen[name], undefined, name)
  for (const headers of ['na me\nx', 'x\na\rb', 'x\na\u0000b', 'x\n\u20ac', 'alone', `x\n${'v'.repeat(40_000)}`, Array.from({ length: 101 }, (_, index) => `h${index}\nv`).join('\n')]) {
    t.match(await fetchAll(egress, origin.url, { headers }), { failed: true, name: 'TypeError', code: 'ERR_FETCH_FAILED' })
  }
  for (const method of ['CONNECT', 'trace', 'GET /x HTTP/1.1\r\nx:', '']) t.match(await fetchAll(egress, origin.url, { method }), { failed: true, code: 'ERR_FETCH_FAILED' })
  t.equal(origin.requests.length, 1)
})

t.test('without an exception nothing of this host or of private networks can be reached', async (t) => {
  const origin = await startOrigin(t, (_request, response) => response.end('secret'))
  const egress = makeEgress(t, { allowPrivate: false })
  const { port } = origin
  const urls = [
    `http://127.0.0.1:${port}/`, `http://127.1:${port}/`, `http://2130706433:${port}/`, `http://0x7f000001:${port}/`, `http://0177.0.0.1:${port}/`, `http://127.0.0.1.:${port}/`, `http://0:${port}/`, `http://0.0.0.0:${port}/`,
    `http://localhost:${port}/`, `http://LOCALHOST:${port}/`, `http://[::1]:${port}/`, `http://[::]:${port}/`, `http://[::ffff:127.0.0.1]:${port}/`, `http://[::ffff:7f00:1]:${port}/`, `http://[::127.0.0.1]:${port}/`,
    `http://[64:ff9b::7f00:1]:${port}/`, `http://[64:ff9b:1::7f00:1]:${port}/`, `http://[2002:7f00:1::]:${port}/`, `http://[2001:0:7f00:1::]:${port}/`, `http://[fe80::1]:${port}/`, `http://[fc00::1]:${port}/`, `http://[fec0::1]:${port}/`, `http://[ff02::1]:${port}/`,
    `http://10.0.0.1:${port}/`, `http://172.16.0.1:${port}/`, `http://192.168.0.1:${port}/`, `http://169.254.169.254/latest/meta-data/`, `http://100.64.0.1/`, `http://224.0.0.1/`, `http://255.255.255.255/`, `http://198.18.0.1/`,
    `https://127.0.0.1:${port}/`, `http://\u2460\u2461\u2466.0.0.1:${port}/`, `http://127\u30020\u30020\u30021:${port}/`,
  ]
  for (const url of urls) {
    const answer = await fetchAll(egress, url)
    t.match(answer, { failed: true, name: 'TypeError', code: 'ERR_FETCH_FORBIDDEN' }, url)
  }
  t.equal(origin.requests.length, 0)
  t.equal(origin.connections, 0, 'not even connected to')
  for (const url of ['file:///etc/passwd', 'ftp://127.0.0.1/', 'data:text/plain,x', 'javascript:1', 'nonsense', '/relative', 'http://user:secret@127.0.0.1/', 'http://127.0.0.1:99999/', `http://x/${'y'.repeat(20_000)}`]) {
    const answer = await fetchAll(egress, url)
    t.match(answer, { failed: true, code: 'ERR_FETCH_FAILED' }, url.slice(0, 40))
    if ('failed' in answer) t.notMatch(answer.message, /secret/)
  }
})

t.test('an exception opens one host and port, as written, and no other', async (t) => {
  const origin = await startOrigin(t, (_request, response) => response.end('ok'))
  const other = await startOrigin(t, (_request, response) => response.end('no'))
  const egress = makeEgress(t, { allowPrivate: false, allowedHosts: [`127.0.0.1:${origin.port}`, `LocalHost:${origin.port}`] })
  t.equal((await fetchOk(egress, origin.url)).body.toString(), 'ok')
  t.equal((await fetchOk(egress, `http://2130706433:${origin.port}`)).body.toString(), 'ok', 'the URL parser makes it the same host')
  t.equal((await fetchOk(egress, `http://localhost:${origin.port}`)).body.toString(), 'ok')
  t.match(await fetchAll(egress, other.url), { code: 'ERR_FETCH_FORBIDDEN' })
  t.match(await fetchAll(egress, `http://127.0.0.2:${origin.port}`), { code: 'ERR_FETCH_FORBIDDEN' })
})

t.test('the ports that this host listens on are refused whatever is allowed', async (t) => {
  const own = await startOrigin(t, (_request, response) => response.end('control plane'))
  const egress = makeEgress(t, { allowedHosts: [`127.0.0.1:${own.port}`], ownListeners: () => [{ port: own.port }] })
  for (const host of ['127.0.0.1', 'localhost', '127.9.9.9', '0.0.0.0', '[::ffff:127.0.0.1]']) t.match(await fetchAll(egress, `http://${host}:${own.port}/`), { code: 'ERR_FETCH_FORBIDDEN', message: /this host itself/ }, host)
  t.equal(own.connections, 0)
})

t.test('an address of this host is private though it looks public', async (t) => {
  const egress = makeEgress(t, { allowPrivate: false, ownAddresses: () => ['8.8.4.4', '2001:4860:4860::8844'] })
  for (const host of ['8.8.4.4', '[2001:4860:4860::8844]']) t.match(await fetchAll(egress, `http://${host}/`), { code: 'ERR_FETCH_FORBIDDEN', message: /this host itself/ }, host)
})

t.test('ports of other protocols are refused, whatever address they are at, unless the operator names them', async (t) => {
  const egress = makeEgress(t, { allowedHosts: ['localhost:6667'] })
  for (const port of [1, 22, 25, 110, 465, 587, 6667, 10080]) t.match(await fetchAll(egress, `http://127.0.0.1:${port}/`), { code: 'ERR_FETCH_FORBIDDEN', message: /another protocol/ }, String(port))
  t.match(await fetchAll(egress, 'http://localhost:6667/'), { code: 'ERR_FETCH_FAILED' })
})

t.test('a redirect to a forbidden address is refused at that hop', async (t) => {
  const secret = await startOrigin(t, (_request, response) => response.end('secret'))
  const targets = [`http://127.0.0.1:${secret.port}/`, `http://localhost:${secret.port}/`, `//[::ffff:127.0.0.1]:${secret.port}/`, 'http://169.254.169.254/']
  const origin = await startOrigin(t, (request, response) => {
    response.writeHead(302, { location: targets[Number((request.url ?? '').slice(1))] ?? '' })
    response.end()
  })
  const egress = makeEgress(t, { allowPrivate: false, allowedHosts: [`127.0.0.1:${origin.port}`] })
  for (const index of targets.keys()) t.match(await fetchAll(egress, `${origin.url}/${index}`), { failed: true, code: 'ERR_FETCH_FORBIDDEN' }, String(targets[index]))
  t.equal(secret.connections, 0)
  t.match(await fetchAll(egress, `${origin.url}/9`), { failed: true }, 'a redirect to nowhere leads to itself and ends')
  t.equal(egress.stats().running, 0)
})

t.test('a redirect whose own body never ends is cut off when the fetch is over', async (t) => {
  let closed = 0
  const origin = await startOrigin(t, (request, response) => {
    if (request.url === '/end') return void response.end('end')
    response.on('close', () => (closed += 1))
    response.writeHead(302, { location: request.url === '/1' ? '/2' : request.url === '/2' ? '/end' : 'http://[' })
    response.write('a drop')
  })
  const egress = makeEgress(t)
  t.equal((await fetchOk(egress, `${origin.url}/1`)).body.toString(), 'end')
  await until(() => closed === 2)
  t.match(await fetchAll(egress, `${origin.url}/3`), { failed: true })
  await until(() => closed === 3)
})

t.test('redirects change method, body and headers as browsers do', async (t) => {
  const second = await startOrigin(t, (_request, response) => response.end('second'))
  const origin = await startOrigin(t, (request, response) => {
    const [, status, where] = (request.url ?? '').split('/')
    if (status === 'done') return response.end('done')
    response.writeHead(Number(status), { location: where === 'other' ? `${second.url}/` : '../done' })
    return response.end('moved '.repeat(100))
  })
  const egress = makeEgress(t)
  const headers = 'authorization\nBearer x\ncookie\na=b\ncontent-type\ntext/plain\nx-mine\nyes'
  for (const [status, method, thenMethod, keepsBody] of [
    [301, 'POST', 'GET', false], [302, 'POST', 'GET', false], [303, 'POST', 'GET', false], [303, 'PUT', 'GET', false], [301, 'PUT', 'PUT', true], [307, 'POST', 'POST', true], [308, 'PATCH', 'PATCH', true], [303, 'HEAD', 'HEAD', true], [302, 'GET', 'GET', true],
  ] as const) {
    origin.requests.length = 0
    const body = method === 'GET' || method === 'HEAD' ? null : Buffer.from('payload')
    const answer = await fetchOk(egress, `${origin.url}/${status}/same`, { method, headers, body })
    t.match(answer, { status: 200, redirected: true, url: `${origin.url}/done` }, `${status} ${method}`)
    t.match(origin.requests[1], { method: thenMethod, body: keepsBody && body !== null ? 'payload' : '', headers: { authorization: 'Bearer x', cookie: 'a=b', 'x-mine': 'yes' } })
    t.equal(origin.requests[1]?.headers['content-type'], keepsBody ? 'text/plain' : undefined)
  }
  await fetchOk(egress, `${origin.url}/307/other`, { method: 'POST', headers, body: Buffer.from('payload') })
  t.match(second.requests[0], { method: 'POST', body: 'payload', headers: { 'x-mine': 'yes', 'content-type': 'text/plain' } })
  t.equal(second.requests[0]?.headers.authorization, undefined, 'credentials stay with their origin')
  t.equal(second.requests[0]?.headers.cookie, undefined)
  const manual = await fetchOk(egress, `${origin.url}/302/same`, { redirect: 'manual' })
  t.match(manual, { status: 302, redirected: false, headers: { location: '../done' } })
  t.match(await fetchAll(egress, `${origin.url}/302/same`, { redirect: 'error' }), { failed: true, name: 'TypeError', code: 'ERR_FETCH_FAILED' })
})

t.test('a loop of redirects ends after twenty', async (t) => {
  const origin = await startOrigin(t, (request, response) => {
    response.writeHead(302, { location: `/${Number((request.url ?? '').slice(1)) + 1}` })
    response.end()
  })
  const egress = makeEgress(t)
  t.match(await fetchAll(egress, `${origin.url}/0`), { failed: true, message: /more than 20 times/ })
  t.equal(origin.requests.length, 21)
  t.ok(origin.connections <= 2, 'connections are used again')
  const bad = await startOrigin(t, (_request, response) => {
    response.writeHead(302, { location: 'file:///etc/passwd' })
    response.end()
  })
  t.match(await fetchAll(egress, bad.url), { failed: true, message: /only http and https/ })
})

t.test('compressed content is decoded, whatever the coding', async (t) => {
  const text = 'some text that compresses well '.repeat(20_000)
  const codings: Record<string, (input: Buffer) => Buffer> = {
    gzip: gzipSync, 'x-gzip': gzipSync, deflate: deflateSync, br: brotliCompressSync, GZIP: gzipSync, 'gzip, br': (input) => brotliCompressSync(gzipSync(input)), 'deflate, gzip': (input) => gzipSync(deflateRawSync(input)),
  }
  const origin = await startOrigin(t, (request, response) => {
    const coding = decodeURIComponent((request.url ?? '').slice(1))
    const body = coding === 'raw' ? deflateRawSync(text) : coding === 'empty' ? Buffer.alloc(0) : coding === 'unknown' ? Buffer.from('as it is') : codings[coding]?.(Buffer.from(text))
    response.writeHead(200, { 'content-encoding': coding === 'raw' ? 'deflate' : coding === 'empty' ? 'gzip' : coding, 'content-length': String(body?.length) })
    response.end(body)
  })
  const egress = makeEgress(t)
  for (const coding of [...Object.keys(codings), 'raw']) {
    const answer = await fetchOk(egress, `${origin.url}/${encodeURIComponent(coding)}`)
    t.equal(answer.body.toString(), text, coding)
    t.equal(answer.headers['content-encoding'], undefined)
    t.equal(answer.headers['content-length'], undefined)
  }
  t.equal((await fetchOk(egress, `${origin.url}/empty`)).body.length, 0)
  const unknown = await fetchOk(egress, `${origin.url}/unknown`)
  t.equal(unknown.body.toString(), 'as it is')
  t.equal(unknown.headers['content-encoding'], 'unknown', 'what we cannot undo is passed on as it is')
  t.equal((await fetchOk(egress, `${origin.url}/gzip`, { method: 'HEAD' })).headers['content-encoding'], 'gzip')
  t.equal(origin.requests[0]?.headers['accept-encoding'], 'gzip, deflate')
})

t.test('content that is not what it says, and a bomb at any stage, fail', async (t) => {
  const bomb = gzipSync(Buffer.alloc(30_000_000))
  const inner = gzipSync(gzipSync(Buffer.alloc(30_000_000)))
  const origin = await startOrigin(t, (request, response) => {
    const kind = request.url ?? ''
    response.writeHead(200, { 'content-encoding': kind === '/inner' ? 'gzip, gzip' : kind === '/br' ? 'br' : 'gzip' })
    response.end(kind === '/bomb' ? bomb : kind === '/inner' ? inner : kind === '/br' ? brotliCompressSync(Buffer.alloc(30_000_000)) : Buffer.from('not compressed at all'))
  })
  const egress = makeEgress(t, { decompressedMaxBytes: 1_000_000 })
  for (const kind of ['bomb', 'inner', 'br']) t.match(await fetchAll(egress, `${origin.url}/${kind}`), { failed: true, code: 'ERR_FETCH_FAILED', message: /unpacks to more than 1000000 bytes/ }, kind)
  t.match(await fetchAll(egress, `${origin.url}/lie`), { failed: true, code: 'ERR_FETCH_FAILED', message: /not what its Content-Encoding says/ })
  t.equal(egress.stats().running, 0)
})

t.test('brotli is not offered, and its decoders are bounded for an account and for all', async (t) => {
  const bomb = brotliCompressSync(Buffer.alloc(32 << 20))
  const origin = await startOrigin(t, (_request, response) => {
    response.writeHead(200, { 'content-encoding': 'br' })
    response.end(bomb)
  })
  const egress = makeEgress(t)
  const open: EgressRequest[] = []
  const begin = (account: string): Promise<string> => new Promise((resolve) => {
    const request = egress.start({ account, method: 'GET', url: origin.url, redirect: 'follow', headers: 'accept-encoding\ngzip, br;q=1.0', body: null }, {
      head: () => resolve('head'), data: () => undefined, end: () => undefined, fail: (_name, message, code) => resolve(`${code} ${message}`),
    })
    open.push(request)
  })
  for (let at = 0; at < 8; at++) t.equal(await begin('greedy'), 'head')
  t.match(await begin('greedy'), /^ERR_FETCH_FAILED .*too many brotli/)
  for (let at = 0; at < 24; at++) t.equal(await begin(`account ${at}`), 'head')
  t.match(await begin('late'), /^ERR_FETCH_FAILED .*too many brotli/)
  t.equal(origin.requests[0]?.headers['accept-encoding'], 'gzip')
  for (const request of open) request.abort()
  t.equal(await begin('greedy'), 'head', 'what ended gives its room back')
  open.at(-1)?.abort()
  t.equal((await fetchOk(egress, origin.url, { account: 'greedy' })).body.length, 32 << 20)
  for (let at = 0; at < 8; at++) t.equal(await begin('greedy'), 'head', 'and so does what was read to its end')
  t.equal(egress.stats().running, 8)
})

t.test('a body flows only as it is read', async (t) => {
  let written = 0
  const total = 64 * 1024 * 1024
  const origin = await startOrigin(t, (_request, response) => {
    const chunk = Buffer.alloc(64 * 1024, 5)
    const more = (): void => {
      while (written < total) {
        written += chunk.length
        if (!response.write(chunk)) return void response.once('drain', more)
      }
      response.end()
    }
    more()
  })
  const egress = makeEgress(t)
  let request: EgressRequest | null = null
  let headSeen = false
  let pieces = 0
  let ended = false
  let receivedBytes = 0
  request = egress.start({ account: 'a', method: 'GET', url: origin.url, redirect: 'follow', headers: '', body: null }, {
    head: () => {
      headSeen = true
    },
    data: (chunk) => {
      pieces += 1
      receivedBytes += chunk.length
      t.equal(chunk.buffer.byteLength === chunk.length || pieces > 3, true)
      if (pieces > 1) request?.read()
    },
    end: () => {
      ended = true
    },
    fail: (_name, message) => t.fail(message),
  })
  await until(() => headSeen)
  let stalledAt = -1
  // The origin stops once the buffers of both sockets are full.
  for (let turn = 0; turn < 50 || stalledAt !== written; turn += 1) {
    stalledAt = written
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  t.ok(written < total / 2, `the origin could write ${written} bytes`)
  t.equal(pieces, 0, 'nothing is handed out unasked')
  request.read()
  request.read()
  await until(() => pieces === 1)
  await new Promise((resolve) => setImmediate(resolve))
  t.equal(pieces, 1, 'one piece for one question')
  request.read()
  await until(() => ended)
  t.equal(receivedBytes, total)
  request.read()
  t.equal(egress.stats().running, 0)
})

t.test('a slow reader of compressed content gets it piece by piece', async (t) => {
  const content = randomBytes(3_000_000)
  const origin = await startOrigin(t, (_request, response) => {
    response.writeHead(200, { 'content-encoding': 'gzip' })
    response.end(gzipSync(content))
  })
  const egress = makeEgress(t)
  const answer = await fetchAll(egress, origin.url, {}, (request) => void setImmediate(() => request.read()))
  t.ok('body' in answer && answer.body.equals(content))
})

t.test('an aborted request says nothing more, and its origin sees the end', async (t) => {
  let closed = 0
  const origin = await startOrigin(t, (request, response) => {
    response.on('close', () => (closed += 1))
    if (request.url !== '/silent') response.write('beginning')
  })
  const egress = makeEgress(t)
  const start = (path: string, heard: string[]): EgressRequest => egress.start({ account: 'a', method: 'GET', url: `${origin.url}${path}`, redirect: 'follow', headers: '', body: null }, {
    head: () => void heard.push('head'), data: () => void heard.push('data'), end: () => void heard.push('end'), fail: () => void heard.push('fail'),
  })
  const atOnce: string[] = []
  const first = start('/silent', atOnce)
  first.abort()
  first.abort()
  const waiting: string[] = []
  const second = start('/silent', waiting)
  await until(() => origin.requests.length === 1)
  second.abort()
  await until(() => closed === 1)
  const reading: string[] = []
  const third = start('/body', reading)
  await until(() => reading.length === 1)
  third.read()
  await until(() => reading.length === 2)
  third.read()
  third.abort()
  await until(() => closed === 2)
  t.strictSame([atOnce, waiting, reading], [[], [], ['head', 'data']])
  t.equal(egress.stats().running, 0)
})

t.test('what goes wrong on the way is told with its reason', async (t) => {
  const cut = await startOrigin(t, (request, response) => {
    if (request.url === '/cut') {
      response.writeHead(200, { 'content-length': '1000' })
      response.write('half')
      setImmediate(() => request.socket.destroy())
    } else if (request.url === '/headers') response.writeHead(200, { 'x-large': 'v'.repeat(100_000) }).end()
    else request.socket.destroy()
  })
  const closedPort = await new Promise<number>((resolve) => {
    const server = createTcpServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
  const egress = makeEgress(t)
  t.match(await fetchAll(egress, `http://127.0.0.1:${closedPort}/?token=secret`), { failed: true, name: 'TypeError', code: 'ERR_FETCH_FAILED', message: `fetch to http://127.0.0.1:${closedPort}/ failed: the connection was refused` })
  t.match(await fetchAll(egress, 'http://name.invalid/'), { failed: true, message: /its name (does not resolve|cannot be resolved now)/ })
  t.match(await fetchAll(egress, `${cut.url}/cut`), { failed: true, code: 'ERR_FETCH_FAILED' })
  t.match(await fetchAll(egress, `${cut.url}/headers`), { failed: true, message: /headers of its answer are too large/ })
  cut.requests.length = 0
  t.match(await fetchAll(egress, `${cut.url}/`), { failed: true, message: /connection was closed/ })
  t.equal(cut.requests.length, 2, 'what is safe to repeat was sent once more')
  t.match(await fetchAll(egress, `${cut.url}/`, { method: 'POST' }), { failed: true })
  t.equal(cut.requests.length, 3, 'a POST was not')
})

t.test('https is spoken to https URLs, and redirects are read as UTF-8', async (t) => {
  const origin = await startOrigin(t, (request, response) => {
    if (request.url === '/') response.writeHead(302, { location: Buffer.from('/caf\u00e9').toString('latin1') })
    response.end()
  })
  const egress = makeEgress(t)
  const answer = await fetchAll(egress, `https://localhost:${origin.port}/`)
  t.match(answer, { failed: true, code: 'ERR_FETCH_FAILED' }, 'an origin without TLS cannot answer it')
  t.equal(origin.requests.length, 0)
  t.equal((await fetchOk(egress, `${origin.url}/`)).url, `${origin.url}/caf%C3%A9`)
})

t.test('a body that breaks while nobody reads is told at the next read', async (t) => {
  const origin = await startOrigin(t, (request, response) => {
    response.writeHead(200, { 'content-length': '1000' })
    response.write('half')
    setImmediate(() => request.socket.destroy())
  })
  const egress = makeEgress(t)
  const heard: string[] = []
  const request = egress.start({ account: 'a', method: 'GET', url: origin.url, redirect: 'follow', headers: '', body: null }, {
    head: () => void heard.push('head'), data: () => void heard.push('data'), end: () => void heard.push('end'), fail: () => void heard.push('fail'),
  })
  await until(() => heard.length === 1)
  for (let reads = 1; !heard.includes('fail'); reads += 1) {
    t.ok(reads < 5)
    const before = heard.length
    request.read()
    await until(() => heard.length > before)
  }
  t.equal(heard.at(-1), 'fail')
  t.equal(egress.stats().running, 0)
})

t.test('2,000 requests to one slow origin are under way at once', async (t) => {
  const waiting: ServerResponse[] = []
  const origin = await startOrigin(t, (_request, response) => {
    waiting.push(response)
    if (waiting.length === 2_000) for (const each of waiting) each.end('late')
  })
  const egress = makeEgress(t)
  const answers = await Promise.all(Array.from({ length: 2_000 }, () => fetchOk(egress, `http://localhost:${origin.port}/`)))
  t.ok(answers.every((answer) => answer.body.toString() === 'late'))
  t.equal(egress.stats().running, 0)
})

t.test('accounts share no connection, and their number is bounded', async (t) => {
  const origin = await startOrigin(t, (_request, response) => response.end('x'))
  const egress = makeEgress(t, { accountsMax: 2 })
  for (const account of ['a', 'a', 'b', 'a']) {
    await fetchOk(egress, origin.url, { account })
    // undici takes its connection back when it has told of the end.
    await new Promise((resolve) => setImmediate(resolve))
  }
  t.equal(origin.connections, 2)
  await fetchOk(egress, origin.url, { account: 'c' })
  t.equal(egress.stats().accounts, 2)
  await fetchOk(egress, origin.url, { account: 'a' })
  t.equal(origin.connections, 3, 'the least recently used one was pushed out')
})

t.test('beyond the bounds a request waits or is refused', async (t) => {
  const held: ServerResponse[] = []
  const origin = await startOrigin(t, (_request, response) => void held.push(response))
  const egress = makeEgress(t, { connectionsPerOriginMax: 1, requestsMax: 4 })
  const first = fetchOk(egress, origin.url)
  const second = fetchOk(egress, origin.url)
  t.match(await fetchAll(egress, origin.url), { failed: true, code: 'ERR_QUEUE_FULL' })
  await until(() => held.length === 1)
  held[0]?.end()
  await until(() => held.length === 2)
  held[1]?.end()
  await Promise.all([first, second])
  t.equal(origin.connections, 1)
  await egress.close()
  t.match(await fetchAll(egress, origin.url), { failed: true, code: 'ERR_DRAINING' })
})

t.test('an account that has as many requests under way, or as much in their bodies, as it may leaves others theirs', async (t) => {
  const held: ServerResponse[] = []
  const origin = await startOrigin(t, (_request, response) => void held.push(response))
  const egress = makeEgress(t, { requestsMax: 12, bodiesMaxBytes: 1_000 })
  const post = (account: string, bytes: number): Promise<unknown> => fetchAll(egress, origin.url, { account, method: 'POST', body: new Uint8Array(bytes) })
  const greedy = Array.from({ length: 6 }, () => post('greedy', 50))
  t.match(await post('greedy', 50), { failed: true, code: 'ERR_QUEUE_FULL' })
  const large = post('large', 350)
  t.match(await post('large', 1), { failed: true, code: 'ERR_LIMIT_OPERATIONS' }, 'it has as much as is left')
  const other = post('other', 100)
  await until(() => held.length === 8)
  for (const response of held) response.end()
  for (const answer of await Promise.all([...greedy, large, other])) t.match(answer, { status: 200 })
  const again = post('greedy', 400)
  await until(() => held.length === 9)
  held[8]?.end()
  t.match(await again, { status: 200 })
})
