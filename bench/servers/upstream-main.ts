/** What slow-upstream functions wait for: answers every request after `?ms=` with the `id` of its query. Prints its port. */
import { App, us_socket_local_port } from 'uWebSockets.js'

App()
  .get('/*', (response, request) => {
    const id = request.getQuery('id') ?? ''
    const delayMs = Number(request.getQuery('ms') ?? '1000')
    let isGone = false
    response.onAborted(() => {
      isGone = true
    })
    setTimeout(() => {
      if (!isGone) response.cork(() => response.end(`upstream ${id}`))
    }, delayMs)
  })
  .listen('127.0.0.1', 0, (socket) => {
    if (socket === false) throw new Error('cannot listen on 127.0.0.1')
    console.log(JSON.stringify({ port: us_socket_local_port(socket) }))
  })
