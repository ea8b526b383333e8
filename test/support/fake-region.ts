/** A server that answers management calls as told and keeps what it was asked. Speaks plain HTTP, checks no signature. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Asked {
  readonly method: string
  readonly path: string
  readonly headers: NodeJS.Dict<string | string[]>
  readonly body: string
}

export interface FakeAnswer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | object
}

export interface FakeRegion {
  readonly url: string
  readonly asked: readonly Asked[]
  close(): Promise<void>
}

export async function startFakeRegion(answer: (asked: Asked) => FakeAnswer): Promise<FakeRegion> {
  const asked: Asked[] = []
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const one = { method: request.method ?? '', path: request.url ?? '', headers: request.headers, body: Buffer.concat(chunks).toString() }
      asked.push(one)
      const { status, headers = {}, body = '' } = answer(one)
      response.writeHead(status, headers).end(typeof body === 'string' ? body : JSON.stringify(body))
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    asked,
    close: () =>
      new Promise((done) => {
        server.closeAllConnections()
        server.close(() => done())
      }),
  }
}

export function functionAnswer(name: string, more: object = {}): object {
  return { FunctionName: name, FunctionArn: `arn:aws:lambda:us-east-1:000000000000:function:${name}`, Version: '$LATEST', CodeSha256: 'c2hh', ...more }
}
