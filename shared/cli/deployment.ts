/** Puts a zip into service under a name: makes the function or updates it, then publishes and points an alias if asked. */
import type { ApiClient, ConfigurationMembers, FunctionRecord } from './api-client.ts'
import { RemoteError } from './output.ts'

export interface Deployment {
  readonly name: string
  readonly zip: Uint8Array
  /** Members that are not set stay as they are. */
  readonly members: ConfigurationMembers
  readonly publish: boolean
  readonly alias: string | null
}

export interface Deployed {
  readonly created: boolean
  readonly record: FunctionRecord
}

export async function deployFunction(api: ApiClient, deployment: Deployment): Promise<Deployed> {
  const deployed = await createOrUpdate(api, deployment)
  if (deployment.alias !== null) await api.setAlias(deployment.name, deployment.alias, deployed.record.Version)
  return deployed
}

async function createOrUpdate(api: ApiClient, { name, zip, members, publish }: Deployment): Promise<Deployed> {
  if ((await api.getConfiguration(name)) === null) {
    try {
      return { created: true, record: await api.createFunction(name, zip, members, publish) }
    } catch (error) {
      // Somebody else made it between the two calls: then this is an update after all.
      if (!(error instanceof RemoteError && error.status === 409)) throw error
    }
  }
  // Settings first: new code may need a new variable, old code seldom minds one.
  if (hasMembers(members)) await api.updateConfiguration(name, members)
  return { created: false, record: await api.updateCode(name, zip, publish) }
}

function hasMembers(members: ConfigurationMembers): boolean {
  const { Outpost: outpost = {}, ...rest } = members
  return Object.keys(rest).length + Object.keys(outpost).length > 0
}
