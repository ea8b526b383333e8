/** What a configuration says of how its source becomes a module, and as options of esbuild. */
import { readFile } from 'node:fs/promises'
import { relative } from 'node:path'
import type { BuildOptions, Plugin } from 'esbuild'
import { z } from 'zod'
import { dataModule } from '../chunks/virtual-modules.ts'

export const RULE_TYPES = ['ESModule', 'CommonJS', 'Text', 'Data', 'CompiledWasm'] as const

const rule = z.strictObject({
  type: z.enum(RULE_TYPES).describe('Text: the default export is a string. Data: an ArrayBuffer.'),
  globs: z.array(z.string().max(256)).max(64).describe('Files, relative to this one: **/*.md'),
  fallthrough: z.boolean().optional().describe('Accepted for wrangler: other rules for other files always apply.'),
})

/** Members of a configuration. */
export const sourceSettings = {
  alias: z.record(z.string(), z.string()).optional().describe('Modules that are taken in place of others, by their name.'),
  define: z.record(z.string(), z.string()).optional().describe('Names in the source that stand for an expression, as text.'),
  minify: z.boolean().optional().describe('Shorten the code. Stacks still tell names and lines of the source.'),
  rules: z.array(rule).max(64).optional().describe('Files that are imported as something else than their ending says.'),
  tsconfig: z.string().optional().describe('The tsconfig.json that counts. Default: that of the folder.'),
  jsx_factory: z.string().optional().describe('Default: React.createElement.'),
  jsx_fragment: z.string().optional().describe('Default: React.Fragment.'),
}

export type BundleSettings = z.infer<z.ZodObject<typeof sourceSettings>>

type SettingOptions = Pick<BuildOptions, 'alias' | 'minify' | 'tsconfig' | 'jsxFactory' | 'jsxFragment'> & { readonly define: Record<string, string>; readonly plugins: Plugin[] }

/** To be laid over the bundler's own; `define` beside its. */
export function settingOptions({ alias, define = {}, minify, rules = [], tsconfig, jsx_factory: jsxFactory, jsx_fragment: jsxFragment }: BundleSettings, dir: string): SettingOptions {
  return {
    define,
    plugins: rules.length === 0 ? [] : [moduleRules(rules, dir)],
    ...(alias === undefined ? {} : { alias }),
    ...(minify === undefined ? {} : { minify }),
    ...(tsconfig === undefined ? {} : { tsconfig }),
    ...(jsxFactory === undefined ? {} : { jsxFactory }),
    ...(jsxFragment === undefined ? {} : { jsxFragment }),
  }
}

type Rule = z.infer<typeof rule>

/** The first rule that matches a file says what it is; files of packages too, as in wrangler. */
export function moduleRules(rules: readonly Rule[], dir: string): Plugin {
  const known = rules.flatMap(({ type, globs }) => globs.map((glob) => ({ type, pattern: globPattern(glob) })))
  return {
    name: 'outpost-rules',
    setup(build) {
      build.onLoad({ filter: /./, namespace: 'file' }, async ({ path }) => {
        const place = relative(dir, path)
        const type = known.find(({ pattern }) => pattern.test(place))?.type
        if (type === undefined) return null
        if (type === 'CompiledWasm') return { errors: [{ text: `${place} is WebAssembly by a rule, and functions cannot import WebAssembly modules` }] }
        const contents = await readFile(path)
        if (type === 'Text') return { contents, loader: 'text' }
        if (type === 'Data') return { contents: dataModule(contents), loader: 'js' }
        return { contents, loader: /\.[cm]?tsx?$/.test(path) ? 'tsx' : 'jsx' }
      })
    },
  }
}

/** `**` is any folders, `*` and `?` stay within a name, `{a,b}` is either. */
export function globPattern(glob: string): RegExp {
  const source = glob.replace(/^\.\//, '').replace(/\*\*\/|\*\*|\*|\?|\{[^{}]*\}|[.+^$()|[\]\\]/g, (part) => {
    if (part === '**/') return '(?:[^/]+/)*'
    if (part === '**') return '.*'
    if (part === '*') return '[^/]*'
    if (part === '?') return '[^/]'
    if (part.startsWith('{')) return `(?:${part.slice(1, -1).split(',').map((each) => each.replace(/[^\w/-]/g, '\\$&')).join('|')})`
    return `\\${part}`
  })
  return new RegExp(`^${source}$`)
}
