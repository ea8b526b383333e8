/**
 * The process of the command line, and the only place of it that reads the environment, installs signal handlers and
 * exits. Everything else gets a CliContext.
 */
import { fileURLToPath } from 'node:url'
import { jsonLog, prettyLog } from './log-output.ts'
import type { CliContext } from './context.ts'
import { runCommandLine } from './program.ts'

/** A terminal sends Ctrl-C to every process of its group and wrappers pass it on: copies of one signal arrive together. */
const SECOND_SIGNAL_AFTER_MS = 300

const supervised = process.connected

const context: CliContext = {
  env: process.env,
  cwd: process.cwd(),
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  readStdin,
  stdinIsTerminal: process.stdin.isTTY,
  stderrIsTerminal: process.stderr.isTTY,
  makeLog: (component, pretty) => (pretty ? prettyLog((text) => void process.stderr.write(text), component) : jsonLog(process.stderr, component)),
  stopSignal: lazy(installSignalHandlers),
  onHangup: (listener) => void process.on('SIGHUP', listener),
  self: { file: process.execPath, argv: ['--disable-warning=ExperimentalWarning', fileURLToPath(import.meta.url)] },
  tellParent(message) {
    // The parent may go at any moment; the disconnect handler is what acts on that.
    if (process.connected) process.send?.(message, () => undefined)
  },
  nodeChoice: process.env.OUTPOST_NODE ?? `this is the node that was started (${process.execPath})`,
}

for (const stream of [process.stdout, process.stderr]) {
  // Whoever read our output has stopped reading (`outpost list | head`): nothing is left to do for it.
  stream.on('error', () => process.exit(0))
}
// A channel to a parent must not keep a finished command alive.
process.channel?.unref()

const exitCode = await runCommandLine(process.argv.slice(2), context)
// Pools of sockets and esbuild's service would keep the process; what was written must still get out.
process.exitCode = exitCode
process.stdout.write('', () => process.stderr.write('', () => process.exit()))

/** SIGHUP is left alone unless somebody asks for it (`onHangup`): it ends the process at once, which nothing acknowledged is lost by, and `nohup` keeps its meaning. */
function installSignalHandlers(): AbortSignal {
  const controller = new AbortController()
  let firstAtMs: number | null = null
  const stop = (): void => {
    const nowMs = performance.now()
    if (firstAtMs === null) firstAtMs = nowMs
    else if (nowMs - firstAtMs > SECOND_SIGNAL_AFTER_MS) process.exit(1)
    controller.abort()
  }
  process.on('SIGTERM', stop)
  // A terminal's Ctrl-C reaches a supervised process too, but its parent decides the order in which things stop.
  process.on('SIGINT', isServerChild() ? () => undefined : stop)
  if (supervised) {
    process.once('disconnect', stop)
    process.channel?.unref()
  }
  return controller.signal
}

/** Started by `outpost dev`, and not by bin.js for the sake of a newer Node. */
function isServerChild(): boolean {
  return supervised && process.env.OUTPOST_SUPERVISED === '1'
}

async function readStdin(): Promise<Uint8Array> {
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(Buffer.from(chunk as Uint8Array))
  return Buffer.concat(chunks)
}

function lazy<T>(make: () => T): () => T {
  let made: { readonly value: T } | null = null
  return () => (made ??= { value: make() }).value
}
