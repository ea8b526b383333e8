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
    const lines = simulation.world.trace.slice(-60).join('\n')
    throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}\nagain with: OUTPOST_SIM_SEED=${seed} node ${process.argv[1] ?? ''}\n${lines}`, { cause: error })
  }
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
