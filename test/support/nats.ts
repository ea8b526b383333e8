/** A real nats-server for tests: on a free port of loopback, with a folder of its own, to be killed, stopped and started again. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { freePort } from './site.ts'
import { needTool } from './tools.ts'

export interface NatsServer {
  readonly url: string
  readonly port: number
  /** Where its streams are. */
  readonly path: string
  readonly pid: () => number
  /** Resolves once it is gone. SIGKILL by default. */
  kill(signal?: NodeJS.Signals): Promise<void>
  /** Stops the process, as a machine that hangs: its connections stay open. */
  suspend(): void
  resume(): void
  /** Again on the same port with the same folder. Resolves once it listens. */
  start(): Promise<void>
}

export interface NatsServerOptions {
  /** More of its configuration file. */
  readonly configuration?: string
}

/** Null after the test was skipped, or failed, for want of the program: return then. Gone with the test. */
export async function startNats(t: Test, { configuration = '' }: NatsServerOptions = {}): Promise<NatsServer | null> {
  const command = needTool(t, 'nats-server', 'nats-server')
  if (command === null) return null
  const path = mkdtempSync(join(tmpdir(), 'outpost-nats-'))
  const port = await freePort()
  const file = join(path, 'server.conf')
  writeFileSync(file, `listen: "127.0.0.1:${port}"\njetstream { store_dir: "${path}" }\n${configuration}\n`)
  let child: ChildProcess | null = null
  const start = async (): Promise<void> => {
    const started = spawn(command, ['-c', file], { stdio: ['ignore', 'ignore', 'pipe'] })
    child = started
    await new Promise<void>((resolve, reject) => {
      let said = ''
      started.stderr.on('data', (chunk: Buffer) => {
        said += chunk.toString()
        if (said.includes('Server is ready')) resolve()
        if (said.length > 65_536) said = said.slice(-1024)
      })
      started.once('exit', () => reject(new Error(`nats-server ended: ${said}`)))
    })
  }
  const kill = async (signal: NodeJS.Signals = 'SIGKILL'): Promise<void> => {
    const running = child
    child = null
    if (running === null || running.exitCode !== null || running.signalCode !== null) return
    const gone = once(running, 'exit')
    running.kill(signal)
    await gone
  }
  t.teardown(async () => {
    await kill()
    rmSync(path, { recursive: true, force: true })
  })
  await start()
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    path,
    pid: () => child?.pid ?? 0,
    kill,
    suspend: () => void child?.kill('SIGSTOP'),
    resume: () => void child?.kill('SIGCONT'),
    start,
  }
}
