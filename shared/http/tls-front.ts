/**
 * TLS of a front door, with a certificate that changes while it serves.
 *
 *   acceptor (an app that only listens) --accepted sockets--> the newest app
 *                                                             older apps: the connections they have
 *
 * uWS ties a certificate to an app, so a new certificate is a new app. The listening socket stays one and the same: no
 * connection waits in the queue of a socket that is closed, as it would if two apps took turns to listen on the port. uWS
 * never frees an app: each certificate costs 32 KiB for as long as the process lives.
 *
 * R1  New connections go to the newest certificate from the call on that loads it; open ones go on under theirs until they end.
 * R2  Files that cannot be used change nothing: the error is logged and counted, and the certificate stays.
 * R3  What uWS read is what was checked: the files are read again after it has, and the load is tried again if they differ.
 */
import type { Registry } from 'prom-client'
import type { Clock } from '../clock.ts'
import { CodedError, toCodedError } from '../errors.ts'
import type { Log } from '../log.ts'
import { readCertificate, watchCertificate, type Certificate, type CertificateFiles } from './certificate-files.ts'
import { counter, gauge } from './metrics.ts'
import { appDescriptor, feedApp, SSLApp, starveApp, type TemplatedApp } from './uws.ts'

export interface TlsFrontOptions {
  readonly files: CertificateFiles
  /** Puts the routes on an app. */
  readonly furnish: (app: TemplatedApp) => void
  readonly clock: Clock
  readonly log: Log
}

interface Generation {
  readonly app: TemplatedApp
  readonly descriptor: unknown
  readonly certificate: Certificate
  connections: number
}

const LOAD_ATTEMPTS_MAX = 3

export class TlsFront {
  /** To listen with. Of the same kind as the apps that it feeds, or uWS makes their sockets too small; its certificate is shown to nobody. */
  readonly acceptor: TemplatedApp
  readonly counts = { loaded: 0, failed: 0 }
  readonly #options: TlsFrontOptions
  readonly #log: Log
  #current: Generation
  /** Those with connections. */
  #older: Generation[] = []
  readonly #stopWatching: () => void

  /** Throws ERR_TLS_CERTIFICATE. */
  constructor(options: TlsFrontOptions) {
    this.#options = options
    this.#log = options.log.child('tls')
    this.#current = this.#make()
    this.acceptor = makeApp(options.files)
    feedApp(this.acceptor, this.#current.descriptor)
    this.#stopWatching = watchCertificate(options.files, options.clock, () => this.reload())
  }

  get certificate(): Certificate {
    return this.#current.certificate
  }

  /** Connections of certificates that were replaced. */
  get olderConnections(): number {
    return this.#older.reduce((sum, { connections }) => sum + connections, 0)
  }

  /** R1, R2. Also when nothing has changed: an operator who asks for it wants to see that it was done. */
  reload(): void {
    let next: Generation
    try {
      next = this.#make()
    } catch (error) {
      this.counts.failed += 1
      const { code, message } = toCodedError(error)
      this.#log.error('The certificate was not changed', { code, reason: message, notAfter: new Date(this.certificate.notAfterMs).toISOString() })
      return
    }
    feedApp(this.acceptor, next.descriptor)
    starveApp(this.acceptor, this.#current.descriptor)
    this.#older = [...this.#older, this.#current].filter(({ connections }) => connections > 0)
    this.#current = next
    this.#log.info('New connections get a new certificate', { fingerprint: next.certificate.fingerprint, notAfter: new Date(next.certificate.notAfterMs).toISOString(), olderConnections: this.olderConnections })
  }

  /** Ends every connection. */
  close(): void {
    this.#stopWatching()
    this.acceptor.close()
    for (const { app } of [...this.#older, this.#current]) app.close()
  }

  #make(): Generation {
    const { files, furnish, clock } = this.#options
    for (let attempt = 1; ; attempt += 1) {
      const certificate = readCertificate(files, clock.nowMs())
      const app = makeApp(files)
      const after = readCertificate(files, clock.nowMs())
      // R3.
      if (after.certificate !== certificate.certificate || after.privateKey !== certificate.privateKey) {
        if (attempt < LOAD_ATTEMPTS_MAX) continue
        throw new CodedError('ERR_TLS_CERTIFICATE', [files.certFile, 'it changes all the time'])
      }
      this.counts.loaded += 1
      furnish(app)
      const generation: Generation = { app, descriptor: appDescriptor(app), certificate, connections: 0 }
      app.filter((_response, change) => {
        generation.connections += change
      })
      return generation
    }
  }
}

function makeApp({ certFile, keyFile }: CertificateFiles): TemplatedApp {
  try {
    return SSLApp({ cert_file_name: certFile, key_file_name: keyFile })
  } catch (error) {
    // Node takes what this OpenSSL does not: uWS has its own.
    throw new CodedError('ERR_TLS_CERTIFICATE', [certFile, `the HTTP server does not take it (${toCodedError(error).message})`])
  }
}

export function registerTlsMetrics(registry: Registry, front: TlsFront): void {
  const registers = [registry]
  gauge(registers, 'tls_certificate_not_after_seconds', 'When the certificate of new connections ends, Unix time', () => front.certificate.notAfterMs / 1000)
  gauge(registers, 'tls_older_connections_count', 'Open connections whose certificate was replaced', () => front.olderConnections)
  counter(registers, 'tls_certificate_loads_total', 'Loads of the certificate, by whether it could be used', ['result'], (add) => {
    add({ result: 'ok' }, front.counts.loaded)
    add({ result: 'refused' }, front.counts.failed)
  })
}
