/** Nodes of one region as real processes over a real NATS server. Each can be killed and started again on its port. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { zipSync } from 'fflate'
import type { Test } from 'tap'
import type { ConfigurationMembers } from '../../shared/cli/api-client.ts'
import { deployFunction } from '../../shared/cli/deployment.ts'
import { eventually } from './dev-server.ts'
import { startNats, type NatsServer } from './nats.ts'
import { freePort, tier, writeKeys, type AdminTier } from './site.ts'

export const PEER_TOKEN = 'of nodes'

export interface RegionNodes {
  readonly nats: NatsServer
  readonly nodes: readonly AdminTier[]
  deploy(name: string, source: string, members?: ConfigurationMembers): Promise<void>
  /** Starts one more. */
  add(): Promise<AdminTier>
}

/** Null after the test was skipped for want of nats-server: return then. */
export async function startRegionNodes(t: Test, count: number, argv: readonly string[] = []): Promise<RegionNodes | null> {
  const nats = await startNats(t)
  if (nats === null) return null
  const directory = t.testdir({})
  const keysFile = join(directory, 'keys.json')
  const apiOf = writeKeys(keysFile)
  const nodes: AdminTier[] = []
  const add = async (): Promise<AdminTier> => {
    const port = await freePort()
    const data = join(directory, `node-${port}`)
    mkdirSync(data)
    const node = await tier(t, 'region', port, [
      '--data', data, '--keys', keysFile, '--keyring', join(directory, 'keyring.json'), '--token', 'site', '--nats', nats.url, '--region-name', 'eu-1', '--peer-token', PEER_TOKEN, '--workers', '1', '--memory', '256', ...argv,
    ])
    nodes.push(node)
    return node
  }
  await Promise.all(Array.from({ length: count }, add))
  await untilRing(nodes)
  return {
    nats, nodes, add,
    async deploy(name, source, members = {}) {
      await deployFunction(apiOf(nodes[0]?.url ?? ''), { name, zip: zipSync({ 'index.mjs': Buffer.from(source) }), members, publish: false, alias: null })
    },
  }
}

/** Until each of these nodes, and nobody else, is in the ring that each of them has, and all are linked up. */
export async function untilRing(nodes: readonly AdminTier[]): Promise<void> {
  for (const node of nodes) {
    await eventually(() => metric(node, 'region_ring_members_count'), (members) => members === nodes.length, 60_000)
    await eventually(() => metric(node, 'region_peers_reachable_count'), (peers) => peers === nodes.length - 1, 60_000)
  }
}

/** Of a series without labels, or with these; 0 for one that has counted nothing. */
export async function metric({ adminUrl }: AdminTier, name: string): Promise<number> {
  const text = await (await fetch(`${adminUrl}/metrics`)).text()
  const line = text.split('\n').find((each) => each.startsWith(`${name} `))
  return line === undefined ? 0 : Number(line.slice(line.lastIndexOf(' ') + 1))
}
