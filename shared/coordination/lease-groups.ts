/** Members and leaderships of one process over either driver's documents. */
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import { DocumentLeadership } from './leadership.ts'
import { DocumentMembers } from './members.ts'
import { requireBucketName } from './names.ts'
import type { Documents, Leadership, Members } from './types.ts'

export interface LeaseGroupsOptions {
  readonly clock: Clock
  readonly log: Log
  /** Documents of the group's members; of all leaderships. Not those of a caller's bucket of the same name. */
  readonly memberDocuments: (group: string) => Documents
  readonly leaderDocuments: () => Documents
}

export class LeaseGroups {
  readonly #options: LeaseGroupsOptions
  readonly #members = new Map<string, DocumentMembers>()
  readonly #leaderships = new Map<string, DocumentLeadership>()

  constructor(options: LeaseGroupsOptions) {
    this.#options = options
  }

  members(group: string): Members {
    requireBucketName(group)
    const { clock, log, memberDocuments } = this.#options
    const members = this.#members.get(group) ?? new DocumentMembers({ documents: memberDocuments(group), clock, log })
    this.#members.set(group, members)
    return members
  }

  leadership(name: string): Leadership {
    requireBucketName(name)
    const { clock, log, leaderDocuments } = this.#options
    const leadership = this.#leaderships.get(name) ?? new DocumentLeadership({ name, documents: leaderDocuments(), clock, log })
    this.#leaderships.set(name, leadership)
    return leadership
  }

  async close(): Promise<void> {
    await Promise.all([...this.#members.values(), ...this.#leaderships.values()].map((user) => user.close()))
  }
}
