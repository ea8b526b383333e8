/** Packages that the stand-ins are made of and that bring no types. */
declare module 'path-browserify' {
  const path: typeof import('node:path').posix & { win32: unknown; toNamespacedPath?: unknown }
  export default path
}
declare module 'events/' {
  const EventEmitter: typeof import('node:events').EventEmitter & { init: (this: object) => void }
  export default EventEmitter
}
declare module 'buffer/' {
  export const Buffer: BufferConstructor
  export const kMaxLength: number
}
declare module 'string_decoder/' {
  export const StringDecoder: typeof import('node:string_decoder').StringDecoder
}
declare module 'readable-stream/lib/stream.js' {
  const stream: typeof import('node:stream') & Record<string, unknown>
  export default stream
}
declare module 'unenv/node/url' {
  export const { domainToASCII, domainToUnicode, fileURLToPath, pathToFileURL, urlToHttpOptions }: typeof import('node:url')
  export const format: (value: string) => string
  export const parse: unknown
  export const resolve: unknown
  export const resolveObject: unknown
  export const Url: unknown
}
declare module 'unenv/node/os' {
  export const constants: object
}
declare module 'unenv/node/punycode' {
  const punycode: typeof import('node:punycode')
  export default punycode
}
declare module 'unenv/node/querystring' {
  const querystring: typeof import('node:querystring')
  export default querystring
}
