/**
 * What a command may touch of the process it runs in. main.ts makes the real one, tests make their own; so no command
 * reads the environment, writes to a stream or exits by itself.
 */
import type { Log } from '../log.ts'

export interface CliContext {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  /** What was asked for: the only thing on stdout. */
  out(text: string): void
  /** Everything that a program need not read. */
  err(text: string): void
  /** All of stdin. */
  readStdin(): Promise<Uint8Array>
  readonly stdinIsTerminal: boolean
  readonly stderrIsTerminal: boolean
  /** Makes the process log; its shape is for people when `pretty`, else JSON lines. Both go to stderr. */
  makeLog(component: string, pretty: boolean): Log
  /**
   * Aborted by the first SIGINT or SIGTERM, and when a parent that supervises this process goes away. Before
   * the first call signals do what they always do, so that short commands end at once.
   */
  stopSignal(): AbortSignal
  /** Calls the listener at each SIGHUP from now on. Before the first call it ends the process. */
  onHangup(listener: () => void): void
  /** How to start this program again: a server's processes are this program with another command. */
  readonly self: { readonly file: string; readonly argv: readonly string[] }
  /** Tells a supervising parent something; does nothing without one. */
  tellParent(message: Readonly<Record<string, unknown>>): void
  /** How this Node was chosen; see bin.js. */
  readonly nodeChoice: string
}
