/** `outpost deploy [ENTRY]`: bundle one file, or the function that a configuration names, and put it into service. */
import { existsSync, statSync } from 'node:fs'
import { basename, dirname, extname, resolve } from 'node:path'
import type { Command } from 'commander'
import { CodedError } from '../../errors.ts'
import { FUNCTION_LIMIT_MAX } from '../../limits.ts'
import { ApiClient, resolveCredentials, type ConfigurationMembers } from '../api-client.ts'
import { runBuildCommand } from '../build-command.ts'
import type { BundleSettings } from '../bundle-settings.ts'
import { type Bundle, bundle, shortPath } from '../bundle.ts'
import type { CliContext } from '../context.ts'
import { deployFunction } from '../deployment.ts'
import { collect, functionName, keyAndValue, resolveEndpoint, variableOption, wholeNumber } from '../options.ts'
import { renderBytes } from '../output.ts'
import { readProject, ROUTES_NOTE } from '../project-config.ts'
import { renderReport, reportOf } from '../publish-report.ts'
import { zipBundle } from '../zip.ts'

interface DeployOptions {
  readonly name?: string
  readonly config?: string
  readonly env?: string
  readonly endpoint?: string
  readonly var?: readonly string[]
  readonly secret?: readonly string[]
  readonly timeout?: number
  readonly memory?: number
  readonly cpuMs?: number
  /** Paths, `false` by --no-prime, undefined when neither was given. */
  readonly prime?: readonly string[] | boolean
  readonly route?: readonly string[]
  readonly alias?: string
  readonly publish?: boolean
  readonly json?: boolean
}

export function addDeploy(program: Command, context: CliContext): void {
  program
    .command('deploy')
    .description('bundle a function and put it into service under a name')
    .argument('[entry]', 'a .js, .mjs or .ts file that exports `default { fetch }` or `handler`, or the directory of a project (default: the project here)')
    .option('-n, --name <name>', "the function's name (default: the configuration's, else the file's)")
    .option('-c, --config <file>', 'configuration file (default: outpost.jsonc or a wrangler configuration, if the directory has one)')
    .option('-e, --env <name>', 'environment of the configuration')
    .option('--endpoint <url>', 'a POP or a region (default: OUTPOST_ENDPOINT, else http://127.0.0.1:8787)')
    .option('--var <key=value>', 'a variable of `env`; those given replace all variables, or with a configuration those of the same name; may be repeated', collect)
    .option('--secret <key[=value]>', 'a secret of `env`; without a value it is read from stdin; may be repeated', collect)
    .option('--timeout <seconds>', 'wall time of one invocation', wholeNumber(1, FUNCTION_LIMIT_MAX.wallMs / 1000))
    .option('--memory <mib>', 'memory of one invocation', wholeNumber(1, FUNCTION_LIMIT_MAX.memoryMib))
    .option('--cpu-ms <ms>', 'CPU time of one invocation', wholeNumber(1, FUNCTION_LIMIT_MAX.cpuMs))
    .option('--prime <path>', 'path of a synthetic request that runs before the image is taken; may be repeated', collect)
    .option('--no-prime', 'take the image right after the top level')
    .option('--route <pattern>', 'host or host/path, kept with the function but not served yet; may be repeated', collect)
    .option('--publish', 'publish a numbered version')
    .option('--alias <name>', 'publish, and point this alias to the new version')
    .option('--json', 'print the result as JSON')
    .addHelpText('after', '\nThe same bundle deployed again changes nothing. Secrets never enter an image: read them in the handler.\n')
    .action((entry: string | undefined, options: DeployOptions) => runDeploy(context, entry, options))
}

interface Target {
  readonly path: string
  readonly name: string
  /** Paths are shown, and settings meant, relative to it. */
  readonly cwd: string
  readonly members: ConfigurationMembers
  readonly source: BundleSettings
}

async function runDeploy(context: CliContext, entry: string | undefined, options: DeployOptions): Promise<void> {
  const { path, name, cwd, members, source } = await target(context, entry, options)
  const api = new ApiClient(resolveEndpoint(options.endpoint, context), resolveCredentials(context.env))
  if (options.route !== undefined) context.err(`warning: ${ROUTES_NOTE}\n`)

  const built = await bundle(path, cwd, source)
  for (const warning of built.warnings) context.err(`warning: ${warning}\n`)
  context.err(`bundled ${shortPath(path, context.cwd)}: ${renderBytes(built.code.byteLength)}${libraries(built)} in ${built.tookMs} ms\n`)

  const startedAtMs = performance.now()
  const { created, record } = await deployFunction(api, {
    name,
    zip: zipBundle(built),
    members,
    publish: options.publish === true || options.alias !== undefined,
    alias: options.alias ?? null,
  })
  const url = new URL(`/fn/${name}/`, api.endpoint).href
  if (options.json === true) {
    context.out(`${JSON.stringify({ name, created, version: record.Version, arn: record.FunctionArn, codeSha256: record.CodeSha256 ?? null, alias: options.alias ?? null, url, report: reportOf(record), modules: built.modules })}\n`)
    return
  }
  context.err(`${created ? 'deployed' : 'updated'} ${name} (${record.Version}) in ${Math.round(performance.now() - startedAtMs)} ms\n`)
  const report = reportOf(record)
  if (report !== null) context.err(renderReport(report, built.modules))
  context.out(`${url}\n`)
}

function libraries({ chunks }: Bundle): string {
  const shown = chunks.map(({ name, source }) => `${name.replace(/^npm:|#.*$/g, '')} (${renderBytes(Buffer.byteLength(source))})`)
  return shown.length === 0 ? '' : ` and ${shown.join(', ')}`
}

/** What is deployed: a file by itself, or the function of a configuration, with what the command line says laid over it. */
async function target(context: CliContext, entry: string | undefined, options: DeployOptions): Promise<Target> {
  const given = entry === undefined ? context.cwd : resolve(context.cwd, entry)
  if (!existsSync(given)) throw new CodedError('ERR_ENTRY_NOT_FOUND', [entry ?? given])
  const file = statSync(given).isFile() ? given : null
  const project = readProject(file === null ? given : context.cwd, { environment: options.env ?? null, file: options.config === undefined ? null : resolve(context.cwd, options.config), entry: file })
  if (project === null) {
    if (file === null) throw new CodedError('ERR_USAGE', [`${given} has no outpost.jsonc, wrangler configuration or package.json that names main: make one, or give a file: outpost deploy ENTRY`])
    const members = await commandLineMembers(options, context, null)
    return { path: file, name: functionName(options.name ?? basename(file, extname(file))), cwd: context.cwd, members, source: {} }
  }
  for (const note of project.notes) context.err(`warning: ${note}\n`)
  if (file === null) await runBuildCommand(project, context)
  const members = await commandLineMembers(options, context, project.members)
  return { path: project.entry, name: functionName(options.name ?? project.name), cwd: dirname(project.file), members, source: project.source }
}

async function commandLineMembers(options: DeployOptions, context: CliContext, configured: ConfigurationMembers | null): Promise<ConfigurationMembers> {
  const secrets = await readSecrets(options.secret ?? [], context)
  const variables = options.var === undefined ? null : Object.fromEntries(options.var.map(variableOption))
  const prime = options.prime === true ? undefined : options.prime
  const base = configured?.Outpost ?? {}
  const outpost = {
    ...base,
    ...(variables === null ? {} : { JsonVariables: Object.fromEntries(Object.entries(base.JsonVariables ?? {}).filter(([name]) => !Object.hasOwn(variables, name))) }),
    ...(secrets === null ? {} : { Secrets: secrets }),
    ...(prime === undefined ? {} : { Prime: prime }),
    ...(options.cpuMs === undefined ? {} : { Limits: { ...base.Limits, CpuMs: options.cpuMs } }),
    ...(options.route === undefined ? {} : { Routes: options.route }),
  }
  return {
    ...configured,
    ...(options.timeout === undefined ? {} : { Timeout: options.timeout }),
    ...(options.memory === undefined ? {} : { MemorySize: options.memory }),
    ...(variables === null ? {} : { Environment: { Variables: { ...configured?.Environment?.Variables, ...variables } } }),
    ...(Object.keys(outpost).length === 0 ? {} : { Outpost: outpost }),
  }
}

/** A value on the command line stays in the shell's history and in the process list: stdin is the way that does not. */
async function readSecrets(texts: readonly string[], context: CliContext): Promise<Record<string, string> | null> {
  if (texts.length === 0) return null
  const pairs = texts.map(keyAndValue)
  const fromStdin = pairs.filter((pair) => pair.value === null)
  if (fromStdin.length > 1) throw new CodedError('ERR_USAGE', [`only one secret can be read from stdin, and ${fromStdin.map((pair) => pair.key).join(' and ')} have no value`])
  const [first] = fromStdin
  if (first !== undefined && context.stdinIsTerminal) context.err(`value of ${first.key}, then Ctrl-D: `)
  const read = first === undefined ? '' : Buffer.from(await context.readStdin()).toString().replace(/\r?\n$/, '')
  if (first !== undefined && read === '') throw new CodedError('ERR_USAGE', [`no value for the secret ${first.key} on stdin`])
  return Object.fromEntries(pairs.map(({ key, value }) => [key, value ?? read]))
}


