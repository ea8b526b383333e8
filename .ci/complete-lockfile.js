/**
 * Adds to package-lock.json the optional packages of other platforms that `npm install` could not look up, since `npm ci`
 * refuses a lockfile in which any of them is missing. They are named by exact version by the package that wants them;
 * platform and architecture are in their names. Run it after `npm install PACKAGE`: node .ci/complete-lockfile.js
 */
import { readFileSync, writeFileSync } from 'node:fs'

const FILE = new URL('../package-lock.json', import.meta.url)
const CPU = { x64: 'x64', 64: 'x64', arm64: 'arm64', arm: 'arm', ia32: 'ia32' }
const SYSTEM = { darwin: 'darwin', linux: 'linux', win32: 'win32', windows: 'win32' }

const lock = JSON.parse(readFileSync(FILE, 'utf8'))
for (const [path, entry] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    if (isLocked(path, name)) continue
    const platform = /-(darwin|linux|win32|windows)-(x64|64|arm64|arm|ia32)\b/.exec(name)
    if (platform === null || !/^\d/.test(version)) throw new Error(`${name}@${version}, wanted by ${path}, tells no platform or no exact version`)
    lock.packages[`node_modules/${name}`] = { version, cpu: [CPU[platform[2]]], ...(entry.dev ? { dev: true } : {}), optional: true, os: [SYSTEM[platform[1]]] }
    console.log(`added ${name}@${version}`)
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([one], [other]) => one.localeCompare(other, 'en')))
writeFileSync(FILE, `${JSON.stringify(lock, null, 2)}\n`)

/** Looked for upwards, as Node does. */
function isLocked(path, name) {
  for (let base = path; ; base = base.slice(0, Math.max(0, base.lastIndexOf('/node_modules/')))) {
    if (`${base === '' ? '' : `${base}/`}node_modules/${name}` in lock.packages) return true
    if (base === '') return false
  }
}
