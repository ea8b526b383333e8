import t from 'tap'
import { addressText, clientOf } from '../../../shared/http/address.ts'

function v6(...groups: number[]): Uint8Array {
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]))
}

t.test('addresses are written as their RFCs want them', async (t) => {
  const cases: [bytes: Uint8Array, text: string][] = [
    [Uint8Array.of(127, 0, 0, 1), '127.0.0.1'],
    [v6(0, 0, 0, 0, 0, 0xffff, 0x0102, 0x0304), '1.2.3.4'],
    [v6(0, 0, 0, 0, 0, 0, 0, 1), '::1'],
    [v6(0, 0, 0, 0, 0, 0, 0, 0), '::'],
    [v6(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), '2001:db8::'],
    [v6(0x2001, 0xdb8, 0, 1, 1, 1, 1, 1), '2001:db8:0:1:1:1:1:1'],
    [v6(0x2001, 0, 0, 1, 0, 0, 0, 1), '2001:0:0:1::1'],
    [v6(0x2001, 0xdb8, 0, 0, 1, 0, 0, 1), '2001:db8::1:0:0:1'],
    [v6(1, 2, 3, 4, 5, 6, 7, 8), '1:2:3:4:5:6:7:8'],
    [v6(0xfe80, 0, 0, 0, 0xa, 0xb, 0xc, 0xd), 'fe80::a:b:c:d'],
  ]
  for (const [bytes, text] of cases) t.equal(addressText(bytes), text)
  t.equal(addressText(new Uint8Array(0)), '')
})

t.test('a client is an IPv4 address or the /64 of an IPv6 one', async (t) => {
  const cases: [address: string, client: string][] = [
    ['192.0.2.1', '192.0.2.1'], ['', ''], ['unknown', 'unknown'], ['::1', '0:0:0:0::'], ['2001:db8::', '2001:db8:0:0::'], ['2001:db8::1:0:0:1', '2001:db8:0:0::'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1::'], ['1:2:3:4:5:6:7:8', '1:2:3:4::'], ['1:2:3:5::', '1:2:3:5::'],
  ]
  for (const [address, client] of cases) t.equal(clientOf(address), client, address)
})
