/** `outpost region`: the control side as a process. */
import type { Command } from 'commander'
import { regionSchema, resolveConfig } from '../../config.ts'
import type { CliContext } from '../context.ts'
import { portNumber, wholeNumber } from '../options.ts'
import { runTier } from '../tier.ts'
import { addLinkKey } from './link-key.ts'
import { regionAccountCommand } from './region-account.ts'
import { regionPopCommand } from './region-pop.ts'
import { configInput, trueOrFalse } from '../tier-options.ts'
import { regionRingCommand } from './region-ring.ts'

interface RegionOptions {
  readonly port?: number
  readonly host?: string
  readonly tlsCert?: string
  readonly tlsKey?: string
  readonly trustedProxy?: string
  readonly proxyHeaders?: string
  readonly data?: string
  readonly adminPort?: number
  readonly keys?: string
  readonly keyring?: string
  readonly copies?: number
  readonly copiesBy?: string
  readonly copiesEpochHours?: number
  readonly copiesZones?: string
  readonly copiesZone?: string
  readonly isolateAccounts?: boolean
  readonly linkPort?: number
  readonly linkCert?: string
  readonly linkKey?: string
  readonly token?: string
  readonly peer?: string
  readonly peerFingerprint?: string
  readonly peerToken?: string
  readonly nats?: string
  readonly natsCredentials?: string
  readonly natsCa?: string
  readonly natsReplicas?: number
  readonly regionName?: string
  readonly advertise?: string
  readonly accountConcurrency?: number
  readonly memory?: number
  readonly workers?: number
  readonly egressAllow?: string
  readonly drainTimeout?: number
  readonly dev?: boolean
  readonly config?: string
}

export function addRegion(program: Command, context: CliContext): void {
  const region = program
    .command('region')
    .description('run a region: registry, image builder, store, and what POPs do not run themselves')
    .option('--port <port>', 'port of API, web endpoints and POP links (OUTPOST_REGION_PORT; 8788)', portNumber)
    .option('--host <address>', 'address to listen on (OUTPOST_REGION_HOST; 127.0.0.1)')
    .option('--tls-cert <file>', 'PEM, speak TLS on --port; read again when it changes and at SIGHUP (OUTPOST_REGION_TLS_CERT; none)')
    .option('--tls-key <file>', 'PEM, the private key of --tls-cert (OUTPOST_REGION_TLS_KEY; none)')
    .option('--trusted-proxy <list>', 'networks of proxies whose X-Forwarded-For counts, 10.0.0.0/8 by commas (OUTPOST_REGION_TRUSTED_PROXY; none)')
    .option('--proxy-headers <kind>', 'x-forwarded or forwarded: what those proxies write (OUTPOST_REGION_PROXY_HEADERS; x-forwarded)')
    .option('--data <dir>', 'functions, images and secrets (OUTPOST_REGION_DATA; .outpost/region)')
    .option('--admin-port <port>', 'port of health and metrics (OUTPOST_REGION_ADMIN_PORT; none)', portNumber)
    .option('--keys <file>', 'JSON file of access keys (OUTPOST_REGION_KEYS; needed unless --dev)')
    .option('--keyring <file>', 'keys that stored code and secrets are sealed with (OUTPOST_REGION_KEYRING; keyring.json in --data)')
    .option('--copies <count>', 'sealed copies of one content at most (OUTPOST_REGION_COPIES; 1)', wholeNumber(1, 1000))
    .option('--copies-by <policy>', 'who shares a copy: user, state, epoch or location (OUTPOST_REGION_COPIES_BY; user)')
    .option('--copies-epoch-hours <hours>', 'with epoch: how long one copy is taken (OUTPOST_REGION_COPIES_EPOCH_HOURS; 168)', wholeNumber(1, 100_000))
    .option('--copies-zones <list>', 'with location: all zones, by commas, always in the same order (OUTPOST_REGION_COPIES_ZONES; none)')
    .option('--copies-zone <name>', 'with location: the one that this region is in (OUTPOST_REGION_COPIES_ZONE; none)')
    .option('--isolate-accounts [boolean]', 'accounts share no stored block (OUTPOST_REGION_ISOLATE_ACCOUNTS; false)', trueOrFalse)
    .option('--link-port <port>', 'port where registered POPs link up by mutual TLS (OUTPOST_REGION_LINK_PORT; none)', portNumber)
    .option('--link-cert <file>', "PEM, shown there instead of the region's own key (OUTPOST_REGION_LINK_CERT; none)")
    .option('--link-key <file>', 'PEM, the private key of --link-cert (OUTPOST_REGION_LINK_KEY; none)')
    .option('--token <token>', 'what POPs show that are not registered, on loopback only (OUTPOST_LINK_TOKEN; dev)')
    .option('--peer <url>', 'another region, asked for blocks that are damaged here (OUTPOST_REGION_PEER; none)')
    .option('--peer-fingerprint <list>', "with an https peer: its keys, as `outpost region key` prints them (OUTPOST_REGION_PEER_FINGERPRINT; none)")
    .option('--peer-token <token>', 'what regions, and nodes of one, show each other (OUTPOST_PEER_TOKEN; none)')
    .option('--nats <url>', 'NATS server by which nodes and regions share what they know (OUTPOST_NATS_URL; none: one process is the region)')
    .option('--nats-credentials <file>', 'credentials file for NATS (OUTPOST_NATS_CREDENTIALS; none)')
    .option('--nats-ca <file>', 'PEM file of the authority behind the NATS servers\' certificates (OUTPOST_NATS_CA; the system\'s)')
    .option('--nats-replicas <count>', 'NATS servers that keep what is written (OUTPOST_NATS_REPLICAS; 1)', wholeNumber(1, 5))
    .option('--region-name <name>', 'the region that this is, or is a node of (OUTPOST_REGION_NAME; us-east-1)')
    .option('--advertise <host:port>', 'with --nats: where other nodes reach this one (OUTPOST_REGION_ADVERTISE; --host and --port)')
    .option('--account-concurrency <count>', 'running invocations of an account that nothing else is said of (OUTPOST_REGION_ACCOUNT_CONCURRENCY; 1000)', wholeNumber(0, 100_000))
    .option('--memory <mib>', 'budget of sandboxes, images and caches (OUTPOST_REGION_MEMORY_MIB; 1024)', wholeNumber(64, 1_048_576))
    .option('--workers <count>', 'threads that run functions (OUTPOST_REGION_WORKERS; cores less one, 2 to 4)', wholeNumber(1, 256))
    .option('--egress-allow <list>', 'private addresses that functions may fetch, host:port by commas (OUTPOST_EGRESS_ALLOW; none)')
    .option('--drain-timeout <ms>', 'time for invocations in flight after SIGTERM (OUTPOST_REGION_DRAIN_TIMEOUT_MS; 30000)', wholeNumber(0, 3_600_000))
    .option('--dev [boolean]', 'development server: loopback host names only on control paths (OUTPOST_REGION_DEV; false)', trueOrFalse)
    .option('--config <file>', 'JSON file of settings; options and environment go before it')
    .action((options: RegionOptions) => runRegion(context, options))
  region.addCommand(regionPopCommand(context))
  region.addCommand(regionRingCommand(context))
  region.addCommand(regionAccountCommand(context))
  addLinkKey(region, context, (data) => resolveConfig(regionSchema, configInput({ dataDir: data }, undefined, context)).dataDir, (fingerprint) => `at each POP: outpost pop --region https://HOST:LINK_PORT --region-fingerprint ${fingerprint}`)
}

async function runRegion(context: CliContext, options: RegionOptions): Promise<void> {
  const { data: dataDir, tlsCert: tlsCertFile, tlsKey: tlsKeyFile, trustedProxy: trustedProxies, keys: keysFile, keyring: keyringFile, linkCert: linkCertFile, linkKey: linkKeyFile, peer: peerUrl, peerFingerprint: peerFingerprints, nats: natsUrl, natsCredentials: natsCredentialsFile, natsCa: natsCaFile, memory: memoryMib, drainTimeout: drainTimeoutMs, config, ...same } = options
  const settings = resolveConfig(regionSchema, configInput({ ...same, tlsCertFile, tlsKeyFile, trustedProxies, peerUrl, peerFingerprints, linkCertFile, linkKeyFile, natsUrl, natsCredentialsFile, natsCaFile, dataDir, keysFile, keyringFile, memoryMib, drainTimeoutMs }, config, context))
  // Loaded only now, so that other commands start without it; tidy.test.ts knows this import as the one way in.
  const { startRegion } = await import('../../../region/start.ts')
  await runTier(context, 'region', settings, startRegion)
}
