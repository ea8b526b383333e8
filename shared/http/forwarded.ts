/**
 * Who a request really comes from, when a proxy brought it: the proxies that an operator trusts, and what their headers say.
 * Pure.
 *
 *   X-Forwarded-For: client, proxy 1, proxy 2        the peer of the connection is proxy 3
 *
 * O1  Nothing is believed unless the peer itself is trusted.
 * O2  Addresses are read from the right, each written by the one before; the first that is not a trusted proxy's is the
 *     client. What is left of it was written by that client and is not looked at.
 * O3  What is no address (`unknown`, `_hidden`, rubbish) ends the walk: the client is who wrote it, as far as is known.
 * O4  One kind of header is believed, which the operator names: a proxy passes the other kind on as its client wrote it.
 */
import { BlockList, isIP } from 'node:net'
import { addressText } from './address.ts'

export type ProxyHeaders = 'x-forwarded' | 'forwarded'

export interface Origin {
  readonly clientIp: string
  /** Null: nobody who is trusted says. */
  readonly scheme: 'http' | 'https' | null
}

/** A chain of proxies is a handful; beyond it the walk ends as for O3. */
const HOPS_MAX = 32

export class TrustedProxies {
  readonly headers: ProxyHeaders
  readonly #list = new BlockList()

  /** `networks`: addresses, with or without a prefix length, as `isNetwork` takes them. */
  constructor(networks: readonly string[], headers: ProxyHeaders) {
    this.headers = headers
    for (const network of networks) {
      const [address = '', prefix] = network.split('/')
      const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
      if (prefix === undefined) this.#list.addAddress(address, family)
      else this.#list.addSubnet(address, Number(prefix), family)
    }
  }

  trusts(address: string): boolean {
    const version = isIP(address)
    return version !== 0 && this.#list.check(address, version === 6 ? 'ipv6' : 'ipv4')
  }

  /** `addresses` and `schemes`: the values of X-Forwarded-For and -Proto, or of Forwarded and nothing; several lines joined by commas. */
  originOf(peerIp: string, addresses: string | null, schemes: string | null): Origin {
    if (!this.trusts(peerIp)) return { clientIp: peerIp, scheme: null } // O1
    return this.headers === 'forwarded' ? this.#ofForwarded(peerIp, addresses) : this.#ofXForwarded(peerIp, addresses, schemes)
  }

  /** O2. The scheme is what the proxy that is nearest to us says: the last of several. */
  #ofXForwarded(peerIp: string, addresses: string | null, schemes: string | null): Origin {
    let clientIp = peerIp
    let left = addresses ?? ''
    for (let hops = 0; hops < HOPS_MAX && left !== '' && this.trusts(clientIp); hops++) {
      const comma = left.lastIndexOf(',')
      const address = parseAddress(left.slice(comma + 1))
      if (address === null) break // O3
      clientIp = address
      left = comma === -1 ? '' : left.slice(0, comma)
    }
    return { clientIp, scheme: schemes === null ? null : schemeOf(schemes.slice(schemes.lastIndexOf(',') + 1)) }
  }

  /** RFC 7239. Each element is of one hop; the scheme is that of the hop whose `for` is the client. */
  #ofForwarded(peerIp: string, value: string | null): Origin {
    const elements = value === null ? null : parseForwarded(value)
    let origin: Origin = { clientIp: peerIp, scheme: null }
    if (elements === null) return origin
    for (const { node, scheme } of elements.slice(-HOPS_MAX).reverse()) {
      if (!this.trusts(origin.clientIp)) break
      const address = node === null ? null : parseAddress(node)
      if (address === null) break
      origin = { clientIp: address, scheme }
    }
    return origin
  }
}

/** `10.0.0.0/8`, `::1`, `fd00::/8`. */
export function isNetwork(text: string): boolean {
  const [address = '', prefix, ...rest] = text.split('/')
  const version = isIP(address)
  if (version === 0 || address.includes('%') || rest.length > 0) return false
  return prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= (version === 6 ? 128 : 32))
}

/** With or without a port, as proxies write them; null if it is none. IPv4 inside IPv6 becomes IPv4, or it would pass by a list of the other kind. */
function parseAddress(text: string): string | null {
  const trimmed = text.trim()
  const bracketed = /^\[([0-9A-Fa-f:.]{2,45})\](?::\d{1,5})?$/.exec(trimmed)
  const withPort = /^(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}$/.exec(trimmed)
  const address = bracketed?.[1] ?? withPort?.[1] ?? trimmed
  switch (isIP(address)) {
    case 4: return address
    case 6: return address.includes('%') ? null : canonicalV6(address)
    default: return null
  }
}

function canonicalV6(address: string): string {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address)
  const plain = dotted === null ? address : `${dotted[1] ?? ''}${hex16(dotted[2], dotted[3])}:${hex16(dotted[4], dotted[5])}`
  const [head = '', tail] = plain.split('::')
  const groupsOf = (part: string): number[] => (part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16)))
  const [before, after] = [groupsOf(head), tail === undefined ? [] : groupsOf(tail)]
  const groups = [...before, ...new Array<number>(tail === undefined ? 0 : 8 - before.length - after.length).fill(0), ...after]
  return addressText(Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff])))
}

function hex16(high: string | undefined, low: string | undefined): string {
  return (Number(high) * 256 + Number(low)).toString(16)
}

interface ForwardedElement {
  readonly node: string | null
  readonly scheme: Origin['scheme']
}

/** Null for anything that the grammar does not allow: a quote that is not closed could hide an element. */
function parseForwarded(value: string): ForwardedElement[] | null {
  const elements: ForwardedElement[] = []
  const pair = /[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([!#$%&'*+.^_`|~0-9A-Za-z:[\]-]+))[ \t]*)?(;|,|$)/y
  let current: { node: string | null; scheme: Origin['scheme'] } = { node: null, scheme: null }
  while (pair.lastIndex <= value.length) {
    const match = pair.exec(value)
    if (match === null) return null
    const [, name, quoted, token, end] = match
    const text = quoted === undefined ? (token ?? '') : quoted.replace(/\\(.)/g, '$1')
    if (name?.toLowerCase() === 'for') current.node = text
    if (name?.toLowerCase() === 'proto') current.scheme = schemeOf(text)
    if (end === ';') continue
    elements.push(current)
    current = { node: null, scheme: null }
    if (end === '') break
  }
  return elements
}

function schemeOf(text: string): Origin['scheme'] {
  const scheme = text.trim().toLowerCase()
  return scheme === 'https' || scheme === 'http' ? scheme : null
}
