/**
 * Rules of the source as one test: which folder may import which, what only a main file may touch, names and sizes.
 * Every message names the file and the rule.
 */
import t from 'tap'
import { readdirSync, readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { join, relative, resolve, dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { ERRORS, RETIRED_ERROR_CODES } from '../shared/errors.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const SHIPPED = ['shared', 'pop', 'region']
const MAX_LINES = 600

/** Tiers are built here and nowhere else in shared/: two commands are the wiring of the two kinds of process, a third works on a region's data at rest. */
const MAY_IMPORT_TIERS: Readonly<Record<string, string>> = { 'shared/cli/commands/region.ts': 'region', 'shared/cli/commands/pop.ts': 'pop', 'shared/cli/commands/store.ts': 'region' }
/** Only these load the package itself; everybody else goes through them, for the reason their headers give. */
const ONLY_IMPORTER: Readonly<Record<string, readonly string[]>> = {
  'uWebSockets.js': ['shared/http/uws.ts'],
  msgpackr: ['shared/link/codec.ts'],
}
/** Reads its own setting before a native library loads; see its header. */
const MAY_TOUCH_PROCESS = new Set(['shared/http/uws.ts'])

interface Source {
  /** Relative to the checkout, with forward slashes. */
  readonly file: string
  readonly text: string
  readonly lines: readonly string[]
  readonly tree: ts.SourceFile
  readonly imports: readonly string[]
}

const sources = ['shared', 'pop', 'region', 'bench', 'test'].flatMap((folder) => list(folder)).filter((file) => file.endsWith('.ts') && !file.includes('/fixtures/')).map(read)
const shipped = sources.filter(({ file }) => SHIPPED.some((folder) => file.startsWith(`${folder}/`)))

t.test('pop and region meet only in shared, and shared stands on neither', async (t) => {
  for (const source of shipped) {
    const tier = topFolder(source.file)
    for (const target of localImports(source)) {
      const other = topFolder(target)
      if (other === tier || other === 'shared') continue
      const allowed = MAY_IMPORT_TIERS[source.file] === other
      if (!allowed) t.fail(`${source.file} imports ${target}: ${tier}/ may import only ${tier === 'shared' ? 'shared/' : `${tier}/ and shared/`}`)
    }
  }
  t.pass('imports read')
})

t.test('what is shipped imports packages that are shipped', async (t) => {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { dependencies: Record<string, string> }
  for (const { file, imports } of shipped) {
    for (const name of imports.filter((specifier) => !specifier.startsWith('.')).map(packageName)) {
      if (name.startsWith('node:') || name in manifest.dependencies) continue
      t.fail(builtinModules.includes(name) ? `${file} imports ${name}: write node:${name}` : `${file} imports ${name}, which is not among the dependencies of package.json`)
    }
  }
  t.pass('imports read')
})

t.test('some packages have one door', async (t) => {
  for (const { file, imports, tree } of shipped) {
    for (const name of valueImports(tree, imports)) {
      const doors = ONLY_IMPORTER[packageName(name)]
      if (doors !== undefined && !doors.includes(file)) t.fail(`${file} imports ${name}: only ${doors.join(', ')} may`)
    }
  }
  t.pass('imports read')
})

t.test('the process belongs to main files and the command line', async (t) => {
  for (const { file, tree, imports } of shipped) {
    if (file.startsWith('shared/cli/') || /(^|[/-])main\.ts$/.test(file) || MAY_TOUCH_PROCESS.has(file)) continue
    if (imports.includes('node:process')) t.fail(`${file} imports node:process: only shared/cli and main files may touch the process`)
    for (const line of usesOfGlobal(tree, 'process')) t.fail(`${file}:${line} uses process: only shared/cli and main files may touch the process`)
  }
  t.pass('sources read')
})

t.test('pure decisions take time and chance from outside', async (t) => {
  for (const { file, text, imports } of shipped.filter((source) => source.file.startsWith('shared/place/'))) {
    for (const banned of ['Date.now', 'new Date()', 'performance.now', 'Math.random', 'setTimeout', 'setInterval', 'setImmediate', 'systemClock', 'systemRandom']) {
      if (withoutComments(text).includes(banned)) t.fail(`${file} uses ${banned}: shared/place decides by its arguments only`)
    }
    for (const name of imports.filter((specifier) => specifier.startsWith('node:') && specifier !== 'node:crypto')) t.fail(`${file} imports ${name}: shared/place does no I/O`)
  }
  t.pass('sources read')
})

t.test('addresses of modules work in the installed package too', async (t) => {
  for (const { file, lines } of shipped) {
    lines.forEach((line, index) => {
      if (/new URL\(\s*['"`][^'"`]*\.ts['"`]/.test(line)) t.fail(`${file}:${index + 1} names a .ts file by new URL: siblingModule of shared/module-url.ts gives .js where that is what there is`)
    })
  }
  t.pass('sources read')
})

t.test('files and folders are kebab-case, no longer than a reader can hold', async (t) => {
  for (const { file, lines } of sources) {
    if (!/^([a-z0-9]+(-[a-z0-9]+)*\/)*[a-z0-9]+(-[a-z0-9]+)*(\.test)?(\.d)?\.ts$/.test(file)) t.fail(`${file} is not kebab-case`)
    if (lines.length > MAX_LINES) t.fail(`${file} has ${lines.length} lines, more than ${MAX_LINES}: look for a second reason to change`)
  }
  t.pass('names read')
})

t.test('a test has its file at the same path under test/', async (t) => {
  const files = new Set(sources.map(({ file }) => file))
  const folders = new Set(sources.map(({ file }) => dirname(file)))
  for (const { file } of sources.filter((source) => source.file.endsWith('.test.ts'))) {
    const mirrored = dirname(file).replace(/^test\/?/, '')
    if (mirrored === '' || /^(conformance|hostile|fault|sim|support|system)/.test(mirrored)) continue
    if (!folders.has(mirrored) && !files.has(`${mirrored}.ts`)) t.fail(`${file} tests ${mirrored}/, which is not there`)
  }
  t.pass('names read')
})

t.test('a file that nothing imports is a main file or a test', async (t) => {
  const imported = new Set(sources.flatMap((source) => [...localImports(source), ...siblings(source)]))
  for (const { file } of shipped) {
    if (imported.has(file) || /(^|[/-])main\.ts$/.test(file) || file.endsWith('.d.ts') || file.includes('/example/')) continue
    t.fail(`${file} is imported by nothing`)
  }
  t.pass('imports read')
})

t.test('the lockfile installs everywhere: no address of a registry, and every optional package that npm ci looks for', async (t) => {
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as { packages: Record<string, { resolved?: string; optionalDependencies?: Record<string, string> }> }
  const locked = new Set(Object.keys(packages).map((path) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)))
  for (const [path, { resolved, optionalDependencies = {} }] of Object.entries(packages)) {
    if (resolved !== undefined) t.fail(`package-lock.json: ${path} names ${new URL(resolved).host}: set omit-lockfile-registry-resolved`)
    for (const name of Object.keys(optionalDependencies)) {
      if (!locked.has(name)) t.fail(`package-lock.json: ${name}, wanted by ${path}, is missing: run node .ci/complete-lockfile.js`)
    }
  }
  t.pass('lockfile read')
})

t.test('codes of errors: once retired never used again, named like what they are', async (t) => {
  for (const code of RETIRED_ERROR_CODES) t.notOk(code in ERRORS, `${code} is retired`)
  for (const [code, { status, message }] of Object.entries(ERRORS)) {
    t.match(code, /^ERR(_[A-Z0-9]+)+$/, `${code} is ERR_ and upper case`)
    t.ok(Number.isInteger(status) && status >= 400 && status <= 599, `${code} has an HTTP error status`)
    t.ok(message.length > 1 && !message.endsWith('.'), `${code} has a message without full stop`)
  }
})

function list(folder: string): readonly string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile() && !entry.name.startsWith('.')).map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
}

function read(file: string): Source {
  const text = readFileSync(join(ROOT, file), 'utf8')
  const imports = ts.preProcessFile(text, true, true).importedFiles.map((imported) => imported.fileName)
  return { file, text, lines: text.split('\n'), tree: ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true), imports }
}

function topFolder(file: string): string {
  return file.split('/')[0] ?? ''
}

function localImports({ file, imports }: Source): readonly string[] {
  return imports.filter((specifier) => specifier.startsWith('.')).map((specifier) => relative(ROOT, resolve(ROOT, dirname(file), specifier)))
}

/** Modules named by siblingModule, which are loaded by address. */
function siblings({ file, text }: Source): readonly string[] {
  return [...text.matchAll(/siblingModule\(import\.meta\.url, '([^']+)'\)/g)].map((match) => relative(ROOT, resolve(ROOT, dirname(file), `${match[1] ?? ''}.ts`)))
}

function packageName(specifier: string): string {
  return specifier.split('/').slice(0, specifier.startsWith('@') ? 2 : 1).join('/')
}

/** Imports that load the module, as opposed to its types. */
function valueImports(tree: ts.SourceFile, imports: readonly string[]): readonly string[] {
  const typeOnly = tree.statements.flatMap((statement) => {
    const onlyTypes = (ts.isImportDeclaration(statement) && statement.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword) || (ts.isExportDeclaration(statement) && statement.isTypeOnly)
    return onlyTypes && statement.moduleSpecifier !== undefined && ts.isStringLiteral(statement.moduleSpecifier) ? [statement.moduleSpecifier.text] : []
  })
  const counts = new Map<string, number>()
  for (const name of typeOnly) counts.set(name, (counts.get(name) ?? 0) + 1)
  return imports.filter((name) => {
    const left = counts.get(name) ?? 0
    counts.set(name, left - 1)
    return left <= 0
  })
}

/** Lines on which a name is used as a variable: not as a member, a property name, a parameter or a word in a comment. */
function usesOfGlobal(tree: ts.SourceFile, name: string): readonly number[] {
  const lines: number[] = []
  const declared = new Set<string>()
  const visit = (node: ts.Node): void => {
    if ((ts.isParameter(node) || ts.isVariableDeclaration(node) || ts.isBindingElement(node)) && ts.isIdentifier(node.name)) declared.add(node.name.text)
    if (ts.isIdentifier(node) && node.text === name) {
      const { parent } = node
      const isMember = ts.isPropertyAccessExpression(parent) && parent.name === node && parent.expression.getText() !== 'globalThis'
      const isName = ts.isPropertyAssignment(parent) || ts.isPropertySignature(parent) || ts.isPropertyDeclaration(parent) || ts.isMethodDeclaration(parent) || ts.isMethodSignature(parent)
      if (!isMember && !isName) lines.push(tree.getLineAndCharacterOfPosition(node.getStart()).line + 1)
    }
    ts.forEachChild(node, visit)
  }
  visit(tree)
  return declared.has(name) ? [] : lines
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, '')
}
