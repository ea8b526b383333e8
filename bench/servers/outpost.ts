/**
 * Outpost as a user runs it: a region and a POP, each a process of its own, functions deployed through the
 * Lambda-compatible API, requests sent to the POP's web endpoints.
 */
import { existsSync } from 'node:fs'
import { NotMeasurable } from '../harness/benchmark.ts'
import type { Scope } from '../harness/scope.ts'
import type { Server } from './server.ts'

export interface OutpostOptions {
  /** `--memory` of the POP, MiB; null for its default. */
  readonly memoryMib: number | null
  /** `--slots` of the POP; null for its default. */
  readonly slots: number | null
  /** The POP's memory budget is set so that about this many copies of fixtures/numbered.js fit; null: `memoryMib` rules. */
  readonly hotFunctions: number | null
  /** The POP keeps no function hot: it forwards every call. */
  readonly forwardsAll: boolean
  /** Functions may fetch from loopback, where the benchmark's upstream is. */
  readonly allowsLoopback: boolean
}

export const OUTPOST_DEFAULTS: OutpostOptions = { memoryMib: null, slots: null, hotFunctions: null, forwardsAll: false, allowsLoopback: false }

export interface Deployment {
  readonly name: string
  /** One self-contained ES module. */
  readonly source: string
  /** CPU limit of one invocation, ms; null for the default. */
  readonly cpuMs: number | null
  readonly memoryMib: number | null
}

export interface Outpost {
  /** `target('NAME')` is that function's web endpoint. */
  readonly pop: Server
  readonly region: Server
  /** Resolves once the function is published at the region. */
  deploy(deployment: Deployment): Promise<void>
  /** Calls the function until the POP itself answers. Rejects after `timeoutMs`. */
  untilHot(name: string, timeoutMs: number): Promise<void>
  stop(): Promise<void>
}

export type StartOutpost = (scope: Scope, options: OutpostOptions) => Promise<Outpost>

const CLI_MAIN = new URL('../../shared/cli/main.ts', import.meta.url)

export const startOutpost: StartOutpost = () => {
  if (!existsSync(CLI_MAIN)) return Promise.reject(new NotMeasurable('Outpost cannot be started yet: shared/cli/main.ts is missing'))
  return Promise.reject(new NotMeasurable('the adapter bench/servers/outpost.ts is not wired yet'))
}
