/**
 * Applications over popular packages, put into service as `outpost deploy` does and asked at a hot POP, answer as the same bundle does
 * in Node. The rows of COMPATIBILITY.md are what ran here: `OUTPOST_WRITE_COMPATIBILITY=1` writes them, otherwise they must agree.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import t from 'tap'
import { bundle, bundleOptions } from '../../shared/cli/bundle.ts'
import { deployFunction } from '../../shared/cli/deployment.ts'
import { zipBundle } from '../../shared/cli/zip.ts'
import { APPLICATIONS, type Application, type Asked } from '../fixtures/frameworks/requests.ts'
import { ofApplication, readRows, renderPage, type Row } from '../support/compatibility-page.ts'
import { eventually } from '../support/dev-server.ts'
import { call, startSite, type Site, type Tier } from '../support/site.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PAGE = new URL('../../COMPATIBILITY.md', import.meta.url)
const FOLDER = 'test/fixtures/frameworks'
/** As many as a region builds at once. */
const DEPLOY_PARALLEL = 2
/** Of the connection, or of the platform: no application sets them. */
const NOT_THE_APPLICATIONS = /^(date|connection|keep-alive|transfer-encoding|content-length|uwebsockets|x-outpost-.*)$/

// What a guest has; and the name that `process.env` becomes in a bundle.
process.env['TZ'] = 'UTC'
Object.assign(globalThis, { __OUTPOST_ENV__: {} })

interface Answer {
  readonly status: number
  readonly headers: readonly (readonly [string, string])[]
  readonly body: string
}

interface Ready {
  readonly application: Application
  readonly name: string
  readonly bundleKib: number
  readonly inNode: (asked: Asked) => Promise<Answer>
}

await t.test('applications answer at a hot POP as in Node', async (t) => {
  const site = await startSite(t, { pop: ['--hot-min-requests', '1'] })
  const waiting = [...APPLICATIONS]
  const ready: Ready[] = []
  await Promise.all(Array.from({ length: DEPLOY_PARALLEL }, async () => {
    for (let application = waiting.shift(); application !== undefined; application = waiting.shift()) ready.push(await putIntoService(site, application))
  }))
  const rows: Row[] = []
  for (const application of APPLICATIONS) {
    const one = ready.find((other) => other.application === application)
    if (one === undefined) throw new Error(`${application.file} is not in service`)
    await t.test(application.packages[0], async (t) => {
      if (application.cpuMs === undefined) await eventually(() => call(site.pop, one.name), ({ place }) => place === 'pop', 60_000)
      for (const asked of application.requests) {
        const { place, ...answer } = await askPop(site.pop, one.name, asked)
        const title = `${asked.method ?? 'GET'} ${asked.path} ${asked.headers === undefined ? '' : JSON.stringify(asked.headers)}`
        t.match(place, application.cpuMs === undefined ? /^pop$/ : /^(?:pop|region; reason=heavy)$/, title)
        t.same(answer, await one.inNode(asked), title)
      }
    })
    rows.push(ofApplication(application, one.bundleKib))
  }
  await t.test('COMPATIBILITY.md says what ran', async (t) => {
    if (process.env['OUTPOST_WRITE_COMPATIBILITY'] === '1') writeFileSync(PAGE, renderPage(rows))
    const withoutSizes = (all: readonly Row[]): readonly object[] => all.map(({ bundleKib: _, ...rest }) => rest)
    t.same(withoutSizes(readRows(readFileSync(PAGE, 'utf8'))), withoutSizes(rows), 'if what ran is right: OUTPOST_WRITE_COMPATIBILITY=1 tap run test/system/frameworks.test.ts')
  })
})

/** Bundled as a deploy does it: for the region with libraries split off as layers, for Node in one piece. */
async function putIntoService(site: Site, application: Application): Promise<Ready> {
  const name = application.file.replace(/\..*$/, '')
  const entry = `${FOLDER}/${application.file}`
  const made = await bundle(entry, ROOT)
  await deployFunction(site.api('region'), { name, zip: zipBundle(made), members: application.cpuMs === undefined ? {} : { Outpost: { Limits: { CpuMs: application.cpuMs } } }, publish: false, alias: null })
  // The first answer is the region's; it makes the POP fetch the image.
  await call(site.pop, name)
  const plain = await build({ ...bundleOptions(entry, ROOT), sourcemap: false })
  const source = Buffer.from(plain.outputFiles[0]?.contents ?? [])
  const inNodeSource = application.nodeModules === true ? await bundleForNode(entry) : source
  const module = (await import(`data:text/javascript;base64,${inNodeSource.toString('base64')}`)) as { default: { fetch(request: Request, env: object, context: object): Response | Promise<Response> } }
  const inNode = async ({ path, method = 'GET', headers = {}, body }: Asked): Promise<Answer> => {
    // A guest sees the host that the client named, and no `/fn/NAME`.
    const request = new Request(`${site.pop.url}${path}`, { method, headers, redirect: 'manual', ...(body === undefined ? {} : { body }) })
    const response = await module.default.fetch(request, {}, { waitUntil: () => undefined, passThroughOnException: () => undefined })
    return { status: response.status, headers: applicationsOwn(response.headers), body: method === 'HEAD' ? '' : await response.text() }
  }
  return { application, name, bundleKib: Math.round(source.byteLength / 1024), inNode }
}

async function bundleForNode(entry: string): Promise<Buffer> {
  const banner = { js: 'const require = process.getBuiltinModule("module").createRequire(process.cwd() + "/")' }
  const { outputFiles } = await build({ absWorkingDir: ROOT, entryPoints: [entry], bundle: true, write: false, format: 'esm', platform: 'node', target: 'es2023', charset: 'utf8', logLevel: 'silent', banner })
  return Buffer.from(outputFiles[0]?.contents ?? [])
}

/** Over a plain socket: `fetch` would send headers of its own. */
function askPop({ url }: Tier, name: string, { path, method = 'GET', headers = {}, body }: Asked): Promise<Answer & { readonly place: string | null }> {
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest(`${url}/fn/${name}${path}`, { method, headers: { ...headers, ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }) } }, (incoming) => {
      const received = new Headers()
      for (let at = 0; at < incoming.rawHeaders.length; at += 2) received.append(incoming.rawHeaders[at] ?? '', incoming.rawHeaders[at + 1] ?? '')
      const chunks: Buffer[] = []
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
      incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, headers: applicationsOwn(received), body: Buffer.concat(chunks).toString(), place: received.get('x-outpost-place') }))
      incoming.on('error', reject)
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

function applicationsOwn(headers: Headers): readonly (readonly [string, string])[] {
  return [...headers].filter(([name]) => !NOT_THE_APPLICATIONS.test(name))
}
