import fc from 'fast-check'
import t from 'tap'
import { isPublicAddress, unmapped } from '../../../shared/egress/address.ts'

t.test('public addresses are public', (t) => {
  for (const address of ['1.1.1.1', '8.8.8.8', '9.255.255.255', '11.0.0.0', '100.63.255.255', '100.128.0.0', '172.15.255.255', '172.32.0.0', '192.167.255.255', '192.169.0.0', '198.17.255.255', '198.20.0.0', '223.255.255.255', '168.63.129.15', '168.63.129.17', '2606:4700:4700::1111', '2001:4860:4860::8888', '2a00::1', '2400::']) {
    t.ok(isPublicAddress(address), address)
  }
  t.end()
})

t.test('what is private, special, embedded or no address is not', (t) => {
  const refused = [
    '0.0.0.0', '10.255.255.255', '100.64.0.0', '100.127.255.255', '127.0.0.1', '127.255.255.255', '169.254.169.254', '172.16.0.0', '172.31.255.255', '192.0.0.1', '192.0.2.1', '192.88.99.1', '192.168.255.255', '198.18.0.0', '198.19.255.255', '198.51.100.1', '203.0.113.1',
    '168.63.129.16', '224.0.0.1', '239.255.255.255', '240.0.0.1', '255.255.255.255', '::', '::1', '::ffff:8.8.8.8', '::8.8.8.8', '64:ff9b::808:808', '64:ff9b:1::1', '100::1', '2001::1', '2001:1ff::1', '2001:db8::1', '2002:808:808::1', '3fff::1', '4000::', '5f00::1', 'fc00::1', 'fd00::1', 'fe80::1', 'fe80::1%eth0', '2606:4700::1%1',
    'fec0::1', 'ff02::1', '', 'localhost', '1.2.3', '01.2.3.4', '2130706433', '0x7f.1', '[::1]',
  ]
  for (const address of refused) t.notOk(isPublicAddress(address), address)
  t.end()
})

t.test('no IPv4 address written as IPv6 is public', (t) => {
  fc.assert(fc.property(fc.ipV4(), (address) => !isPublicAddress(`::ffff:${address}`) && !isPublicAddress(`::${address}`) && !isPublicAddress(`64:ff9b::${address}`)))
  t.equal(unmapped('::ffff:127.0.0.1'), '127.0.0.1')
  t.equal(unmapped('::FFFF:10.0.0.1'), '10.0.0.1')
  t.equal(unmapped('2606::1'), '2606::1')
  fc.assert(fc.property(fc.ipV4(), (address) => unmapped(new URL(`http://[::ffff:${address}]/`).hostname.slice(1, -1)) === address))
  t.end()
})
