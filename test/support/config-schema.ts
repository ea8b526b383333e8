/**
 * `config-schema.json` of the package, which editors read for outpost.jsonc: made from the schema that checks the file.
 * `node test/support/config-schema.ts --write` puts it there; the difference in the commit is what its readers will see.
 */
import { writeFileSync } from 'node:fs'
import { z } from 'zod'
import { outpostSchema } from '../../shared/cli/outpost-config.ts'

export const CONFIG_SCHEMA_FILE = new URL('../../config-schema.json', import.meta.url)

export function renderConfigSchema(): string {
  const schema = z.toJSONSchema(outpostSchema, { target: 'draft-7', io: 'input' })
  return `${JSON.stringify({ title: 'Configuration of an Outpost function (outpost.jsonc)', allowComments: true, allowTrailingCommas: true, ...schema }, null, 2)}\n`
}

if (process.argv.includes('--write')) writeFileSync(CONFIG_SCHEMA_FILE, renderConfigSchema())
