/**
 * Frontends that look for sandboxes at managers, by the real search and the real reservations, over a bad network; managers die and
 * come back empty. A sandbox is used by one request at a time, whatever comes late or twice; every search ends; what was
 * reserved and never used is idle again.
 */
import { ProbeSearch } from '../../shared/place/probe.ts'
import type { ProbeStep } from '../../shared/place/probe.ts'
import { Reservations } from '../../shared/place/reservations.ts'
import { World } from './world.ts'

const MANAGERS = 8
const FRONTENDS = 4
const SANDBOXES_MAX = 6
const DEADLINE_MS = 4_000
const BUDGET = { probes: 3, timeMs: 120 }
const FINAL_TIMEOUT_MS = 600

/** One rule broken on purpose. */
export interface ReservationFault {
  /** A reservation is used as often as it is claimed. */
  readonly claimsTwice?: boolean
  /** Nothing that is reserved goes back. */
  readonly neverExpires?: boolean
}

class Manager {
  readonly id: string
  readonly idle: string[] = []
  made = 0
  life = 0
  readonly reservations = new Reservations<string>((sandbox) => this.idle.push(sandbox))

  constructor(id: string) {
    this.id = id
  }

  take(final: boolean): string | null {
    const idle = this.idle.pop()
    if (idle !== undefined || !final || this.made >= SANDBOXES_MAX) return idle ?? null
    this.made++
    return `${this.id}.${this.life}.${this.made}`
  }
}

export class ReservationFleet {
  readonly world: World
  readonly fault: ReservationFault
  readonly counts = { reserved: 0, failed: 0, used: 0, unused: 0 }
  readonly #managers: Manager[]
  readonly #inUse = new Set<string>()
  readonly #claims = new Map<string, string>()
  #open = 0
  #requests = 0

  constructor(seed: number, fault: ReservationFault = {}) {
    this.world = new World(seed)
    this.fault = fault
    const { world } = this
    world.faults = { drop: world.between(0, 0.3), duplicate: world.between(0, 0.3), slow: world.between(0, 0.2), delayMs: 20, slowMs: 3_000 }
    this.#managers = Array.from({ length: MANAGERS }, (_, index) => new Manager(`m${index}`))
  }

  run(): void {
    const { world } = this
    for (let frontend = 0; frontend < FRONTENDS; frontend++) this.#serve(`f${frontend}`)
    for (const manager of this.#managers) this.#sweep(manager)
    world.runUntil(20_000)
    this.#requests = Infinity
    world.runUntil(40_000)
    if (this.#open > 0) throw new Error(`${this.#open} searches have not ended`)
    for (const { id, idle, made, reservations } of this.#managers) {
      if (reservations.heldCount > 0 || idle.length !== made) throw new Error(`${id} has made ${made} sandboxes, ${idle.length} are idle and ${reservations.heldCount} reserved`)
    }
  }

  #serve(frontend: string): void {
    const { world } = this
    world.after(world.between(1, 150), () => {
      if (this.#requests === Infinity) return
      this.#search(frontend, `r${++this.#requests}`)
      this.#serve(frontend)
    })
  }

  #sweep(manager: Manager): void {
    this.world.after(1_000, () => {
      if (this.fault.neverExpires !== true) manager.reservations.sweep(this.world.nowMs)
      this.#sweep(manager)
    })
  }

  #search(frontend: string, request: string): void {
    const { world } = this
    this.#open++
    const startMs = world.nowMs
    const search = new ProbeSearch({ weights: this.#managers.map(() => 1), budget: BUDGET, finalTimeoutMs: FINAL_TIMEOUT_MS, deadlineMs: startMs + DEADLINE_MS, random: world.random })
    const step = (next: ProbeStep | null, manager: Manager | null, id: string): void => {
      if (next?.kind === 'ask') return ask(next)
      // Too late for the search: what was reserved all the same expires by itself.
      if (next === null) return
      this.#open--
      if (world.nowMs - startMs > DEADLINE_MS + FINAL_TIMEOUT_MS) throw new Error(`${request} was searched for ${world.nowMs - startMs} ms`)
      this.counts[next.kind]++
      if (next.kind === 'reserved' && manager !== null) world.send(frontend, manager.id, () => this.#use(manager, id))
    }
    const ask = ({ attempt, index, final, timeoutMs }: Extract<ProbeStep, { kind: 'ask' }>): void => {
      const manager = this.#managers[index]
      if (manager === undefined) throw new Error(`there is no manager ${index}`)
      const id = `${request}.${attempt}`
      world.after(timeoutMs, () => step(search.answered(attempt, 'unreachable', world.nowMs), manager, id))
      world.send(frontend, manager.id, () => {
        const sandbox = manager.reservations.reserve(id, () => manager.take(final), world.nowMs)
        if (sandbox !== null) this.#claims.set(id, sandbox)
        world.send(manager.id, frontend, () => step(search.answered(attempt, sandbox === null ? 'none' : 'reserved', world.nowMs), manager, id))
      })
    }
    step(search.start(world.nowMs), null, '')
  }

  /** The request arrives with its reservation, perhaps twice, perhaps too late. */
  #use(manager: Manager, id: string): void {
    const { world } = this
    const sandbox = this.fault.claimsTwice === true ? (this.#claims.get(id) ?? null) : manager.reservations.claim(id, world.nowMs)
    if (sandbox === null) {
      this.counts.unused++
      return
    }
    if (this.#inUse.has(sandbox)) throw new Error(`${sandbox} is used by two requests`)
    this.#inUse.add(sandbox)
    this.counts.used++
    world.after(world.between(1, 400), () => {
      this.#inUse.delete(sandbox)
      manager.idle.push(sandbox)
    })
  }
}
