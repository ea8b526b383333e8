/** Whether a port can be listened on, asked by listening: Node shares no ports, so a taken one is refused. */
import { createServer } from 'node:net'
import { CodedError } from '../errors.ts'

export async function isPortFree(port: number, host: string): Promise<boolean> {
  if (port === 0) return true
  return new Promise((done, failed) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') done(false)
      else failed(new CodedError('ERR_ENVIRONMENT', [`Nothing can listen on ${host} port ${port}: ${error.message}`]))
    })
    server.listen({ port, host, exclusive: true }, () => server.close(() => done(true)))
  })
}

/** A port that nobody listens on now. Somebody else may take it before it is used, which then fails like any taken port. */
export async function freePort(host: string): Promise<number> {
  return new Promise((done, failed) => {
    const server = createServer()
    server.once('error', (error) => failed(new CodedError('ERR_ENVIRONMENT', [`Nothing can listen on ${host}: ${error.message}`])))
    server.listen({ port: 0, host }, () => {
      const address = server.address()
      server.close(() => done(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}

/** Throws ERR_PORT_IN_USE. */
export async function requireFreePort(port: number, host: string, option: string): Promise<void> {
  if (!(await isPortFree(port, host))) throw new CodedError('ERR_PORT_IN_USE', [port, option])
}
