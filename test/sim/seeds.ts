/**
 * Which seeds a simulation runs: `OUTPOST_SIM_SEED=n` one of them, to see a failure again; `OUTPOST_SIM_SEEDS=n` that many; else as many
 * as fit into `budgetMs`, `usual` at most. A failure prints its seed, and the last lines of what happened.
 */
const one = process.env.OUTPOST_SIM_SEED
const many = process.env.OUTPOST_SIM_SEEDS

export interface Simulation {
  readonly world: { readonly trace: readonly string[] }
  run(): void
}

export interface SettlingSimulation extends Pick<Simulation, 'world'> {
  run(): Promise<void>
}

/** How many seeds ran; throws with the first that fails. */
export function runSeeds(make: (seed: number) => Simulation, usual: number, budgetMs: number): number {
  if (one !== undefined) {
    runSeed(make, Number(one))
    return 1
  }
  const startMs = performance.now()
  const count = many === undefined ? usual : Number(many)
  for (let seed = 1; seed <= count; seed++) {
    if (many === undefined && performance.now() - startMs > budgetMs) return seed - 1
    runSeed(make, seed)
  }
  return count
}

function runSeed(make: (seed: number) => Simulation, seed: number): void {
  const simulation = make(seed)
  try {
    simulation.run()
  } catch (error) {
    throw withSeed(seed, simulation, error)
  }
}

function withSeed(seed: number, { world }: Pick<Simulation, 'world'>, error: unknown): Error {
  const lines = world.trace.slice(-60).join('\n')
  return new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}\nagain with: OUTPOST_SIM_SEED=${seed} node ${process.argv[1] ?? ''}\n${lines}`, { cause: error })
}

/** `runSeeds` for code that waits for promises. */
export async function settleSeeds(make: (seed: number) => SettlingSimulation, usual: number, budgetMs: number): Promise<number> {
  const startMs = performance.now()
  const count = one !== undefined ? Number(one) : many === undefined ? usual : Number(many)
  let seed = one === undefined ? 1 : count
  for (; seed <= count; seed++) {
    if (many === undefined && performance.now() - startMs > budgetMs) break
    const simulation = make(seed)
    try {
      await simulation.run()
    } catch (error) {
      throw withSeed(seed, simulation, error)
    }
  }
  return seed - 1
}

/** `firstFailure` for code that waits for promises. */
export async function firstSettledFailure(make: (seed: number) => SettlingSimulation, found: RegExp, seeds: number): Promise<{ readonly seed: number; readonly message: string } | null> {
  for (let seed = 1; seed <= seeds; seed++) {
    try {
      await make(seed).run()
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      if (found.test(message)) return { seed, message }
    }
  }
  return null
}

/** What a broken rule leads to, by the first seed that fails so; null if none of them does. */
export function firstFailure(make: (seed: number) => Simulation, found: RegExp, seeds: number): { readonly seed: number; readonly message: string } | null {
  for (let seed = 1; seed <= seeds; seed++) {
    try {
      make(seed).run()
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      if (found.test(message)) return { seed, message }
    }
  }
  return null
}
