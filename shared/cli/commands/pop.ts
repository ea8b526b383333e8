/** `outpost pop`: a point of presence as a process. */
import type { Command } from 'commander'
import { popSchema, resolveConfig } from '../../config.ts'
import type { CliContext } from '../context.ts'
import { collect, portNumber, wholeNumber } from '../options.ts'
import { runTier } from '../tier.ts'
import { addLinkKey } from './link-key.ts'
import { configInput, trueOrFalse } from '../tier-options.ts'

interface PopOptions {
  readonly port?: number
  readonly host?: string
  readonly region?: readonly string[]
  readonly tlsCert?: string
  readonly tlsKey?: string
  readonly trustedProxy?: string
  readonly proxyHeaders?: string
  readonly data?: string
  readonly adminPort?: number
  readonly regionFingerprint?: string
  readonly regionCa?: string
  readonly token?: string
  readonly nats?: string
  readonly natsCredentials?: string
  readonly natsCa?: string
  readonly natsReplicas?: number
  readonly site?: string
  readonly advertise?: string
  readonly area?: string
  readonly memory?: number
  readonly workers?: number
  readonly hotMinRequests?: number
  readonly staleMax?: number
  readonly queueWaitMax?: number
  readonly egressAllow?: string
  readonly drainTimeout?: number
  readonly dev?: boolean
  readonly config?: string
}

export function addPop(program: Command, context: CliContext): void {
  const pop = program
    .command('pop')
    .description('run a POP: the front door clients talk to, with the hot functions')
    .option('--port <port>', 'port clients talk to (OUTPOST_POP_PORT; 8787)', portNumber)
    .option('--host <address>', 'address to listen on (OUTPOST_POP_HOST; 127.0.0.1)')
    .option('--region <url>', 'address of a region, https for its link port; may be given several times (OUTPOST_POP_REGION, by commas)', collect)
    .option('--region-fingerprint <list>', "the region's keys, as `outpost region key` prints them, by commas (OUTPOST_POP_REGION_FINGERPRINT; none)")
    .option('--region-ca <file>', "PEM, authorities of the region's certificate (OUTPOST_POP_REGION_CA; those of Node)")
    .option('--tls-cert <file>', 'PEM, speak TLS on --port; read again when it changes and at SIGHUP (OUTPOST_POP_TLS_CERT; none)')
    .option('--tls-key <file>', 'PEM, the private key of --tls-cert (OUTPOST_POP_TLS_KEY; none)')
    .option('--trusted-proxy <list>', 'networks of proxies whose X-Forwarded-For counts, 10.0.0.0/8 by commas (OUTPOST_POP_TRUSTED_PROXY; none)')
    .option('--proxy-headers <kind>', 'x-forwarded or forwarded: what those proxies write (OUTPOST_POP_PROXY_HEADERS; x-forwarded)')
    .option('--data <dir>', 'keep images over a restart (OUTPOST_POP_DATA; in memory only)')
    .option('--admin-port <port>', 'port of health and metrics (OUTPOST_POP_ADMIN_PORT; none)', portNumber)
    .option('--token <token>', 'what is shown to an http region on this host (OUTPOST_LINK_TOKEN; dev)')
    .option('--nats <url>', 'NATS server by which the hosts of a site know each other (OUTPOST_NATS_URL; none: one host is the site)')
    .option('--nats-credentials <file>', 'credentials file for NATS (OUTPOST_NATS_CREDENTIALS; none)')
    .option('--nats-ca <file>', 'PEM file of the authority behind the NATS servers\' certificates (OUTPOST_NATS_CA; the system\'s)')
    .option('--nats-replicas <count>', 'NATS servers that keep what is written (OUTPOST_NATS_REPLICAS; 1)', wholeNumber(1, 5))
    .option('--site <name>', 'with --nats: the site that this host belongs to (OUTPOST_POP_SITE; site-1)')
    .option('--advertise <host:port>', 'with --nats: where the other hosts of the site reach this one (OUTPOST_POP_ADVERTISE; --host and any port)')
    .option('--area <name>', 'where it stands: POPs of one area hold alike (OUTPOST_POP_AREA; none)')
    .option('--memory <mib>', 'budget of sandboxes, images and caches (OUTPOST_POP_MEMORY_MIB; 512)', wholeNumber(64, 1_048_576))
    .option('--workers <count>', 'threads that run functions (OUTPOST_POP_WORKERS; cores less one, 2 to 4)', wholeNumber(1, 256))
    .option('--hot-min-requests <count>', 'requests in five minutes that make a function hot (OUTPOST_POP_HOT_MIN_REQUESTS; 3)', wholeNumber(0, 1_000_000))
    .option('--stale-max <ms>', 'how long to serve what is here without a region (OUTPOST_POP_STALE_MAX_MS; 3600000)', wholeNumber(0, 604_800_000))
    .option('--queue-wait-max <ms>', 'how long to wait for a sandbox before a region is asked (OUTPOST_POP_QUEUE_WAIT_MAX_MS; 20)', wholeNumber(0, 10_000))
    .option('--egress-allow <list>', 'private addresses that functions may fetch, host:port by commas (OUTPOST_EGRESS_ALLOW; none)')
    .option('--drain-timeout <ms>', 'time for invocations in flight after SIGTERM (OUTPOST_POP_DRAIN_TIMEOUT_MS; 30000)', wholeNumber(0, 3_600_000))
    .option('--dev [boolean]', 'development server: health and metrics on the main port too (OUTPOST_POP_DEV; false)', trueOrFalse)
    .option('--config <file>', 'JSON file of settings; options and environment go before it')
    .action((options: PopOptions) => runPop(context, options))
  addLinkKey(pop, context, (data) => data ?? context.env.OUTPOST_POP_DATA ?? null, (fingerprint) => `at the region: outpost region pop add NAME --fingerprint ${fingerprint}`)
}

async function runPop(context: CliContext, options: PopOptions): Promise<void> {
  const { region: regionUrls, regionFingerprint: regionFingerprints, regionCa: regionCaFile, data: dataDir, tlsCert: tlsCertFile, tlsKey: tlsKeyFile, trustedProxy: trustedProxies, nats: natsUrl, natsCredentials: natsCredentialsFile, natsCa: natsCaFile, memory: memoryMib, staleMax: staleMaxMs, queueWaitMax: queueWaitMaxMs, drainTimeout: drainTimeoutMs, config, ...same } = options
  const settings = resolveConfig(popSchema, configInput({ ...same, tlsCertFile, tlsKeyFile, trustedProxies, regionUrls, regionFingerprints, regionCaFile, dataDir, natsUrl, natsCredentialsFile, natsCaFile, memoryMib, staleMaxMs, queueWaitMaxMs, drainTimeoutMs }, config, context))
  // Loaded only now, so that other commands start without it; tidy.test.ts knows this import as the one way in.
  const { startPop } = await import('../../../pop/start.ts')
  await runTier(context, 'pop', settings, startPop)
}
