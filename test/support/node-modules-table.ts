/** The table of Node's modules in SPECIFICATION.md, made of the one that the bundlers use. */
import { builtinModules } from 'node:module'
import { NODE_MODULES } from '../../shared/node-compat/modules.ts'

export function nodeModuleTable(): string {
  const rows = Object.entries(NODE_MODULES).map(([name, { absent }]) => `| \`${name}\` | ${absent.length === 0 ? '' : absent.map((each) => `\`${each}\``).join(', ')} |`)
  const others = builtinModules.filter((name) => !name.startsWith('_') && !Object.hasOwn(NODE_MODULES, name)).map((name) => `\`${name}\``)
  return `| module | throws when it is called |\n|---|---|\n${rows.join('\n')}\n\nRefused at publish: ${others.join(', ')}.`
}
