/**
 * A POP under random events: calls, deployments, deletions, a link that comes and goes, questions that hang or fail, a
 * host that refuses. Whatever happens:
 *   every call hears its last word exactly once, and nothing stays in flight;
 *   nothing runs here whose version was replaced or deleted before, as far as the POP has been told;
 *   nothing is kept of what is gone;
 *   nothing runs here without its image; the bytes of the hot set add up and stay within its budget.
 */
import t, { type Test } from 'tap'
import { CodedError } from '../../shared/errors.ts'
import { PAGE_BYTES } from '../../shared/microvm/manifest.ts'
import { seededRandom, type Random } from '../../shared/random.ts'
import type { FunctionVersions } from '../../shared/link/types.ts'
import type { BuildSpec } from '../../shared/worker/types.ts'
import { ACCOUNT, FakeSink, OK, makeBuild, makeCall, makeImage, makePop, refused, settle, type PopHarness } from './harness.ts'

const NAMES = ['a', 'b', 'c', 'd']
const HOT_SET_BYTES = 4 * PAGE_BYTES
const STEPS = 300

class World {
  readonly pop: PopHarness
  readonly random: Random
  readonly sinks: FakeSink[] = []
  /** What the region has. */
  readonly deployed = new Map<string, { build: BuildSpec; seq: number }>()
  /** What the POP has been told: builds that it may still run. */
  readonly told = new Map<string, Set<string>>()
  readonly problems: string[] = []
  #seq = 1
  #next = 1

  constructor(seed: number) {
    this.random = seededRandom(seed)
    this.pop = makePop({ admitCount: 1 + this.random.below(3), hotSetBytes: HOT_SET_BYTES, staleMaxMs: 30_000 })
    const { host, link } = this.pop
    host.onInvoke = (run) => {
      const { build } = run.input
      if (!host.hasImage(build.imageId)) this.problems.push(`${build.functionName} ran without its image`)
      if (!this.#mayRun(build.functionName, build.key)) this.problems.push(`${build.functionName} ran a version that is gone`)
      if (this.random.below(10) === 0) run.sink.end(refused('ERR_QUEUE_FULL'))
      else run.reply('local', { ...OK, cpuUs: this.random.below(30_000) })
    }
    link.onOpen = (stream) => {
      const entry = this.deployed.get(stream.frame.functionName)
      queueMicrotask(() => {
        if (this.random.below(10) === 0) stream.sink.error({ code: 'ERR_REGION_LOST', params: [] })
        else if (entry === undefined) stream.sink.error({ code: 'ERR_FUNCTION_NOT_FOUND', params: [stream.frame.functionName] })
        else stream.reply('region', entry.build.version)
      })
    }
    for (const name of NAMES) this.#deploy(name)
    this.#reconnect()
  }

  step(): void {
    const { pop, random } = this
    const name = NAMES[random.below(NAMES.length)] ?? 'a'
    switch (random.below(24)) {
      case 0:
        return this.#deploy(name)
      case 1:
        return random.below(3) === 0 ? this.#delete(name) : undefined
      case 2:
        return this.#reconnect()
      case 3:
        return random.below(3) === 0 ? pop.link.disconnect() : undefined
      case 4:
        return pop.clock.advance(random.below(20_000))
      case 5:
        void pop.residency.sweep()
        return
      case 6:
        pop.link.held ??= []
        return
      case 7:
        return pop.link.release()
      case 8:
        pop.link.failure = random.below(2) === 0 ? new CodedError('ERR_REGION_TIMEOUT', [1]) : null
        return
      default:
        return this.#call(name)
    }
  }

  async finish(): Promise<void> {
    this.pop.link.failure = null
    this.pop.link.release()
    await settle()
    await this.pop.residency.sweep()
    await settle()
  }

  check(): string[] {
    const { pop, problems } = this
    const words = this.sinks.map(({ ends, failures }) => ends.length + failures.length)
    if (words.some((count) => count !== 1)) problems.push(`last words: ${words.join(' ')}`)
    if (pop.dispatcher.inFlight !== 0 || pop.dispatcher.localInFlight !== 0) problems.push(`in flight: ${pop.dispatcher.inFlight} ${pop.dispatcher.localInFlight}`)
    const bytes = pop.hotSet.members().reduce((sum, member) => sum + member.bytes, 0)
    if (bytes !== pop.hotSet.usedBytes || bytes > HOT_SET_BYTES) problems.push(`hot set: ${bytes} of ${pop.hotSet.usedBytes}`)
    const resident = new Set([...pop.table.all()].flatMap((entry) => [...entry.resident.values()].map(({ build }) => build.imageId)))
    for (const imageId of pop.host.images.keys()) if (!resident.has(imageId)) problems.push(`image ${imageId.slice(0, 8)} is nobody's`)
    for (const entry of pop.table.all()) {
      if (entry.resident.size > 0 && !entry.hot.member) problems.push(`${entry.name} has images and no place`)
      if (entry.hot.member && this.told.get(entry.name)?.size === 0) problems.push(`${entry.name} is gone and has a place`)
      for (const key of entry.resident.keys()) if (!this.#mayRun(entry.name, key)) problems.push(`${entry.name} keeps a build that is gone`)
      if (entry.account.inFlight !== 0) problems.push(`account: ${entry.account.inFlight}`)
    }
    return problems
  }

  #mayRun(name: string, key: string): boolean {
    return this.told.get(name)?.has(key) ?? false
  }

  #call(name: string): void {
    const known = this.pop.versions.resolve(this.pop.table.get(ACCOUNT, name), null)
    if (known !== null && !this.#mayRun(name, known.build.key)) this.problems.push(`${name} stands for a build that is gone`)
    const sink = new FakeSink()
    this.sinks.push(sink)
    const answer = this.pop.dispatcher.invoke(makeCall(name), sink)
    if (this.random.below(10) === 0) answer.cancel()
  }

  #deploy(name: string): void {
    const image = makeImage([this.#next++, this.random.below(3)])
    const build = makeBuild(name, image, String(this.#next))
    this.deployed.set(name, { build, seq: ++this.#seq })
    this.pop.link.deploy(build, [image], this.#seq)
    this.#tell(name)
  }

  #delete(name: string): void {
    this.deployed.delete(name)
    this.#seq++
    this.pop.link.descriptions.delete(name)
    this.#tell(name)
  }

  /** A push reaches the POP only over an open link. */
  #tell(name: string): void {
    if (this.pop.link.state.kind !== 'open') return
    this.#hears(name)
    this.pop.link.push({ kind: 'changed', versions: this.#versions(name) })
  }

  #reconnect(): void {
    if (this.pop.link.state.kind === 'open') return
    for (const name of NAMES) this.#hears(name)
    const held = this.pop.versions.holds()
    this.pop.link.connect(held.filter(({ functionName }) => this.deployed.has(functionName)).map(({ functionName }) => this.#versions(functionName)), this.#seq)
  }

  #hears(name: string): void {
    const entry = this.deployed.get(name)
    this.told.set(name, new Set(entry === undefined ? [] : [entry.build.key]))
  }

  #versions(name: string): FunctionVersions {
    const entry = this.deployed.get(name)
    return { account: ACCOUNT, functionName: name, seq: entry?.seq ?? this.#seq, builds: entry === undefined ? [] : [entry.build.key] }
  }
}

async function run(t: Test, seed: number): Promise<{ local: number }> {
  const world = new World(seed)
  for (let step = 0; step < STEPS; step++) {
    world.step()
    if (world.random.below(3) === 0) await new Promise(setImmediate)
  }
  await world.finish()
  const problems = world.check()
  if (problems.length > 0) t.fail(`seed ${seed}: ${problems.join('; ')}`)
  return { local: world.sinks.filter(({ place }) => place === 'local').length }
}

t.test('invariants hold under random events', async (t) => {
  let local = 0
  for (let seed = 1; seed <= 100; seed++) local += (await run(t, seed)).local
  t.ok(local > 500, `${local} calls ran here, so the test tests something`)
})
