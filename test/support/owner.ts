/** A test as somebody who cleans up: folders that are gone with it, each a new one, and what is undone at its end. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { LineOwner } from './image-line.ts'

export function ownedBy(t: Test): LineOwner {
  return {
    defer(undo) {
      t.teardown(undo)
    },
    folder() {
      const folder = mkdtempSync(join(tmpdir(), 'outpost-test-'))
      t.teardown(() => rmSync(folder, { recursive: true, force: true }))
      return folder
    },
  }
}
