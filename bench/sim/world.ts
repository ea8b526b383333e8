/** How large the simulated worlds are. */

export interface World {
  readonly functions: number
  readonly pops: number
  readonly regions: number
}

export const FULL: World = { functions: 100_000, pops: 300, regions: 6 }
export const QUICK: World = { functions: 2_000, pops: 12, regions: 2 }
export const SEED = 20_260_101

export function shapeText({ functions, pops, regions }: World): string {
  return `${functions} functions, ${pops} POPs, ${regions} regions`
}
