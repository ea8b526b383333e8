/** The function that `npm start` deploys. Every request gets a fresh machine: `count` is 1 in every answer. */
let count = 0

export default {
  async fetch(request: Request): Promise<Response> {
    count += 1
    const url = new URL(request.url)
    const said: unknown = request.method === 'POST' ? await request.json() : null
    return Response.json({ hello: url.searchParams.get('name') ?? 'world', path: url.pathname, count, said })
  },
}
