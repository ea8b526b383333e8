/**
 * Several POPs before several regions, as real processes. Without NATS each region has a registry of its own, so what is
 * deployed is deployed to each, in the same order: then their change numbers agree, and a test decides which is behind.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { zipSync } from 'fflate'
import type { Test } from 'tap'
import type { ApiClient, ConfigurationMembers } from '../../shared/cli/api-client.ts'
import { deployFunction } from '../../shared/cli/deployment.ts'
import { freePort, tier, writeKeys, type AdminTier } from './site.ts'

export interface Grid {
  readonly regions: readonly AdminTier[]
  readonly pops: readonly AdminTier[]
  readonly api: (region: AdminTier) => ApiClient
  /** To all regions, or to those given. */
  deploy(name: string, source: string, members?: ConfigurationMembers, to?: readonly AdminTier[]): Promise<void>
}

export interface GridOptions {
  readonly regions: number
  readonly pops: number
  readonly pop?: readonly string[]
  readonly region?: readonly string[]
  /** Address of a NATS server: the regions share one registry. */
  readonly nats?: string
  /** Before the POPs start, so that they hear of nothing but what comes later. */
  readonly before?: (deploy: Grid['deploy']) => Promise<void>
}

export async function startGrid(t: Test, options: GridOptions): Promise<Grid> {
  const directory = t.testdir({})
  const keysFile = join(directory, 'keys.json')
  const apiOf = writeKeys(keysFile)
  const dataOf = (name: string): string => {
    const path = join(directory, name)
    mkdirSync(path)
    return path
  }
  const sharing = (index: number): readonly string[] => (options.nats === undefined ? [] : ['--nats', options.nats, '--region-name', `region-${index + 1}`, '--keyring', join(directory, 'keyring.json'), '--peer-token', 'of regions'])
  const small = ['--token', 'grid', '--workers', '1', '--memory', '256']
  const made = async (name: 'region' | 'pop', index: number, argv: readonly string[]): Promise<AdminTier> => tier(t, name, await freePort(), ['--data', dataOf(`${name}-${index}`), ...small, ...argv])
  const regions = await inTurn(options.nats === undefined ? options.regions : 1, options.regions, (index) => made('region', index, ['--keys', keysFile, ...sharing(index), ...(options.region ?? [])]))
  const api = ({ url }: AdminTier): ApiClient => apiOf(url)
  const deploy: Grid['deploy'] = async (name, source, members = {}, to = regions) => {
    await Promise.all(to.map((region) => deployFunction(api(region), { name, zip: zipSync({ 'index.mjs': Buffer.from(source) }), members, publish: false, alias: null })))
  }
  await options.before?.(deploy)
  const ways = regions.flatMap(({ url }) => ['--region', url])
  const pops = await Promise.all(Array.from({ length: options.pops }, (_, index) => made('pop', index, [...ways, ...(options.pop ?? [])])))
  return { regions, pops, api, deploy }
}

/** The first `together` at once, then the others at once: one of them makes what the others find. */
async function inTurn<T>(together: number, count: number, make: (index: number) => Promise<T>): Promise<T[]> {
  const first = await Promise.all(Array.from({ length: Math.min(together, count) }, (_, index) => make(index)))
  return [...first, ...(await Promise.all(Array.from({ length: count - first.length }, (_, index) => make(first.length + index))))]
}

/** Values of a series of the metrics page by the value of one label. */
export async function series({ adminUrl }: AdminTier, name: string, label: string, having = ''): Promise<ReadonlyMap<string, number>> {
  const text = await (await fetch(`${adminUrl}/metrics`)).text()
  const values = new Map<string, number>()
  for (const line of text.split('\n')) {
    if (!line.startsWith(`${name}{`) || !line.includes(having)) continue
    const value = new RegExp(`${label}="([^"]*)"`).exec(line)?.[1]
    if (value !== undefined) values.set(value, Number(line.slice(line.lastIndexOf(' ') + 1)))
  }
  return values
}
