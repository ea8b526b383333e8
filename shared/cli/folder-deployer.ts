/**
 * Keeps what is deployed equal to a directory: deploys everything once, then again whatever an edit changed.
 *
 * F1: one look at the directory at a time; edits during one make exactly one more, which sees the latest code.
 * F2: what is deployed already (same bundle, same settings) is not deployed again.
 * F3: code that does not build leaves the last good deployment in service.
 * F4: a failure is said once, and what a region has refused is sent again only after an edit.
 */
import { createHash } from 'node:crypto'
import { watch, type FSWatcher } from 'node:fs'
import { basename, dirname } from 'node:path'
import type { Clock } from '../clock.ts'
import type { ApiClient } from './api-client.ts'
import { openBundler, type Bundle, type Bundler } from './bundle.ts'
import { deployFunction } from './deployment.ts'
import { readFolder, type FolderFunction, type FolderOptions } from './function-folder.ts'
import { RemoteError, renderError } from './output.ts'
import { renderWarnings, reportOf } from './publish-report.ts'
import { zipBundle } from './zip.ts'

/** An editor writes a file in several steps; a person does not see this delay. */
const SETTLE_MS = 25
/** As many as a region builds at once (limits.ts, BUILDS_RUNNING_MAX). */
const DEPLOY_PARALLEL = 2

export interface FolderDeployerOptions {
  readonly dir: string
  /** How the folder's configuration is read. */
  readonly folder?: FolderOptions
  readonly api: ApiClient
  readonly clock: Clock
  readonly say: (text: string) => void
}

interface Entry {
  function: FolderFunction
  bundler: Bundler
  /** Digests of what is in service; null before the first deployment. */
  codeDigest: string | null
  membersDigest: string | null
  /** Digest of code and settings that the region refused, and the failure said last. */
  refusedDigest: string | null
  lastFailure: string | null
  /** Files outside packages that the bundle was made from. */
  inputs: readonly string[]
}

export class FolderDeployer {
  readonly #options: FolderDeployerOptions
  readonly #entries = new Map<string, Entry>()
  readonly #watchers = new Map<string, FSWatcher>()
  #cancelSettle: (() => void) | null = null
  #busy: Promise<void> = Promise.resolve()
  #scanQueued = false
  #closed = false

  constructor(options: FolderDeployerOptions) {
    this.#options = options
  }

  /** Names of the functions in service, sorted. */
  get deployed(): readonly string[] {
    return [...this.#entries.values()].filter((entry) => entry.codeDigest !== null).map((entry) => entry.function.name).sort()
  }

  /** Services that functions of this folder are bound to. */
  get services(): readonly string[] {
    return [...this.#entries.values()].flatMap(({ function: { members } }) => (members.Outpost?.Services ?? []).map(({ Service }) => Service))
  }

  /** Deploys everything once and then follows edits. A function that cannot be deployed is reported and does not keep the others back. */
  async start(): Promise<void> {
    await this.#scan()
    this.#watch(this.#options.dir)
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#cancelSettle?.()
    for (const watcher of this.#watchers.values()) watcher.close()
    await this.#busy
    await Promise.all([...this.#entries.values()].map((entry) => entry.bundler.close()))
  }

  /** Reads the directory again and brings every function up to date. */
  async #scan(): Promise<void> {
    const { dir, say } = this.#options
    let functions: readonly FolderFunction[]
    try {
      const folder = readFolder(dir, this.#options.folder)
      functions = folder.functions
      if (this.#entries.size === 0) for (const note of folder.notes) say(`${note}\n`)
    } catch (error) {
      say(renderError(error))
      return
    }
    for (const found of functions) {
      const known = this.#entries.get(found.name)
      if (known?.function.entry === found.entry && JSON.stringify(known.function.source) === JSON.stringify(found.source)) {
        known.function = found
        continue
      }
      await known?.bundler.close()
      this.#entries.set(found.name, { function: found, bundler: await openBundler(found.entry, dir, found.source), codeDigest: known?.codeDigest ?? null, membersDigest: known?.membersDigest ?? null, refusedDigest: null, lastFailure: null, inputs: [found.entry] })
    }
    await this.#removeMissing(new Set(functions.map((found) => found.name)))
    const queue = [...this.#entries.values()]
    await Promise.all(Array.from({ length: DEPLOY_PARALLEL }, async () => {
      for (let entry = queue.shift(); entry !== undefined; entry = queue.shift()) await this.#update(entry)
    }))
  }

  async #removeMissing(names: ReadonlySet<string>): Promise<void> {
    for (const [name, entry] of this.#entries) {
      if (names.has(name)) continue
      this.#entries.delete(name)
      await entry.bundler.close()
      if (entry.codeDigest === null) continue
      try {
        await this.#options.api.deleteFunction(name)
        this.#options.say(`deleted ${name}: its file is gone\n`)
      } catch (error) {
        this.#options.say(renderError(error))
      }
    }
  }

  async #update(entry: Entry): Promise<void> {
    const { api, say, clock } = this.#options
    const { name, members, declared } = entry.function
    const startedAtMs = clock.monotonicMs()
    let digest = ''
    try {
      const built = await entry.bundler.build()
      this.#follow(entry, built)
      if (!declared && !built.exports.includes('default') && !built.exports.includes('handler')) return
      const codeDigest = createHash('sha256').update(built.code).update(built.sourceMap).digest('hex')
      const membersDigest = JSON.stringify(members)
      digest = codeDigest + membersDigest
      if ((codeDigest === entry.codeDigest && membersDigest === entry.membersDigest) || digest === entry.refusedDigest) return
      const { created, record } = await deployFunction(api, {
        name,
        zip: zipBundle(built),
        members: membersDigest === entry.membersDigest ? {} : members,
        publish: false,
        alias: null,
      })
      entry.codeDigest = codeDigest
      entry.membersDigest = membersDigest
      entry.refusedDigest = null
      entry.lastFailure = null
      say(`${created ? 'deployed' : 'updated'} ${name} in ${Math.round(clock.monotonicMs() - startedAtMs)} ms\n`)
      const report = reportOf(record)
      // Sizes are for deploy: here an edit should say what is wrong, and nothing when nothing is.
      if (report !== null) say(renderWarnings(report))
    } catch (error) {
      if (error instanceof RemoteError && error.status < 500) entry.refusedDigest = digest
      const failure = `${name}: ${renderError(error)}`
      if (failure !== entry.lastFailure) say(failure)
      entry.lastFailure = failure
    }
  }

  #follow(entry: Entry, built: Bundle): void {
    entry.inputs = built.inputs.filter((path) => !path.includes('/node_modules/'))
    for (const dir of new Set(entry.inputs.map((path) => dirname(path)))) this.#watch(dir)
  }

  #watch(dir: string): void {
    if (this.#closed || this.#watchers.has(dir)) return
    try {
      const watcher = watch(dir, (_event, file) => this.#changed(file))
      // A directory that was removed: its functions go with the next look at the top level.
      watcher.on('error', () => {
        watcher.close()
        this.#watchers.delete(dir)
      })
      this.#watchers.set(dir, watcher)
    } catch (error) {
      this.#options.say(`${dir} cannot be watched, edits there are not seen: ${error instanceof Error ? error.message : String(error)}\n`)
    }
  }

  /** Looks at everything again: with nothing changed that is a few milliseconds a function (F2). */
  #changed(file: string | null): void {
    if (this.#closed || (file !== null && isNoise(file))) return
    this.#cancelSettle?.()
    this.#cancelSettle = this.#options.clock.after(SETTLE_MS, () => {
      if (this.#scanQueued) return
      this.#scanQueued = true
      this.#busy = this.#busy.then(() => {
        this.#scanQueued = false
        return this.#closed ? undefined : this.#scan()
      })
    })
  }
}

/** Editors' swap and backup files, and our own data directory. */
function isNoise(file: string): boolean {
  const name = basename(file)
  return (name.startsWith('.') && !name.startsWith('.dev.vars')) || name.endsWith('~') || name === 'node_modules'
}
