/**
 * Where NATS is and how to get in, from what an operator gives: `nats://h1,h2:4333`, `nats://user:password@h1`,
 * `nats://token@h1`; `tls://` instead of `nats://` insists on TLS,
 * with names: the client does not compare an IP address with a certificate. User, password
 * and token are percent-encoded as in any URL.
 */
import { readFileSync } from 'node:fs'
import { credsAuthenticator, type NodeConnectionOptions } from '@nats-io/transport-node'
import { CodedError, toCodedError } from '../errors.ts'

export interface NatsAddress {
  readonly url: string
  /** A `.creds` file: JWT and seed. */
  readonly credentialsFile: string | null
  /** PEM of the authorities that may have signed the servers' certificates; null: the system's. */
  readonly caFile: string | null
}

const URL_SHAPE = /^(nats|tls):\/\/(?:([^@/]*)@)?([^@/]+)\/?$/
const SERVER = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?$/

/** What the client's `connect` takes. Throws ERR_CONFIG; its message never holds a password. */
export function connectOptions({ url, credentialsFile, caFile }: NatsAddress): NodeConnectionOptions {
  const [, scheme, login, hosts = ''] = URL_SHAPE.exec(url) ?? []
  const servers = hosts.split(',')
  if (scheme === undefined || !servers.every((server) => SERVER.test(server))) throw new CodedError('ERR_CONFIG', ['natsUrl (--nats or OUTPOST_NATS_URL): must be like nats://host:4222 or tls://user:password@host1,host2'])
  const tls = scheme === 'tls' || caFile !== null ? { tls: caFile === null ? {} : { ca: read('natsCaFile (--nats-ca or OUTPOST_NATS_CA)', caFile).toString() } } : {}
  const creds = credentialsFile === null ? {} : { authenticator: credsAuthenticator(read('natsCredentialsFile (--nats-credentials or OUTPOST_NATS_CREDENTIALS)', credentialsFile)) }
  return { servers, ...loginOf(login), ...tls, ...creds }
}

function loginOf(login: string | undefined): NodeConnectionOptions {
  if (login === undefined || login === '') return {}
  const [user = '', ...password] = login.split(':')
  return password.length === 0 ? { token: decode(user) } : { user: decode(user), pass: decode(password.join(':')) }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new CodedError('ERR_CONFIG', ['natsUrl (--nats or OUTPOST_NATS_URL): what stands before the @ is not percent-encoded'])
  }
}

function read(setting: string, file: string): Uint8Array {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new CodedError('ERR_CONFIG', [`${setting}: ${file} cannot be read: ${toCodedError(error).message}`])
  }
}
