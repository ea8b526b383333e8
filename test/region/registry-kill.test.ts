/** A region killed at random moments: every acknowledged write is there, and whatever is there is consistent. */
import { fork } from 'node:child_process'
import { rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Registry } from '../../region/registry.ts'
import { seededRandom } from '../../shared/random.ts'
import { openParts, startRegion, tempDir } from './fakes.ts'

const ROUNDS = 20
const ACCOUNT = '000000000000'

/** Last acknowledged state of each function, and the one announced after it, as JSON. */
interface Expected {
  acknowledged: string
  announced: string | null
}

await t.test(`killed ${ROUNDS} times while functions change`, { timeout: 110_000 }, async (t) => {
  const path = tempDir()
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  const seed = Date.now() % 1_000_000
  t.comment(`seed ${seed}`)
  const random = seededRandom(seed)
  const expected = new Map<string, Expected>()
  let acks = 0
  for (let round = 0; round < ROUNDS; round += 1) {
    const lines = await runAndKill(fileURLToPath(new URL('../fixtures/registry-writer.ts', import.meta.url)), [path, String(seed + round)], { afterLines: 1 + random.below(60), thenMs: random.below(12) })
    acks += readLines(lines, expected)
    const { environment, registry, content, audit } = openParts(path)
    t.same(audit(), [], `round ${round}: consistent after ${lines.length} lines`)
    for (const [name, { acknowledged, announced }] of expected) {
      const actual = stateOf(registry, name)
      t.ok(actual === acknowledged || actual === announced, `round ${round}: ${name} is as acknowledged`, { actual, acknowledged, announced })
      expected.set(name, { acknowledged: actual, announced: null })
      for (const qualifier of actual.includes('"code":null') ? [] : [null, ...registry.read(ACCOUNT, name).versions(0, 1000).map(({ version }) => version)]) {
        const { imageId } = registry.resolve(ACCOUNT, name, qualifier)
        if (!content.hasImage(ACCOUNT, imageId)) t.fail(`${name}:${qualifier} names a missing image`)
      }
    }
    await environment.close()
  }
  t.ok(acks > ROUNDS, `${acks} writes were acknowledged`)
  const made = await startRegion({ path })
  t.teardown(() => made.close())
  const { store, registry } = made
  await made.collect()
  const live = new Set([...registry.liveObjects()].map(({ account, objectId }) => `${account}/${objectId}`))
  t.same(store.tables.objectsAfter(null, 1_000_000).filter(({ account, objectId }) => !live.has(`${account}/${objectId}`)), [], 'a collection leaves nothing that nothing names')
  t.same(made.audit(), [])
})

function readLines(lines: readonly string[], expected: Map<string, Expected>): number {
  let acks = 0
  for (const line of lines) {
    const [kind, name = '', state = ''] = line.split(' ')
    const known = expected.get(name) ?? { acknowledged: JSON.stringify({ code: null, nextVersion: 1, versions: [], aliases: {} }), announced: null }
    if (kind === 'begin') expected.set(name, { ...known, announced: state })
    if (kind === 'ack') {
      expected.set(name, { acknowledged: state, announced: null })
      acks += 1
    }
  }
  return acks
}

function stateOf(registry: Registry, name: string): string {
  const reader = registry.read(ACCOUNT, name)
  const record = reader.function()
  return JSON.stringify({
    code: record?.latest.settings.description ?? null,
    nextVersion: record?.nextVersion ?? 1,
    versions: reader.versions(0, 1000).map(({ version }) => version),
    aliases: Object.fromEntries(reader.aliases('', 1000).map((alias) => [alias.name, alias.functionVersion])),
  })
}

/** Kills the child some time after so many lines; returns all complete lines it wrote. */
function runAndKill(file: string, args: readonly string[], moment: { readonly afterLines: number; readonly thenMs: number }): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const child = fork(file, args, { stdio: ['ignore', 'pipe', 'inherit', 'ipc'], execArgv: ['--disable-warning=ExperimentalWarning'] })
    let output = ''
    let lines = 0
    let killing = false
    child.once('error', reject)
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text
      lines += text.split('\n').length - 1
      if (killing || lines < moment.afterLines) return
      killing = true
      setTimeout(() => child.kill('SIGKILL'), moment.thenMs)
    })
    child.once('close', (code) => {
      if (code === null) resolve(output.split('\n').slice(0, -1))
      else reject(new Error(`the writer ended by itself with ${code}`))
    })
  })
}
