/**
 * The rule by which a publish is acknowledged when several nodes share a registry, as a model: objects first, then the head by
 * compare-and-set, then the node's own mirror on disk, then the answer. Nodes crash between any two steps and come back with their
 * disks, messages get lost, and two nodes publish at once. What was acknowledged is in the head for good, with its objects, and in every
 * mirror in the end; a node reads what it has itself acknowledged also right after a restart. (The registry's own code is
 * tested with real processes in test/region/.)
 */
import { World } from './world.ts'

const STORE = 'store'

/** One rule broken on purpose. */
export interface PublishFault {
  readonly acknowledges?: 'before-head' | 'before-mirror'
  readonly headFirst?: boolean
  readonly blindWrite?: boolean
}

interface Head {
  readonly versions: readonly string[]
  readonly revision: number
}

interface Mirror {
  head: Head
  life: number
}

export class PublishModel {
  readonly world: World
  readonly fault: PublishFault
  readonly acknowledged: { readonly version: string; readonly node: string }[] = []
  readonly #objects = new Set<string>()
  #head: Head = { versions: [], revision: 0 }
  readonly #nodes = new Map<string, Mirror>()
  #publishes = 0
  #trouble = true

  constructor(seed: number, fault: PublishFault = {}) {
    this.world = new World(seed)
    this.fault = fault
    const { world } = this
    world.faults = { drop: world.between(0, 0.2), duplicate: world.between(0, 0.2), slow: world.between(0, 0.1), delayMs: 20, slowMs: 1_000 }
    for (const id of ['n0', 'n1', 'n2']) this.#nodes.set(id, { head: this.#head, life: 0 })
  }

  run(): void {
    const { world } = this
    for (const id of this.#nodes.keys()) {
      this.#publishAt(id)
      this.#crashAt(id)
      this.#watchAt(id)
    }
    world.runUntil(20_000)
    this.#trouble = false
    world.faults = { drop: 0, duplicate: 0, slow: 0, delayMs: 5, slowMs: 5 }
    world.runUntil(30_000)
    for (const { version } of this.acknowledged) {
      if (!this.#head.versions.includes(version)) throw new Error(`${version} was acknowledged and is not in the head`)
      for (const [id, { head }] of this.#nodes) if (!head.versions.includes(version)) throw new Error(`${version} was acknowledged and is not at ${id}`)
    }
    for (const version of this.#head.versions) if (!this.#objects.has(version)) throw new Error(`${version} has no objects`)
  }

  #publishAt(id: string): void {
    const { world } = this
    world.after(world.between(10, 400), () => {
      if (!this.#trouble) return
      this.#publish(id, `v${++this.#publishes}`)
      this.#publishAt(id)
    })
  }

  /** Loses what is under way there, not its disk. */
  #crashAt(id: string): void {
    const { world } = this
    world.after(world.between(200, 3_000), () => {
      const node = this.#nodes.get(id)
      if (!this.#trouble || node === undefined) return
      node.life++
      for (const { version, node: by } of this.acknowledged) if (by === id && !node.head.versions.includes(version)) throw new Error(`${id} has acknowledged ${version} and does not know it after a restart`)
      this.#crashAt(id)
    })
  }

  #watchAt(id: string): void {
    const { world } = this
    world.after(200, () => {
      world.send(STORE, id, () => this.#mirror(id, this.#head))
      this.#watchAt(id)
    })
  }

  #mirror(id: string, head: Head): void {
    const node = this.#nodes.get(id)
    if (node !== undefined && head.revision > node.head.revision) node.head = head
  }

  #publish(id: string, version: string): void {
    const { fault } = this
    const acknowledge = (): void => void this.acknowledged.push({ version, node: id })
    const objects = (then: () => void): void => this.#call(id, () => this.#objects.add(version), then)
    const head = (then: () => void): void => {
      const seen = this.#nodes.get(id)?.head
      if (seen === undefined) return
      this.#call(id, () => {
        if (fault.blindWrite !== true && this.#head.revision !== seen.revision) return null
        this.#head = { versions: [...seen.versions, version], revision: this.#head.revision + 1 }
        return this.#head
      }, (written) => {
        if (written === null) return
        if (fault.acknowledges === 'before-mirror') {
          acknowledge()
          this.world.after(5, () => this.#mirror(id, written))
        } else {
          this.#mirror(id, written)
          then()
        }
      })
    }
    if (fault.acknowledges === 'before-head') {
      acknowledge()
      objects(() => head(() => undefined))
    } else if (fault.headFirst === true) head(() => objects(acknowledge))
    else objects(() => head(acknowledge))
  }

  /** An answer that does not come, or comes to a later life, ends the publish without a word. */
  #call<T>(id: string, act: () => T, then: (result: T) => void): void {
    const { world } = this
    const life = this.#nodes.get(id)?.life
    let over = false
    world.send(id, STORE, () => {
      const result = act()
      world.send(STORE, id, () => {
        if (over || this.#nodes.get(id)?.life !== life) return
        over = true
        then(result)
      })
    })
  }
}
