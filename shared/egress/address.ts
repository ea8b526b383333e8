/**
 * Which addresses a function may reach: the public internet and nothing else. Pure.
 *
 * IPv4: everything but the special-purpose blocks of the IANA registry that are not globally reachable, and one public
 * address that means the machine's own cloud.
 * IPv6: only 2000::/3, less what inside it is special, or carries an IPv4 address that would have to be checked again
 * (6to4, Teredo). So mapped, compatible, NAT64, unique local, link-local, site-local and multicast addresses are out
 * without being listed.
 */
import { BlockList, isIP } from 'node:net'

const SPECIAL_V4 = [
  ['0.0.0.0', 8], ['10.0.0.0', 8], ['100.64.0.0', 10], ['127.0.0.0', 8], ['169.254.0.0', 16], ['172.16.0.0', 12], ['192.0.0.0', 24], ['192.0.2.0', 24],
  ['192.88.99.0', 24], ['192.168.0.0', 16], ['198.18.0.0', 15], ['198.51.100.0', 24], ['203.0.113.0', 24], ['224.0.0.0', 4], ['240.0.0.0', 4],
  // Azure's host answers its guests there, like others on 169.254.169.254.
  ['168.63.129.16', 32],
] as const
const SPECIAL_V6 = [
  // Protocol assignments with Teredo, documentation twice, 6to4.
  ['2001::', 23], ['2001:db8::', 32], ['3fff::', 20], ['2002::', 16],
] as const

const specialV4 = new BlockList()
for (const [net, prefix] of SPECIAL_V4) specialV4.addSubnet(net, prefix, 'ipv4')
const globalV6 = new BlockList()
globalV6.addSubnet('2000::', 3, 'ipv6')
const specialV6 = new BlockList()
for (const [net, prefix] of SPECIAL_V6) specialV6.addSubnet(net, prefix, 'ipv6')

/** Whether a numeric address belongs to the public internet. What is no address does not. */
export function isPublicAddress(address: string): boolean {
  switch (isIP(address)) {
    case 4:
      return !specialV4.check(address, 'ipv4')
    case 6:
      return !address.includes('%') && globalV6.check(address, 'ipv6') && !specialV6.check(address, 'ipv6')
    default:
      return false
  }
}

/** A mapped address, as `::ffff:127.0.0.1` or as the URL parser writes it, `::ffff:7f00:1`, as IPv4; others as they are. */
export function unmapped(address: string): string {
  const dotted = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)
  if (dotted?.[1] !== undefined) return dotted[1]
  const hex = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/i.exec(address)
  if (hex?.[1] === undefined || hex[2] === undefined) return address
  const [high, low] = [parseInt(hex[1], 16), parseInt(hex[2], 16)]
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}
