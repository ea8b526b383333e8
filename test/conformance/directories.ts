/** What of the suite is run, and what has to be reached. */

/** Each has an expectation file. */
export const DIRECTORIES: readonly string[] = [
  'url', 'encoding', 'streams',
  'WebCryptoAPI/digest', 'WebCryptoAPI/sign_verify', 'WebCryptoAPI/encrypt_decrypt', 'WebCryptoAPI/derive_bits_keys', 'WebCryptoAPI/import_export',
  'FileAPI', 'html/webappapis/timers', 'html/webappapis/atob', 'html/webappapis/microtask-queuing', 'html/webappapis/structured-clone',
  'dom/events', 'dom/abort', 'fetch/api/headers', 'fetch/api/response', 'fetch/api/request', 'fetch/api/body', 'fetch/api/abort',
]

export interface Bar {
  readonly name: string
  /** Beginnings of the ids that count. */
  readonly of: readonly string[]
  /** Share of the subtests that passes at least, 0 to 1. */
  readonly shareMin?: number
  /** Subtests that are expected to fail for this reason do not count. */
  readonly apartFrom?: string
  /** With `--native`: not fewer pass than in Node. */
  readonly notBelowNode?: true
}

/** As expectation files have it: the suite wants what the standard said when it was copied. */
const NEWER = 'the engine follows a newer standard than the suite'

export const BARS: readonly Bar[] = [
  { name: 'url', of: ['url/'], shareMin: 1975 / 1988, apartFrom: NEWER },
  { name: 'streams', of: ['streams/'], shareMin: 1092 / 1112 },
  { name: 'WebCryptoAPI digest', of: ['WebCryptoAPI/digest/'], shareMin: 1 },
  { name: 'WebCryptoAPI HMAC', of: ['WebCryptoAPI/sign_verify/hmac'], shareMin: 1 },
  { name: 'WebCryptoAPI ECDSA', of: ['WebCryptoAPI/sign_verify/ecdsa'], shareMin: 1 },
  { name: 'WebCryptoAPI AES-GCM', of: ['WebCryptoAPI/encrypt_decrypt/aes_gcm'], shareMin: 1 },
  { name: 'WebCryptoAPI HKDF', of: ['WebCryptoAPI/derive_bits_keys/hkdf'], shareMin: 1 },
  { name: 'WebCryptoAPI import', of: ['WebCryptoAPI/import_export/'], shareMin: 1 },
  { name: 'html timers, atob, structured-clone', of: ['html/webappapis/timers/', 'html/webappapis/atob/', 'html/webappapis/structured-clone/'], shareMin: 0.98 },
  { name: 'fetch headers', of: ['fetch/api/headers/'], notBelowNode: true },
  { name: 'fetch response', of: ['fetch/api/response/'], notBelowNode: true },
  { name: 'fetch request', of: ['fetch/api/request/'], notBelowNode: true },
]
