/** Runs tests in Node itself, each in a thread of its own: what a guest is compared with. */
import { Worker } from 'node:worker_threads'
import { REALM_REPORT, REALM_SETUP } from './realm.ts'
import type { SuiteServer } from './suite-server.ts'
import type { FileReport, Runner } from './types.ts'

const GRACE_MS = 10_000

const THREAD = `
const { parentPort, workerData } = require('node:worker_threads')
const { readFileSync } = require('node:fs')
const { runInThisContext } = require('node:vm')
const { root, scripts, here, timeoutMs } = workerData
const report = (value) => parentPort.postMessage(JSON.stringify(value))
const fail = (error) => report({ status: 1, message: String(error?.stack ?? error), subtests: [] })
// What evaluated code finds as globals would make helpers take themselves for modules.
for (const name of ['module', 'exports', 'require', '__filename', '__dirname']) delete globalThis[name]
process.on('uncaughtException', fail)
globalThis[Symbol.for('undici.globalOrigin.1')] = new URL(here)
const run = (path) => runInThisContext(readFileSync(root + '/' + path, 'utf8'), { filename: path })
;(${REALM_SETUP})(here)
try {
  run('resources/testharness.js')
  ;(${REALM_REPORT})(timeoutMs, report)
  for (const path of scripts) run(path)
} catch (error) {
  fail(error)
}
`

export function createNodeRunner(root: string, server: SuiteServer): Runner {
  return {
    run: (file) => new Promise<FileReport>((resolve) => {
      const workerData = { root, scripts: file.scripts, here: `${server.origin}/${file.id}`, timeoutMs: file.timeoutMs }
      const worker = new Worker(THREAD, { eval: true, workerData, stdout: true, stderr: true })
      const end = (report: FileReport): void => {
        clearTimeout(timer)
        resolve(report)
        void worker.terminate()
      }
      const timer = setTimeout(() => end({ status: 2, message: 'the thread does not answer', subtests: [] }), file.timeoutMs + GRACE_MS)
      worker.on('message', (text: string) => end(JSON.parse(text) as FileReport))
      worker.on('error', (error) => end({ status: 1, message: error.message, subtests: [] }))
      worker.on('exit', () => end({ status: 1, message: 'the thread ended by itself', subtests: [] }))
    }),
    close: () => Promise.resolve(),
  }
}
