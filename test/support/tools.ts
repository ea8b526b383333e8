/** Tests that need a program from outside npm: skipped with its package's name, or failed where all of them must be there. */
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Test } from 'tap'

/**
 * The path of `command`, or null after the test was skipped: return then. With OUTPOST_REQUIRE_TOOLS=1 (as .ci/run sets
 * it, after installing them) a missing tool is a failure.
 */
export function needTool(t: Test, command: string, debianPackage: string): string | null {
  const path = findTool(command)
  if (path !== null) return path
  skip(t, `needs ${command}: apt-get install ${debianPackage}`)
  return null
}

/** Skips the test, or fails it where nothing may be missing: return then. */
export function skip(t: Test, message: string): void {
  if (process.env.OUTPOST_REQUIRE_TOOLS === '1') t.fail(message)
  else t.plan(0, message)
}

export function findTool(command: string): string | null {
  for (const dir of (process.env.PATH ?? '').split(delimiter).filter((entry) => entry !== '')) {
    const file = join(dir, command)
    try {
      accessSync(file, constants.X_OK)
      return file
    } catch {
      // Not in this directory.
    }
  }
  return null
}
