/** The sessions of a process with what an operator has set. */
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import { MIB, SESSIONS_DISK_MAX_BYTES, SESSIONS_PER_ACCOUNT_MAX } from '../limits.ts'
import type { Log } from '../log.ts'
import { SessionDisk } from './session-disk.ts'
import { SessionTable, type SessionTableOptions } from './session-table.ts'

export interface CreateTableOptions extends Pick<SessionTableOptions, 'place' | 'keys' | 'buildOf'> {
  readonly clock: Clock
  readonly log: Log
  /** Sessions survive a restart in a folder of it; null: they end with the process. */
  readonly dataDir: string | null
  readonly sessionMemoryMib: number
  readonly sessionStateMaxMib: number
}

export function createSessionTable({ dataDir, sessionMemoryMib, sessionStateMaxMib, ...options }: CreateTableOptions): SessionTable {
  const { clock, log } = options
  return new SessionTable({
    ...options,
    disk: dataDir === null ? null : new SessionDisk({ path: join(dataDir, 'sessions'), clock, log, maxBytes: SESSIONS_DISK_MAX_BYTES }),
    stateMaxBytes: sessionStateMaxMib * MIB,
    memoryMaxBytes: sessionMemoryMib * MIB,
    perAccountMax: SESSIONS_PER_ACCOUNT_MAX,
  })
}
