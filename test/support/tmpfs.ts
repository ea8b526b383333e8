/** A file system that is really full: memory of a few bytes, mounted. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** The folder; null without the right to mount: the test is then skipped and says so. */
export function mountTmpfs(bytes: number): string | null {
  const path = mkdtempSync(join(tmpdir(), 'outpost-full-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', path], { stdio: 'ignore' })
    return path
  } catch {
    return null
  }
}
