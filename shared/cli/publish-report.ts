/** What a publish found out, for people: how large the image is and by what, whether it was primed, and what to look at. */
import { z } from 'zod'
import type { FunctionRecord } from './api-client.ts'
import type { ModuleSize } from './module-sizes.ts'
import { renderBytes } from './output.ts'

const KIB_PER_PAGE = 4
/** Lines of each list; the rest is added up in one more. */
const LINES_MAX = 10

const reportSchema = z.object({
  primed: z.boolean(),
  primeNote: z.string(),
  warnings: z.array(z.string()),
  /** Services that it is bound to and that were not deployed when it was. */
  missingServices: z.array(z.object({ binding: z.string(), service: z.string() })).optional(),
  buildMs: z.number(),
  /** Pages of 4 KiB of the function's own image. */
  pages: z.number(),
  /** Images over the prelude's, measured: each library that is a layer, and the function's own code with what it bundles. */
  images: z.array(z.object({ name: z.string(), kib: z.number() })).optional(),
})
export type PublishReport = z.infer<typeof reportSchema>

/** As the region puts it into its answer; null from a server that says nothing. */
export function reportOf(record: FunctionRecord): PublishReport | null {
  return reportSchema.nullable().catch(null).parse(record.Outpost?.Report ?? null)
}

/** What of its code is not as one would wish, as lines with their ends; empty when all is well. */
export function renderWarnings({ primed, primeNote, warnings }: PublishReport): string {
  return [...(primed || primeNote.endsWith('switched off') ? [] : [`${primeNote}\n`]), ...warnings.map((warning) => `warning: ${warning}\n`)].join('')
}

/** Lines with their ends. `modules`: of the bundle. */
export function renderReport({ pages, primeNote, warnings, missingServices = [], images = [] }: PublishReport, modules: readonly ModuleSize[]): string {
  const total = images.length === 0 ? pages * KIB_PER_PAGE : images.reduce((sum, { kib }) => sum + kib, 0)
  return [
    `image: ${total} KiB over the prelude's${primeNote === '' ? '' : `, ${primeNote}`}\n`,
    ...(images.length > 1 ? list(images.map(({ name, kib }) => [name, kib] as const), (kib) => `${kib} KiB`) : []),
    ...(modules.length > 1 ? ['code:\n', ...list(modules.map(({ name, bytes }) => [name, bytes] as const), renderBytes)] : []),
    ...warnings.map((warning) => `warning: ${warning}\n`),
    ...missingServices.map(({ binding, service }) => `warning: the service binding ${binding} is of ${service}, which is not deployed: calls of it fail until it is\n`),
  ].join('')
}

function list(rows: readonly (readonly [name: string, size: number])[], render: (size: number) => string): string[] {
  const rest = rows.slice(LINES_MAX)
  const shown = rest.length === 0 ? rows : [...rows.slice(0, LINES_MAX), [`${rest.length} more`, rest.reduce((sum, [, size]) => sum + size, 0)] as const]
  return shown.map(([name, size]) => `  ${render(size).padStart(9)}  ${name}\n`)
}
