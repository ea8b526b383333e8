/**
 * The keys of a region. Whoever has the keyring file and the store can read everything; with either alone, nothing. It
 * is a file of its own so that it can be kept and backed up apart from the data.
 *
 *   version key (random, in the file) -> account key = HKDF(version key, account) -> seals data keys and secrets
 *                                      -> session key = HKDF of the account key for a tier: seals session machines
 *   index secret (random, in the file) -> names of contents in the index of copies
 *
 * K1: what was sealed says with which version, so a rotation makes nothing unreadable; `rotate` adds a version that new
 *     seals use, and the owner of sealed values reseals them in its own time.
 * K2: a value opens only for the account and the purpose that it was sealed for: both are authenticated with it.
 *
 * A sealed value: 4 bytes version (little endian), 12 nonce, ciphertext, 16 tag. AES-256-GCM with random nonces: an
 * account stays far below the 2^32 seals that these allow.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import { z } from 'zod'
import { CodedError } from '../errors.ts'
import type { SealKey } from '../sessions/session-seal.ts'
import { SEAL_TAG_BYTES, type ContentDigest } from './block-seal.ts'
import { createSecretFile, readSecretFile, replaceSecretFile } from './secret-file.ts'
import type { DataKey, ObjectId } from './types.ts'

const CIPHER = 'aes-256-gcm'
const KEY_BYTES = 32
const VERSION_BYTES = 4
const NONCE_BYTES = 12
const LABEL = 'outpost account 1'
const SESSION_LABEL = 'outpost sessions 1'
const ACCOUNT_KEYS_CACHED_MAX = 10_000

const secret = z.string().regex(/^[A-Za-z0-9_-]{43}$/)
const keyringFile = z.strictObject({
  format: z.literal(1),
  active: z.int().min(1),
  indexSecret: secret,
  versions: z.array(z.strictObject({ version: z.int().min(1).max(0xffff_ffff), key: secret })).min(1),
})
type KeyringFile = z.infer<typeof keyringFile>

export class Keyring {
  readonly #path: string | null
  readonly #accountKeys = new Map<string, Buffer>()
  #file: KeyringFile

  private constructor(path: string | null, file: KeyringFile) {
    this.#path = path
    this.#file = file
  }

  /** The keyring in `path`, made there if there is none. Throws ERR_STORE_KEY. */
  static load(path: string): Keyring {
    const text = readSecretFile(path)
    if (text === null) createSecretFile(path, encode(newFile()))
    return new Keyring(path, parse(path, text ?? readSecretFile(path) ?? ''))
  }

  /** A keyring that is gone with the process. */
  static inMemory(): Keyring {
    return new Keyring(null, newFile())
  }

  get activeVersion(): number {
    return this.#file.active
  }

  /** K2. `purpose` says what the value is, unique within the account. */
  seal(account: string, purpose: string, value: Uint8Array): Uint8Array {
    const head = Buffer.alloc(VERSION_BYTES)
    head.writeUInt32LE(this.#file.active)
    const nonce = randomBytes(NONCE_BYTES)
    const cipher = createCipheriv(CIPHER, this.#accountKey(this.#file.active, account), nonce)
    cipher.setAAD(boundTo(account, purpose))
    const ciphertext = cipher.update(value)
    cipher.final()
    return Buffer.concat([head, nonce, ciphertext, cipher.getAuthTag()])
  }

  /** Throws ERR_STORE_KEY, which names the purpose. */
  open(account: string, purpose: string, sealed: Uint8Array): Uint8Array {
    try {
      const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
      const decipher = createDecipheriv(CIPHER, this.#accountKey(bytes.readUInt32LE(0), account), bytes.subarray(VERSION_BYTES, VERSION_BYTES + NONCE_BYTES))
      decipher.setAAD(boundTo(account, purpose))
      decipher.setAuthTag(bytes.subarray(-SEAL_TAG_BYTES))
      const value = decipher.update(bytes.subarray(VERSION_BYTES + NONCE_BYTES, -SEAL_TAG_BYTES))
      decipher.final()
      return value
    } catch (error) {
      if (error instanceof CodedError) throw error
      throw new CodedError('ERR_STORE_KEY', [`${purpose} of account ${account}`, 'it was sealed with another keyring, or is altered'], { cause: error })
    }
  }

  wrap(account: string, objectId: ObjectId, dataKey: DataKey): Uint8Array {
    return this.seal(account, `the manifest ${objectId}`, dataKey)
  }

  unwrap(account: string, objectId: ObjectId, wrapped: Uint8Array): DataKey {
    return this.open(account, `the manifest ${objectId}`, wrapped) as DataKey
  }

  /** K1. What one tier seals an account's sessions with; null for a version that the keyring does not have. Opens nothing else. */
  sessionKey(account: string, tier: 'pop' | 'region', version = this.#file.active): SealKey | null {
    if (!this.#file.versions.some((each) => each.version === version)) return null
    return { version, key: Buffer.from(hkdfSync('sha256', this.#accountKey(version, account), '', JSON.stringify([SESSION_LABEL, tier]), KEY_BYTES)) }
  }

  /** Name of a content in the index of copies: tells nothing to who lacks the keyring. */
  contentName(domain: string, digest: ContentDigest): Buffer {
    return createHmac('sha256', Buffer.from(this.#file.indexSecret, 'base64url')).update(JSON.stringify([domain, digest.toString('hex')])).digest()
  }

  /** K1. Returns the new version. It is on disk before anything is sealed with it. Throws ERR_STORE_KEY. */
  rotate(): number {
    const version = Math.max(...this.#file.versions.map((each) => each.version)) + 1
    const file: KeyringFile = { ...this.#file, active: version, versions: [...this.#file.versions, { version, key: newSecret() }] }
    if (this.#path !== null) replaceSecretFile(this.#path, encode(file))
    this.#file = file
    return version
  }

  #accountKey(version: number, account: string): Buffer {
    const name = `${version}/${account}`
    const known = this.#accountKeys.get(name)
    if (known !== undefined) return known
    const entry = this.#file.versions.find((each) => each.version === version)
    if (entry === undefined) throw new CodedError('ERR_STORE_KEY', [`account ${account}`, `the keyring has no version ${version}`])
    const key = Buffer.from(hkdfSync('sha256', Buffer.from(entry.key, 'base64url'), '', JSON.stringify([LABEL, account]), KEY_BYTES))
    // Emptied as a whole when full: it saves some microseconds only.
    if (this.#accountKeys.size >= ACCOUNT_KEYS_CACHED_MAX) this.#accountKeys.clear()
    this.#accountKeys.set(name, key)
    return key
  }
}

/** Version that a value was sealed with. */
export function keyVersionOf(sealed: Uint8Array): number {
  return Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength).readUInt32LE(0)
}

function boundTo(account: string, purpose: string): Buffer {
  return Buffer.from(JSON.stringify([account, purpose]))
}

function newFile(): KeyringFile {
  return { format: 1, active: 1, indexSecret: newSecret(), versions: [{ version: 1, key: newSecret() }] }
}

function newSecret(): string {
  return randomBytes(KEY_BYTES).toString('base64url')
}

function encode(file: KeyringFile): string {
  return `${JSON.stringify(file, null, 2)}\n`
}

function parse(path: string, text: string): KeyringFile {
  try {
    const file = keyringFile.parse(JSON.parse(text))
    if (!file.versions.some(({ version }) => version === file.active)) throw new Error('the active version is missing')
    return file
  } catch (error) {
    throw new CodedError('ERR_STORE_KEY', [path, 'it does not hold a keyring'], { cause: error })
  }
}
