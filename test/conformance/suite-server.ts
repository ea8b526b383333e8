/** Serves the files of a suite as they are, for tests that fetch them. It has none of the suite's handlers. */
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { extname, join, normalize } from 'node:path'

const TYPES: Readonly<Record<string, string>> = {
  '.js': 'text/javascript', '.json': 'application/json', '.txt': 'text/plain', '.html': 'text/html', '.htm': 'text/html', '.idl': 'text/plain', '.png': 'image/png', '.css': 'text/css', '.xml': 'text/xml',
}

export interface SuiteServer {
  /** Without a slash at its end. */
  readonly origin: string
  readonly port: number
  close(): Promise<void>
}

export async function serveSuite(root: string): Promise<SuiteServer> {
  const server: Server = createServer((request, response) => {
    const path = join(root, normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://suite').pathname)))
    if (!path.startsWith(root) || !existsSync(path) || !statSync(path).isFile() || path.endsWith('.py')) {
      response.writeHead(404).end()
      return
    }
    const own = existsSync(`${path}.headers`) ? readFileSync(`${path}.headers`, 'utf8').split('\n').filter((line) => line.includes(':')).map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()] as const) : []
    response.setHeader('content-type', TYPES[extname(path)] ?? 'application/octet-stream')
    for (const [name, value] of own) response.setHeader(name, value)
    createReadStream(path).pipe(response)
  })
  server.listen(0, '127.0.0.1')
  await new Promise<void>((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  return {
    origin: `http://127.0.0.1:${port}`,
    port,
    close: () => new Promise((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    }),
  }
}
