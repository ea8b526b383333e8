/**
 * Node's modules: which there are in functions, what each lacks, and where its stand-in is. The table of SPECIFICATION.md is
 * made of this one, and a test compares it with Node's own modules.
 */
import { builtinModules } from 'node:module'
import { siblingModule } from '../module-url.ts'

export interface NodeModule {
  /** Of guest/. */
  readonly entry: URL
  /** What Node's has and this one has not: there, and throwing ERR_METHOD_NOT_IMPLEMENTED when it is called. */
  readonly absent: readonly string[]
}

const here = (entry: URL, absent = ''): NodeModule => ({ entry, absent: absent.split(' ').filter((name) => name !== '') })

export const NODE_MODULES: Readonly<Record<string, NodeModule>> = {
  'assert': here(siblingModule(import.meta.url, './guest/assert'), 'Assert CallTracker partialDeepStrictEqual'),
  'assert/strict': here(siblingModule(import.meta.url, './guest/assert-strict'), 'Assert CallTracker partialDeepStrictEqual'),
  'async_hooks': here(siblingModule(import.meta.url, './guest/async-hooks')),
  'buffer': here(siblingModule(import.meta.url, './guest/buffer'), 'resolveObjectURL'),
  'console': here(siblingModule(import.meta.url, './guest/console'), 'context createTask profile profileEnd timeStamp'),
  'constants': here(siblingModule(import.meta.url, './guest/constants')),
  'crypto': here(siblingModule(import.meta.url, './guest/crypto'), 'Certificate Cipher Decipher DiffieHellman DiffieHellmanGroup ECDH X509Certificate checkPrime checkPrimeSync createDiffieHellman createDiffieHellmanGroup createECDH diffieHellman generateKey generateKeyPair generateKeyPairSync generateKeySync generatePrime generatePrimeSync getCipherInfo getDiffieHellman privateDecrypt privateEncrypt publicDecrypt publicEncrypt secureHeapUsed setEngine setFips'),
  'diagnostics_channel': here(siblingModule(import.meta.url, './guest/diagnostics-channel')),
  'events': here(siblingModule(import.meta.url, './guest/events')),
  'os': here(siblingModule(import.meta.url, './guest/os'), 'freemem getPriority setPriority totalmem userInfo'),
  'path': here(siblingModule(import.meta.url, './guest/path'), 'matchesGlob'),
  'path/posix': here(siblingModule(import.meta.url, './guest/path-posix'), 'matchesGlob'),
  'perf_hooks': here(siblingModule(import.meta.url, './guest/perf-hooks'), 'Performance PerformanceEntry PerformanceMark PerformanceMeasure PerformanceObserver PerformanceObserverEntryList PerformanceResourceTiming createHistogram monitorEventLoopDelay'),
  'process': here(siblingModule(import.meta.url, './guest/process'), 'abort chdir cpuUsage dlopen kill memoryUsage resourceUsage setUncaughtExceptionCaptureCallback'),
  'punycode': here(siblingModule(import.meta.url, './guest/punycode')),
  'querystring': here(siblingModule(import.meta.url, './guest/querystring')),
  'stream': here(siblingModule(import.meta.url, './guest/stream'), 'duplexPair isDestroyed isWritable'),
  'stream/consumers': here(siblingModule(import.meta.url, './guest/stream-consumers')),
  'stream/promises': here(siblingModule(import.meta.url, './guest/stream-promises')),
  'stream/web': here(siblingModule(import.meta.url, './guest/stream-web')),
  'string_decoder': here(siblingModule(import.meta.url, './guest/string-decoder')),
  'timers': here(siblingModule(import.meta.url, './guest/timers')),
  'timers/promises': here(siblingModule(import.meta.url, './guest/timers-promises')),
  'tty': here(siblingModule(import.meta.url, './guest/tty'), 'ReadStream WriteStream'),
  'url': here(siblingModule(import.meta.url, './guest/url'), 'fileURLToPathBuffer'),
  'util': here(siblingModule(import.meta.url, './guest/util'), 'MIMEParams MIMEType diff getCallSite getCallSites getSystemErrorMap getSystemErrorMessage getSystemErrorName parseArgs setTraceSigInt transferableAbortController transferableAbortSignal'),
  'util/types': here(siblingModule(import.meta.url, './guest/util-types')),
}

/** `crypto` of `crypto` and of `node:crypto`; null for what is not here. */
export function nodeModuleName(specifier: string): string | null {
  const name = specifier.startsWith('node:') ? specifier.slice('node:'.length) : specifier
  return Object.hasOwn(NODE_MODULES, name) ? name : null
}

const BUILTINS: ReadonlySet<string> = new Set(builtinModules)

/** A module of Node, whether it is here or not. */
export function isNodeModule(specifier: string): boolean {
  return specifier.startsWith('node:') || BUILTINS.has(specifier)
}
