/** Certificates for tests of TLS front doors, made by openssl: what operators have, of any age. */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface CertificateOptions {
  /** openssl's own form, `YYMMDDHHMMSSZ`. Default: from a day ago, for two days. */
  readonly notBefore?: string
  readonly notAfter?: string
}

/** Writes `NAME.crt` and `NAME.key` into a folder and gives their paths. */
export function makeCertificate(openssl: string, folder: string, name: string, options: CertificateOptions = {}): { readonly certFile: string; readonly keyFile: string } {
  const [certFile, keyFile] = [join(folder, `${name}.crt`), join(folder, `${name}.key`)]
  const day = (offset: number): string => new Date(Date.now() + offset * 86_400_000).toISOString().replaceAll(/[-:T]|\.\d+/g, '').slice(2)
  const run = (...argv: readonly string[]): void => void execFileSync(openssl, argv, { stdio: ['ignore', 'ignore', 'pipe'] })
  const request = join(folder, `${name}.csr`)
  run('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', keyFile, '-out', request, '-subj', `/CN=${name}`)
  // `req -x509` can set no dates; `ca` can, and wants a database.
  const config = join(folder, `${name}.cnf`)
  writeCa(folder, name, config)
  run('ca', '-batch', '-selfsign', '-config', config, '-in', request, '-keyfile', keyFile, '-out', certFile, '-notext', '-startdate', options.notBefore ?? day(-1), '-enddate', options.notAfter ?? day(1))
  return { certFile, keyFile }
}

function writeCa(folder: string, name: string, config: string): void {
  const database = join(folder, `${name}.db`)
  writeFileSync(database, '')
  writeFileSync(config, ['[ca]', 'default_ca=own', '[own]', `database=${database}`, `new_certs_dir=${folder}`, 'rand_serial=yes', 'default_md=sha256', 'policy=any', '[any]', 'commonName=supplied', ''].join('\n'))
}
