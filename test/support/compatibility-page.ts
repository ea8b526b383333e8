/** The table of COMPATIBILITY.md: made from what ran, and read back. */
import { readFileSync } from 'node:fs'
import type { Application } from '../fixtures/frameworks/requests.ts'

export interface Row {
  /** With versions, as in `react-dom 18.3.1, react 18.3.1`. */
  readonly packages: string
  readonly requests: number
  /** Whole, not minified. */
  readonly bundleKib: number
  readonly note: string
}

const HEAD = `# Compatibility

Each row is an application of \`test/fixtures/frameworks\`, put into service as \`outpost deploy\` does and asked over HTTP at a POP that serves it itself.
Each answer (status, headers, body) is what the same bundle gives in Node, except for headers of the connection and \`x-outpost-*\`; packages that need modules
of Node (from jsonwebtoken on) are compared with a bundle that has Node's own.
\`test/system/frameworks.test.ts\` runs them all; it fails if a row, a version, a number of requests or a note here is not what ran, and writes this page
with \`OUTPOST_WRITE_COMPATIBILITY=1\`. Sizes are of bundles in one piece that are not minified, and are not compared.

| package | requests | bundle KiB | notes |
|---|---:|---:|---|
`

export function ofApplication({ packages, requests, note }: Application, bundleKib: number): Row {
  return { packages: packages.map((name) => `${name} ${versionOf(name)}`).join(', '), requests: requests.length, bundleKib, note }
}

export function renderPage(rows: readonly Row[]): string {
  return `${HEAD}${rows.map(({ packages, requests, bundleKib, note }) => `| ${packages} | ${requests} | ${bundleKib} | ${note} |\n`).join('')}`
}

export function readRows(page: string): readonly Row[] {
  return page.split('\n').filter((line) => /^\| (?!package \|)/.test(line)).map((line) => {
    const [packages = '', requests, bundleKib, note = ''] = line.slice(1, -1).split('|').map((cell) => cell.trim())
    return { packages, requests: Number(requests), bundleKib: Number(bundleKib), note }
  })
}

/** Packages may not export their package.json. */
function versionOf(name: string): string {
  const { version } = JSON.parse(readFileSync(new URL(`../../node_modules/${name}/package.json`, import.meta.url), 'utf8')) as { version: string }
  return version
}
