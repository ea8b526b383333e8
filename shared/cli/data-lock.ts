/**
 * One process per data directory: two regions on one store would each believe to be the only writer. The lock is a file
 * with a process id; one that names a process which is gone (a machine that lost power) is taken over.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CodedError } from '../errors.ts'

const LOCK_FILE = 'outpost.pid'

/** Makes the directory if need be. Returns what gives the lock back. Throws ERR_DATA_LOCKED, ERR_ENVIRONMENT. */
export function lockDataDir(dir: string): () => void {
  const file = join(dir, LOCK_FILE)
  try {
    mkdirSync(dir, { recursive: true })
    for (;;) {
      if (tryCreate(file)) return () => rmSync(file, { force: true })
      const owner = readOwner(file)
      if (owner !== null && owner !== process.pid && isAlive(owner)) throw new CodedError('ERR_DATA_LOCKED', [dir, owner])
      rmSync(file, { force: true })
    }
  } catch (error) {
    if (error instanceof CodedError) throw error
    throw new CodedError('ERR_ENVIRONMENT', [`The data directory ${dir} cannot be used: ${error instanceof Error ? error.message : String(error)}. Give another one with --data`])
  }
}

function tryCreate(file: string): boolean {
  try {
    writeFileSync(file, String(process.pid), { flag: 'wx' })
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}

function readOwner(file: string): number | null {
  try {
    const text = readFileSync(file, 'utf8')
    return /^\d+$/.test(text) ? Number(text) : null
  } catch {
    // Given back in this very moment: the next try finds out.
    return null
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: it lives and belongs to another user.
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
