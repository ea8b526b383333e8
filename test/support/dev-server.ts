/** `outpost dev` as a real process, and what tests ask of it. */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { BIN, start, type StartedProcess } from './cli.ts'

export interface DevServer extends StartedProcess {
  readonly url: string
  readonly regionUrl: string
  readonly functions: readonly { readonly name: string; readonly url: string }[]
  /** Process ids of the region and the POP that run now. */
  children(): { readonly region: number | null; readonly pop: number | null }
}

/** Started on a free port and with a data folder of its own unless told otherwise; ends with the test. */
export async function startDev(t: Test, dir: string | null, options: { readonly data?: string; readonly argv?: readonly string[]; readonly bin?: string; readonly cwd?: string } = {}): Promise<DevServer> {
  const data = options.data ?? t.testdir({})
  const argv = ['dev', ...(dir === null ? [] : [dir]), '--port', '0', '--data', data, '--json', ...(options.argv ?? [])]
  const started = start(process.execPath, [options.bin ?? BIN, ...argv], options.cwd === undefined ? {} : { cwd: options.cwd })
  t.teardown(async () => {
    started.child.kill('SIGTERM')
    await started.ended
  })
  const out = await started.untilOut('}\n')
  const ready = JSON.parse(out.split('\n')[0] ?? '') as Pick<DevServer, 'url' | 'regionUrl' | 'functions'>
  return { ...started, ...ready, children: () => childrenOf(started.child.pid ?? 0) }
}

function childrenOf(pid: number): { readonly region: number | null; readonly pop: number | null } {
  const pids = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number)
  const named = (name: string): number | null => pids.find((child) => readFileSync(`/proc/${child}/cmdline`, 'utf8').split('\0').includes(name)) ?? null
  return { region: named('region'), pop: named('pop') }
}

/** Asks until the answer satisfies; fails with the last answer after the deadline. */
export async function eventually<T>(ask: () => Promise<T>, satisfies: (answer: T) => boolean, deadlineMs = 20_000): Promise<T> {
  const deadlineAtMs = performance.now() + deadlineMs
  let last: unknown
  for (;;) {
    try {
      const answer = await ask()
      if (satisfies(answer)) return answer
      last = answer
    } catch (error) {
      last = error
    }
    if (performance.now() > deadlineAtMs) throw new Error(`not within ${deadlineMs} ms; the last answer was ${last instanceof Error ? String(last) : JSON.stringify(last)}`)
    await sleep(20)
  }
}

export async function text(url: string, init?: RequestInit): Promise<string> {
  const response = await fetch(url, init)
  return await response.text()
}
