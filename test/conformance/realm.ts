/**
 * The scripts that stand around a test inside its realm, in a guest as in Node: what a page would have and a server-side
 * realm has not (`location`, `GLOBAL`), and the end of testharness.js made into a report.
 */

/** Before testharness.js. `here` is the test's address, variant included. */
export const REALM_SETUP = `
(here) => {
  const { href, origin, protocol, host, hostname, port, pathname, search, hash } = new URL(here)
  const location = { href, origin, protocol, host, hostname, port, pathname, search, hash, toString: () => href }
  const define = (name, value) => Object.defineProperty(globalThis, name, { value, writable: true, configurable: true })
  define('location', location)
  define('self', globalThis)
  define('GLOBAL', { isWindow: () => false, isWorker: () => false, isShadowRealm: () => false })
  // Scripts that a worker imports run before it: see suite.ts.
  define('importScripts', () => undefined)
  // What interfaces a realm must have is asked of its name there; \`[Exposed=*]\` is all that this decides.
  if (pathname.includes('idlharness')) define('Window', Object.getPrototypeOf(globalThis).constructor)
  return href
}`

/** After testharness.js: calls `report` once. Tests that do not end within \`timeoutMs\` are reported as such. */
export const REALM_REPORT = `
(timeoutMs, report) => {
  const { setTimeout, clearTimeout } = globalThis
  let timer = 0
  add_completion_callback((tests, { status, message }) => {
    clearTimeout(timer)
    const text = (value) => (value === null || value === undefined ? null : String(value))
    report({ status, message: text(message), subtests: tests.map((test) => ({ name: String(test.name), status: test.status, message: text(test.message) })) })
  })
  timer = setTimeout(() => {
    if (typeof timeout === 'function') timeout()
    else report({ status: 2, message: 'timeout', subtests: [] })
  }, timeoutMs)
}`

/**
 * A guest has no address of its own, so relative URLs mean nothing to it: in its realm they are resolved before they
 * reach the classes under test. Node is told its address by undici's own symbol.
 */
export const GUEST_BASE = `
(base) => {
  const absolute = (input) => (input instanceof Request || input instanceof URL ? input : new URL(input, base).href)
  const withBase = (target) => new Proxy(target, {
    construct: (target, args, newTarget) => Reflect.construct(target, args.length === 0 ? args : [absolute(args[0]), ...args.slice(1)], newTarget === proxy ? target : newTarget),
  })
  const { fetch, Request: Native } = globalThis
  const proxy = withBase(Native)
  const define = (target, name, value) => Object.defineProperty(target, name, { value, writable: true, configurable: true })
  define(globalThis, 'Request', proxy)
  define(Native.prototype, 'constructor', proxy)
  const based = { fetch: (...args) => {
    try {
      return fetch(...(args.length === 0 ? args : [absolute(args[0]), ...args.slice(1)]))
    } catch (error) {
      return Promise.reject(error)
    }
  } }.fetch
  Object.defineProperty(based, 'length', { value: 1, configurable: true })
  define(globalThis, 'fetch', based)
  const { redirect } = Response
  define(Response, 'redirect', { redirect: (...args) => redirect.apply(Response, args.length === 0 ? args : [new URL(args[0], base).href, ...args.slice(1)]) }.redirect)
}`
