/** The driver that a process is configured for: with the address of NATS that one, else the embedded one beside the data of its tier. */
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import { EmbeddedCoordination } from './embedded.ts'
import { NatsCoordination } from './nats.ts'
import type { Coordination } from './types.ts'

export interface CoordinationConfig {
  readonly natsUrl: string | null
  readonly natsCredentialsFile: string | null
  readonly natsCaFile: string | null
  readonly natsReplicas: number
}

/** `dataDir`: of the tier; the embedded driver has a folder of its own in it. Throws ERR_STORE_FAILED, ERR_CONFIG. */
export function openCoordination(config: CoordinationConfig & { readonly dataDir: string }, parts: { readonly clock: Clock; readonly log: Log }): Promise<Coordination> {
  return Promise.resolve(openNats(config, parts) ?? EmbeddedCoordination.open({ path: join(config.dataDir, 'coordination'), ...parts }))
}

/** Null without an address. Connects in the background. Throws ERR_CONFIG. */
export function openNats({ natsUrl, natsCredentialsFile, natsCaFile, natsReplicas }: CoordinationConfig, parts: { readonly clock: Clock; readonly log: Log }): Coordination | null {
  if (natsUrl === null) return null
  return new NatsCoordination({ address: { url: natsUrl, credentialsFile: natsCredentialsFile, caFile: natsCaFile }, replicas: natsReplicas, ...parts })
}
