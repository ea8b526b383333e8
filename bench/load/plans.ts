/** What a load stream asks, and what it takes for a right answer. The functions asked are those of bench/fixtures. */
import { assertNever } from '../../shared/brand.ts'
import { seededRandom, type Random } from '../../shared/random.ts'
import { at } from '../harness/stats.ts'

/** In each answer the module counter `n` must be 1 (`fresh`) or any number: a runtime that keeps module state counts on. */
export type Counter = 'fresh' | 'any'

export type Plan =
  | { readonly kind: 'json'; readonly path: string; readonly counter: Counter }
  | { readonly kind: 'cpu'; readonly path: string; readonly loops: number }
  | { readonly kind: 'upstream'; readonly path: string; readonly upstream: string; readonly delayMs: number }
  | { readonly kind: 'memory'; readonly path: string; readonly mebibytes: number }
  /** `{}` in `path` becomes the function's index, drawn from Zipf's law with the given exponent. */
  | { readonly kind: 'zipf'; readonly path: string; readonly functions: number; readonly exponent: number }

export interface Ask {
  readonly method: 'GET' | 'POST'
  readonly path: string
  /** Empty for none. */
  readonly body: string
  /** Null for a right answer, else what is wrong with it. */
  readonly verify: (status: number, body: string) => string | null
}

/** Every call gives another request. `seed` fixes what is drawn at random. */
export function asksOf(plan: Plan, seed: number): () => Ask {
  let id = 0
  switch (plan.kind) {
    case 'json':
      return () => jsonAsk(plan.path, ++id, plan.counter)
    case 'cpu':
      return () => {
        const start = ++id
        return get(`${plan.path}?loops=${plan.loops}&start=${start}`, () => `{"value":${churn(start, plan.loops)},"n":1}`)
      }
    case 'upstream':
      return () => {
        const name = ++id
        const upstream = encodeURIComponent(`${plan.upstream}/?ms=${plan.delayMs}&id=${name}`)
        return get(`${plan.path}?upstream=${upstream}`, () => `{"body":"upstream ${name}","n":1}`)
      }
    case 'memory':
      return () => {
        const seedByte = ++id % 251
        const pages = plan.mebibytes * 256
        return get(`${plan.path}?mebibytes=${plan.mebibytes}&seed=${seedByte}`, () => `{"pages":${pages},"sum":${pages * seedByte},"n":1}`)
      }
    case 'zipf': {
      const random = seededRandom(seed)
      const draw = zipf(plan.functions, plan.exponent, random)
      return () => {
        const index = draw()
        const name = ++id
        return get(`${plan.path.replace('{}', String(index))}?id=${name}`, () => `{"index":${index},"id":"${name}","n":1}`)
      }
    }
    default:
      return assertNever(plan)
  }
}

function get(path: string, expected: () => string): Ask {
  return { method: 'GET', path, body: '', verify: (status, body) => verdict(status, body, status === 200 && body === expected()) }
}

/** The same order as json.lua sends, for the same id. */
export function jsonAsk(path: string, id: number, counter: Counter): Ask {
  const [a, b, c, d] = [id % 9973, (id * 7) % 1009, (id * 31) % 5003, id % 17]
  const body = `{"id":${id},"name":"order-${id}","values":[${a},${b},${c},${d},1,2,3,4,5,6,7,8],"customer":{"country":"SE","tags":["new","edge"]}}`
  const expected = `{"id":${id},"sum":${a + b + c + d + 36},"name":"ORDER-${id}","n":`
  const verify = (status: number, answer: string): string | null => {
    const count = answer.slice(expected.length, -1)
    const isRight = status === 200 && answer.startsWith(expected) && answer.endsWith('}') && (counter === 'fresh' ? count === '1' : /^\d+$/.test(count))
    return verdict(status, answer, isRight)
  }
  return { method: 'POST', path, body, verify }
}

function verdict(status: number, body: string, isRight: boolean): string | null {
  return isRight ? null : `${status} ${body.slice(0, 300)}`
}

/** What fixtures/cpu.js computes. */
export function churn(start: number, loops: number): number {
  let value = start
  for (let index = 0; index < loops; index++) value = (Math.imul(value, 1_103_515_245) + 12_345) & 0x7fffffff
  return value
}

/** Draws 0..count-1 where the chance of k is proportional to 1 / (k + 1) ** exponent. */
export function zipf(count: number, exponent: number, random: Random): () => number {
  const cumulative: number[] = []
  let total = 0
  for (let rank = 1; rank <= count; rank++) {
    total += rank ** -exponent
    cumulative.push(total)
  }
  return () => {
    const wanted = random.next() * total
    let low = 0
    let high = count - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if (at(cumulative, middle) > wanted) high = middle
      else low = middle + 1
    }
    return low
  }
}
