/** The command line under test: in this process with a context of the test's own, or as a real process. */
import { spawn, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { CliContext } from '../../shared/cli/context.ts'
import { runCommandLine, type ExitCode } from '../../shared/cli/program.ts'
import { silentLog } from '../../shared/log.ts'

export const BIN = fileURLToPath(new URL('../../shared/cli/bin.js', import.meta.url))

export interface Ran {
  readonly code: ExitCode
  readonly out: string
  readonly err: string
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly stdin?: string
  readonly stop?: AbortSignal
  readonly stderrIsTerminal?: boolean
}

export async function runHere(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  let out = ''
  let err = ''
  const context: CliContext = {
    env: options.env ?? {},
    cwd: options.cwd ?? process.cwd(),
    out: (text) => void (out += text),
    err: (text) => void (err += text),
    readStdin: () => Promise.resolve(Buffer.from(options.stdin ?? '')),
    stdinIsTerminal: false,
    stderrIsTerminal: options.stderrIsTerminal ?? false,
    makeLog: () => silentLog,
    onHangup: () => undefined,
    stopSignal: () => options.stop ?? new AbortController().signal,
    self: { file: process.execPath, argv: [BIN] },
    tellParent: () => undefined,
    nodeChoice: 'the one of the test',
  }
  const code = await runCommandLine(argv, context)
  return { code, out, err }
}

export interface ProcessRan {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly out: string
  readonly err: string
}

export interface StartedProcess {
  readonly child: ChildProcess
  /** Resolves with all of stdout once it contains the text; rejects if the process ends before. */
  untilOut(text: string): Promise<string>
  /** The same for stderr, where the log is. */
  untilErr(text: string): Promise<string>
  /** What came on stderr so far. */
  err(): string
  readonly ended: Promise<ProcessRan>
}

/** Only PATH comes from the environment of the test, so that no setting of the machine is tested along. */
export function start(file: string, argv: readonly string[], options: RunOptions = {}): StartedProcess {
  const child = spawn(file, argv, { cwd: options.cwd ?? process.cwd(), env: { PATH: process.env.PATH, ...options.env }, stdio: ['pipe', 'pipe', 'pipe'] })
  let out = ''
  let err = ''
  const waiting = new Set<() => void>()
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString()
    for (const look of waiting) look()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString()
    for (const look of waiting) look()
  })
  child.stdin.on('error', () => undefined)
  child.stdin.end(options.stdin ?? '')
  const ended = new Promise<ProcessRan>((done, failed) => {
    child.once('error', failed)
    child.once('close', (code, signal) => done({ code, signal, out, err }))
  })
  const until = (text: string, printed: () => string): Promise<string> =>
    new Promise((done, failed) => {
      const look = (): void => {
        if (!printed().includes(text)) return
        waiting.delete(look)
        done(printed())
      }
      waiting.add(look)
      look()
      void ended.then((ran) => failed(new Error(`ended with ${ran.code ?? ran.signal} before printing ${JSON.stringify(text)}: ${ran.out}${ran.err}`)), failed)
    })
  return { child, ended, err: () => err, untilOut: (text) => until(text, () => out), untilErr: (text) => until(text, () => err) }
}

export function runProcess(argv: readonly string[], options: RunOptions = {}): Promise<ProcessRan> {
  return start(process.execPath, [BIN, ...argv], options).ended
}
