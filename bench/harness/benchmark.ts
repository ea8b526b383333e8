/**
 * What a benchmark is: figures with a bar each, what it needs of the machine, and a run that measures them.
 * A run checks every answer it gets; a wrong or failed answer rejects the run, so a figure never rests on errors.
 */
import type { StartOutpost } from '../servers/outpost.ts'
import type { Scope } from './scope.ts'

/** `wrk`: the load generator's Debian package. `peers`: binaries of workerd and uWebSockets.js for this platform. `linux`: /proc. */
export type Need = 'wrk' | 'peers' | 'linux'

export type Unit = 'x' | 'us' | 'ms' | 's' | 'MiB' | 'KiB' | 'errors' | 'points'

export interface Bar {
  readonly relation: 'at least' | 'at most'
  readonly value: number
  readonly unit: Unit
}

export interface FigureSpec {
  /** Unique over all benchmarks; the key in the JSON. */
  readonly key: string
  readonly what: string
  readonly bar: Bar
}

export interface Measurement {
  readonly key: string
  /** In the unit of the figure's bar; null when it could not be had, then `note` says why. */
  readonly value: number | null
  /** The value of each round. */
  readonly rounds: readonly number[]
  /** What the value was made from, by peer: medians, with the unit in the name. */
  readonly detail: Readonly<Record<string, number>>
  readonly note: string
}

export interface BenchmarkContext {
  readonly rounds: number
  /** A small run that shows that the benchmark works; its values mean nothing. */
  readonly quick: boolean
  /** Everything started is registered here and is gone when the scope closes. */
  readonly scope: Scope
  /** The system under test; tests of the harness put a stub here. */
  readonly startOutpost: StartOutpost
  /** Keeps a picture of results, SVG. Not called in a quick run. */
  plot(name: string, svg: string): void
  /** One line about what is going on, for a person who waits. */
  progress(line: string): void
}

export interface Benchmark {
  readonly name: string
  readonly needs: readonly Need[]
  readonly figures: readonly FigureSpec[]
  run(context: BenchmarkContext): Promise<readonly Measurement[]>
}

/** Thrown by a run that cannot take place here; the figures count as not measured, not as failed. */
export class NotMeasurable extends Error {
  override readonly name = 'NotMeasurable'
}

export function atLeast(value: number, unit: Unit): Bar {
  return { relation: 'at least', value, unit }
}

export function atMost(value: number, unit: Unit): Bar {
  return { relation: 'at most', value, unit }
}

export function isMet(bar: Bar, value: number): boolean {
  return bar.relation === 'at least' ? value >= bar.value : value <= bar.value
}
