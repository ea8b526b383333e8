/** The process of the bare uWebSockets.js peer: the work of fixtures/json-fetch.js on the thread that accepts. Prints its port. */
import { App, us_socket_local_port } from 'uWebSockets.js'

interface Order {
  readonly id: number
  readonly name: string
  readonly values: readonly number[]
}

let calls = 0

App()
  .post('/*', (response) => {
    let body = ''
    response.onAborted(() => {
      body = ''
    })
    response.onData((chunk, isLast) => {
      body += Buffer.from(chunk).toString()
      if (!isLast) return
      const order = JSON.parse(body) as Order
      let sum = 0
      for (const value of order.values) sum += value
      calls += 1
      const answer = JSON.stringify({ id: order.id, sum, name: order.name.toUpperCase(), n: calls })
      response.cork(() => {
        response.writeHeader('content-type', 'application/json')
        response.end(answer)
      })
    })
  })
  .listen('127.0.0.1', 0, (socket) => {
    if (socket === false) throw new Error('cannot listen on 127.0.0.1')
    console.log(JSON.stringify({ port: us_socket_local_port(socket) }))
  })
