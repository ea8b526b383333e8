/** What front doors know of addresses. Pure. */

/** Addresses that only this machine can reach, as operators write them. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

/** The text of a peer's address as uWS gives it: 4 or 16 bytes. IPv4 inside IPv6 is written as IPv4. */
export function addressText(bytes: Uint8Array): string {
  if (bytes.byteLength === 4) return bytes.join('.')
  if (bytes.byteLength !== 16) return ''
  if (isMapped(bytes)) return bytes.subarray(12).join('.')
  const groups = Array.from({ length: 8 }, (_, index) => (((bytes[index * 2] ?? 0) << 8) | (bytes[index * 2 + 1] ?? 0)).toString(16))
  return compress(groups)
}

/** Who counts as one client: an IPv4 address, or the /64 of an IPv6 one, all of which one subscriber has. */
export function clientOf(address: string): string {
  if (!address.includes(':')) return address
  const [before = '', after] = address.split('::')
  const groups = before === '' ? [] : before.split(':')
  const behind = after === undefined || after === '' ? [] : after.split(':')
  const whole = after === undefined ? groups : [...groups, ...Array.from({ length: Math.max(0, 8 - groups.length - behind.length) }, () => '0'), ...behind]
  return `${whole.slice(0, 4).join(':')}::`
}

function isMapped(bytes: Uint8Array): boolean {
  return bytes[10] === 0xff && bytes[11] === 0xff && bytes.subarray(0, 10).every((byte) => byte === 0)
}

/** RFC 5952: the longest run of zeros, the first of equals, if it is longer than one group. */
function compress(groups: readonly string[]): string {
  let start = -1
  let length = 1
  for (let index = 0; index < groups.length; index++) {
    let end = index
    while (groups[end] === '0') end++
    if (end - index > length) {
      start = index
      length = end - index
    }
    index = Math.max(index, end - 1)
  }
  if (start === -1) return groups.join(':')
  return `${groups.slice(0, start).join(':')}::${groups.slice(start + length).join(':')}`
}
