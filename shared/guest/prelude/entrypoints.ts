/**
 * What a module exports besides a plain object with `fetch`: classes, named entrypoints, and objects that only have
 * `scheduled`. Each becomes an object that is called like the plain one, so that the plain one pays nothing.
 * Also what `cloudflare:workers` gives (workers-module.ts), under a name that only bundlers use.
 */
import { MapSet, ObjectKeys, ReflectConstruct } from './primordials.ts'
import { env } from './configuration.ts'
import { executionContext } from './context.ts'
import { waitUntil, type FetchObject } from './invocation.ts'
import { isObject, nameAs, publish } from './webidl.ts'
import { WORKERS_GLOBAL } from '../workers-module.ts'

export interface Entrypoint extends FetchObject {
  readonly scheduled?: (controller: object, env: object, context: object) => unknown
}

type HandlerName = 'fetch' | 'scheduled'
type EntrypointClass = new (context: object, env: object) => Partial<Record<HandlerName, unknown>>

/** What a class extends to be given `this.ctx` and `this.env`. Its other methods are not called from outside. */
class WorkerEntrypoint {
  readonly ctx: object
  readonly env: object

  constructor(context: object, bindings: object) {
    this.ctx = context
    this.env = bindings
  }
}
nameAs(WorkerEntrypoint, 'WorkerEntrypoint')

/** For `extends` alone, as nothing is called remotely. */
// eslint-disable-next-line @typescript-eslint/no-extraneous-class -- its name is all there is to it
class RpcTarget {}
nameAs(RpcTarget, 'RpcTarget')

export function installWorkers(): void {
  publish(WORKERS_GLOBAL, {
    env,
    waitUntil(promise: unknown): void {
      if (arguments.length === 0) throw new TypeError('waitUntil needs a promise')
      waitUntil(promise)
    },
    WorkerEntrypoint,
    RpcTarget,
  })
}

export function missing(handler: HandlerName): TypeError {
  return new TypeError(`Handler does not export a ${handler}() function.`)
}

function callHandler(object: object, handler: HandlerName, argument: unknown): unknown {
  const target = object as Record<HandlerName, (argument: unknown, env: object, context: object) => unknown>
  if (typeof target[handler] !== 'function') throw missing(handler)
  return target[handler](argument, env, executionContext)
}

/** A fresh instance for each event, made with `(ctx, env)`. */
class ClassEntrypoint implements Entrypoint {
  readonly #class: EntrypointClass

  constructor(constructor: EntrypointClass) {
    this.#class = constructor
  }

  fetch(request: unknown): unknown {
    return this.#call('fetch', request)
  }

  scheduled(controller: unknown): unknown {
    return this.#call('scheduled', controller)
  }

  #call(handler: HandlerName, argument: unknown): unknown {
    return callHandler(ReflectConstruct(this.#class, [executionContext, env]), handler, argument)
  }
}

/** An object that has `scheduled` and no `fetch`. */
class EventsOnly implements Entrypoint {
  readonly #object: object

  constructor(object: object) {
    this.#object = object
  }

  fetch(): never {
    throw missing('fetch')
  }

  scheduled(controller: unknown): unknown {
    return callHandler(this.#object, 'scheduled', controller)
  }
}

function isEntrypointClass(value: unknown): value is EntrypointClass {
  if (typeof value !== 'function') return false
  const prototype: unknown = value.prototype
  return isObject(prototype) && (prototype instanceof WorkerEntrypoint || has(prototype, 'fetch') || has(prototype, 'scheduled'))
}

function has(value: object, handler: HandlerName): boolean {
  return typeof (value as Partial<Record<HandlerName, unknown>>)[handler] === 'function'
}

/** Null: the value is no entrypoint. */
export function entrypointOf(value: unknown): Entrypoint | null {
  if (!isObject(value)) return null
  if (isEntrypointClass(value)) return new ClassEntrypoint(value)
  if (has(value, 'fetch')) return value as Entrypoint
  return has(value, 'scheduled') ? new EventsOnly(value) : null
}

/** Adds the module's exports, but for the default one, that are entrypoints. A module may have replaced `Map`. */
export function addNamedEntrypoints(module: Record<string, unknown>, found: Map<string, Entrypoint>): void {
  const names = ObjectKeys(module)
  for (let i = 0; i < names.length; i++) {
    const name = names[i] ?? ''
    const entrypoint = name === 'default' ? null : entrypointOf(module[name])
    if (entrypoint !== null) MapSet(found, name, entrypoint)
  }
}
