/** Small files with keys in them: readable by their owner only, and whole or not there at all, whatever happens meanwhile. */
import { randomUUID } from 'node:crypto'
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, renameSync, unlinkSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { CodedError, toCodedError } from '../errors.ts'

/** Null if there is none. Throws ERR_STORE_KEY if it cannot be read. */
export function readSecretFile(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return null
    throw new CodedError('ERR_STORE_KEY', [path, toCodedError(error).message], { cause: error })
  }
}

/** Makes a file; leaves one that is there as it is. On disk when it returns. Throws ERR_STORE_KEY. */
export function createSecretFile(path: string, text: string): void {
  write(path, text, (temporary) => {
    try {
      linkSync(temporary, path)
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error
    } finally {
      unlinkSync(temporary)
    }
  })
}

/** Puts a file in place of the one that is there. On disk when it returns. Throws ERR_STORE_KEY. */
export function replaceSecretFile(path: string, text: string): void {
  write(path, text, (temporary) => renameSync(temporary, path))
}

function write(path: string, text: string, place: (temporary: string) => void): void {
  const temporary = `${path}.${randomUUID()}`
  try {
    const file = openSync(temporary, 'wx', 0o600)
    try {
      writeSync(file, text)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    place(temporary)
    // The entry in the folder is on disk only once the folder is.
    const folder = openSync(dirname(path), 'r')
    try {
      fsyncSync(folder)
    } finally {
      closeSync(folder)
    }
  } catch (error) {
    throw new CodedError('ERR_STORE_KEY', [path, toCodedError(error).message], { cause: error })
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
