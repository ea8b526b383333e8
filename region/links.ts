/**
 * The links of a region to its POPs: who may link up and by which way, and what POPs are told.
 *
 *   --link-port, mutual TLS     registered keys (`outpost region pop add`), each with its grants
 *   the front door's port       the shared token, only if that port listens on loopback; then everything is granted
 *
 * L1  A POP is told of a function's changes only while the function is granted to it.
 * L2  A grant that is taken away is told as the function's end, one that is given as its present state, in the turn in which
 *     the region hears of it; what the POP asks for afterwards is checked anyhow (G1 of region.ts).
 * L3  A revoked key loses its links in that same turn.
 */
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createSecureContext } from 'node:tls'
import type { Clock } from '../shared/clock.ts'
import type { RegionConfig } from '../shared/config.ts'
import { CodedError, toCodedError } from '../shared/errors.ts'
import { isLoopback } from '../shared/http/address.ts'
import { fingerprintOf } from '../shared/identity/fingerprint.ts'
import { LINK_KEY_FILE, loadLinkKeyPair, type LinkKeyPair } from '../shared/identity/key-pair.ts'
import { RegionIdentity, TokenIdentity } from '../shared/link/identity.ts'
import { LinkServer } from '../shared/link/link-server.ts'
import { TlsLinkListener } from '../shared/link/tls-listener.ts'
import type { FunctionVersions, LinkHandler, PopIdentity } from '../shared/link/types.ts'
import type { Log } from '../shared/log.ts'
import type { PopDirectory } from './pop-directory.ts'
import type { Region } from './region.ts'
import type { Registry } from './registry.ts'

export interface RegionLinksDeps {
  readonly config: Pick<RegionConfig, 'host' | 'linkPort' | 'token' | 'peerToken'>
  readonly keys: LinkKeyPair | null
  readonly regionId: string
  readonly directory: PopDirectory
  readonly registry: Pick<Registry, 'functions' | 'seq'>
  readonly region: Pick<Region, 'onVersions'>
  readonly handler: LinkHandler
  /** Who else is let in: the members of this region's own group. */
  readonly wrapIdentity?: (identity: PopIdentity) => PopIdentity
  readonly memberId?: () => string
  readonly clock: Clock
  readonly log: Log
}

export interface RegionLinks {
  readonly server: LinkServer
  /** Null without `linkPort`. */
  readonly listener: TlsLinkListener | null
  /** Takes no new links, waits for the streams of those there are until the deadline. */
  drain(timeoutMs: number): Promise<void>
  close(): void
}

/** True if the shared token opens a link: only for who can reach a loopback address. */
export function acceptsToken({ host }: Pick<RegionConfig, 'host'>): boolean {
  return isLoopback(host)
}

/** Rejects with ERR_CONFIG, ERR_STORE_KEY, ERR_PORT_IN_USE. */
export async function openRegionLinks(deps: RegionLinksDeps): Promise<RegionLinks> {
  const { config, directory, registry, clock, log } = deps
  const identity = new RegionIdentity(acceptsToken(config) ? new TokenIdentity(config.token, config.peerToken) : null, [directory])
  const server = new LinkServer({
    regionId: deps.regionId, identity: deps.wrapIdentity?.(identity) ?? identity, handler: deps.handler, clock, log,
    ...(deps.memberId === undefined ? {} : { memberId: deps.memberId }),
  })
  // L1.
  const stopListening = deps.region.onVersions((versions) => {
    server.pushVersions(versions, (popId) => directory.allows(popId, versions.account, versions.functionName))
  })
  directory.listen({
    onRevoked: (fingerprint) => server.dismiss(fingerprint, { code: 'ERR_LINK_REVOKED', params: [fingerprint] }),
    onGrants: (name, changed) => {
      for (const { account, functionName, liveKeys } of registry.functions()) {
        if (!changed({ account, functionName })) continue
        const versions: FunctionVersions = { account, functionName, seq: registry.seq(), builds: directory.allows(name, account, functionName) ? liveKeys : [] }
        server.pushVersions(versions, (popId) => popId === name)
      }
    },
  })
  const listener = await listen(deps, server)
  if (listener === null && !acceptsToken(config)) log.warn('No POP can link up: without a loopback address the token is not accepted, and there is no link port', { host: config.host })
  return {
    server,
    listener,
    drain(timeoutMs) {
      listener?.stop()
      return server.drain(timeoutMs)
    },
    close() {
      stopListening()
      server.close()
      listener?.close()
    },
  }
}

/** What this region shows at its link port, and its nodes to each other. Null without a link port. Throws ERR_CONFIG, ERR_STORE_KEY. */
export function loadRegionKeys({ dataDir, linkPort, linkCertFile, linkKeyFile }: Pick<RegionConfig, 'dataDir' | 'linkPort' | 'linkCertFile' | 'linkKeyFile'>): LinkKeyPair | null {
  if (linkPort === null) return null
  if (linkCertFile === null && linkKeyFile === null) return loadLinkKeyPair(join(dataDir, LINK_KEY_FILE))
  if (linkCertFile === null || linkKeyFile === null) throw new CodedError('ERR_CONFIG', ['linkCertFile (--link-cert) and linkKeyFile (--link-key) go together'])
  try {
    const [certificate, privateKey] = [readFileSync(linkCertFile, 'utf8'), readFileSync(linkKeyFile, 'utf8')]
    createSecureContext({ cert: certificate, key: privateKey })
    return { certificate, privateKey, fingerprint: fingerprintOf(new X509Certificate(certificate)) }
  } catch (error) {
    throw new CodedError('ERR_CONFIG', [`linkCertFile (--link-cert), linkKeyFile (--link-key): ${toCodedError(error).message}`])
  }
}

async function listen({ config, keys, clock, log }: RegionLinksDeps, server: LinkServer): Promise<TlsLinkListener | null> {
  if (config.linkPort === null || keys === null) return null
  const listener = await TlsLinkListener.listen({ server, keys, host: config.host, port: config.linkPort, clock, log })
  log.info('registered POPs may link up', { linkPort: listener.port, fingerprint: keys.fingerprint })
  return listener
}
