import t from 'tap'
import { isNetwork, TrustedProxies, type Origin } from '../../../shared/http/forwarded.ts'
import { get, openDoor } from './harness.ts'

const PEER = '10.0.0.1'
const x = new TrustedProxies(['10.0.0.0/8', '192.0.2.7', 'fd00::/8'], 'x-forwarded')
const f = new TrustedProxies(['10.0.0.0/8', '192.0.2.7', 'fd00::/8'], 'forwarded')

function origin(clientIp: string, scheme: Origin['scheme'] = null): Origin {
  return { clientIp, scheme }
}

t.test('a peer that is not trusted is the client, whatever it writes', async (t) => {
  for (const proxies of [x, f]) {
    for (const peer of ['11.0.0.1', '192.0.2.8', '::1', 'fe00::1', '', 'unknown']) {
      t.same(proxies.originOf(peer, '1.2.3.4', 'https'), origin(peer), peer)
      t.same(proxies.originOf(peer, 'for=1.2.3.4;proto=https', null), origin(peer), peer)
    }
  }
})

t.test('X-Forwarded-For is read from the right, over trusted addresses only', async (t) => {
  const cases: [string | null, string, string][] = [
    [null, PEER, 'nothing was written'],
    ['', PEER, 'an empty header'],
    ['1.2.3.4', '1.2.3.4', 'one client'],
    ['6.6.6.6, 1.2.3.4', '1.2.3.4', 'the client wrote an address before it came to the proxy'],
    ['6.6.6.6,1.2.3.4,10.1.1.1, 192.0.2.7', '1.2.3.4', 'a chain of proxies'],
    ['10.9.9.9, 10.1.1.1', '10.9.9.9', 'all of them are trusted: the farthest'],
    ['10.0.0.2, 6.6.6.6', '6.6.6.6', 'a trusted address that a stranger wrote counts for nothing'],
    ['1.2.3.4:5678', '1.2.3.4', 'with a port'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1', 'IPv6, written in one way'],
    ['[2001:db8::1]:443', '2001:db8::1', 'in brackets, with a port'],
    ['::ffff:1.2.3.4', '1.2.3.4', 'IPv4 inside IPv6'],
    ['6.6.6.6, ::ffff:10.1.1.1', '6.6.6.6', 'and it is trusted as what it is'],
    ['6.6.6.6, ::ffff:0a01:0101', '6.6.6.6', 'however it is written'],
    ['6.6.6.6, fd12::1', '6.6.6.6', 'a trusted proxy with IPv6'],
  ]
  for (const [value, expected, why] of cases) t.equal(x.originOf(PEER, value, null).clientIp, expected, why)
})

t.test('hostile values of X-Forwarded-For end the walk at whoever wrote them', async (t) => {
  const rubbish = ['unknown', '_hidden', '1.2.3', '1.2.3.4.5', '256.1.1.1', '01.2.3.4', '1.2.3.4; DROP', '<script>', 'localhost', '::g', ':::', '1::2::3', 'fe80::1%eth0', '[1.2.3.4]x', '[::1', '1.2.3.4:port', '1.2.3.4:999999', '0x7f.1', '2130706433', 'for=1.2.3.4', '"1.2.3.4"', '\t', '1.2.3.4\n', '\u0661.2.3.4']
  for (const value of rubbish.filter((text) => text !== '1.2.3.4\n')) {
    t.equal(x.originOf(PEER, value, null).clientIp, PEER, JSON.stringify(value))
    t.equal(x.originOf(PEER, `6.6.6.6, ${value}, 10.2.2.2`, null).clientIp, '10.2.2.2', JSON.stringify(value))
    t.equal(x.originOf(PEER, `${value}, 6.6.6.6`, null).clientIp, '6.6.6.6', 'left of the client nothing counts')
  }
  t.equal(x.originOf(PEER, ',,,,', null).clientIp, PEER)
  t.equal(x.originOf(PEER, '1.2.3.4,', null).clientIp, PEER, 'an empty last one')
  const startedAtMs = performance.now()
  t.equal(x.originOf(PEER, Array.from({ length: 3_000 }, () => '10.1.1.1').join(','), null).clientIp, '10.1.1.1')
  t.ok(performance.now() - startedAtMs < 100, 'a walk is bounded')
  t.equal(x.originOf(PEER, `6.6.6.6,${Array.from({ length: 40 }, () => '10.1.1.1').join(',')}`, null).clientIp, '10.1.1.1')
})

t.test('the scheme is what the nearest proxy says', async (t) => {
  for (const [value, expected] of [['https', 'https'], ['HTTP', 'http'], ['http, https', 'https'], ['https, http', 'http'], ['wss', null], ['', null], ['https://x', null], ['https;', null]] as const) {
    t.equal(x.originOf(PEER, '1.2.3.4', value).scheme, expected, value)
  }
})

t.test('Forwarded, as RFC 7239 writes it', async (t) => {
  const cases: [string | null, Origin, string][] = [
    [null, origin(PEER), 'nothing was written'],
    ['for=1.2.3.4', origin('1.2.3.4'), 'a token'],
    ['For="[2001:db8:cafe::17]:4711";Proto=https', origin('2001:db8:cafe::17', 'https'), 'quoted, other case'],
    ['for=6.6.6.6, for=1.2.3.4;proto=https;by=203.0.113.43, for=10.1.1.1;proto=http', origin('1.2.3.4', 'https'), 'the scheme of the hop from the client'],
    ['for=192.0.2.43,for="[2001:db8:cafe::17]", for=10.1.1.1', origin('2001:db8:cafe::17'), 'several'],
    ['proto=https;for="1.2.3.4:80" ; host=x', origin('1.2.3.4', 'https'), 'spaces'],
    ['for=unknown, for=10.1.1.1', origin('10.1.1.1'), 'unknown ends the walk'],
    ['for="_hidden"', origin(PEER), 'an obfuscated name too'],
    ['proto=https', origin(PEER), 'no for'],
    ['for=6.6.6.6;x="a, for=10.1.1.1", for=1.2.3.4', origin('1.2.3.4'), 'a comma within quotes is none'],
    ['for=1.2.3.4;x="a\\", for=7.7.7.7', origin(PEER), 'a quote that is not closed: nothing of it is believed'],
    ['for=1.2.3.4 for=5.6.7.8', origin(PEER), 'no separator'],
    ['for', origin(PEER), 'no value'],
    ['for=1.2.3.4;;', origin('1.2.3.4'), 'empty pairs'],
    ['<script>', origin(PEER), 'rubbish'],
  ]
  for (const [value, expected, why] of cases) t.same(f.originOf(PEER, value, 'https'), expected, why)
  const startedAtMs = performance.now()
  f.originOf(PEER, 'for="'.repeat(6_000), null)
  f.originOf(PEER, 'a='.repeat(15_000), null)
  f.originOf(PEER, `for="${'\\"'.repeat(15_000)}`, null)
  f.originOf(PEER, `${' '.repeat(30_000)}x`, null)
  t.ok(performance.now() - startedAtMs < 500, 'long ones cost little')
})

t.test('networks are what they should be', async (t) => {
  for (const text of ['10.0.0.0/8', '127.0.0.1', '0.0.0.0/0', '::/0', 'fd00::/128', '192.0.2.7/32']) t.ok(isNetwork(text), text)
  for (const text of ['', 'localhost', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/-1', '10.0.0.0/8/8', '::1/129', '1.2.3/8', 'fe80::1%eth0/64', '*']) t.notOk(isNetwork(text), text)
})

t.test('a front door drops what strangers write, and overwrites what a trusted proxy passes on', async (t) => {
  const ALL = 'X-Forwarded-For: 6.6.6.6, 1.2.3.4\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=7.7.7.7;proto=http\r\n'
  const cases: [TrustedProxies | null, string, string, string][] = [
    [null, '127.0.0.1', 'http://127.0.0.1/', 'host\n127.0.0.1'],
    [new TrustedProxies(['10.0.0.0/8'], 'x-forwarded'), '127.0.0.1', 'http://127.0.0.1/', 'host\n127.0.0.1'],
    [new TrustedProxies(['127.0.0.1'], 'x-forwarded'), '1.2.3.4', 'https://127.0.0.1/', 'host\n127.0.0.1\nx-forwarded-for\n1.2.3.4\nx-forwarded-proto\nhttps'],
    [new TrustedProxies(['127.0.0.0/8'], 'forwarded'), '7.7.7.7', 'http://127.0.0.1/', 'host\n127.0.0.1\nx-forwarded-for\n7.7.7.7\nx-forwarded-proto\nhttp'],
  ]
  for (const [trustedProxies, clientIp, url, headers] of cases) {
    const { dispatcher, ask } = await openDoor(t, { trustedProxies })
    dispatcher.onInvoke = (run) => run.reply('')
    await ask(get('/fn/hello/', ALL))
    t.match(dispatcher.runs[0]?.call, { clientIp, url, headers })
  }
})

t.test('one request of a connection says nothing about the next', async (t) => {
  const { dispatcher, client } = await openDoor(t, { trustedProxies: new TrustedProxies(['127.0.0.1'], 'x-forwarded') })
  dispatcher.onInvoke = (run) => run.reply('')
  const proxy = client()
  for (const [headers, expected] of [['X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n', { clientIp: '1.2.3.4', url: 'https://127.0.0.1/' }], ['', { clientIp: '127.0.0.1', url: 'http://127.0.0.1/' }]] as const) {
    proxy.send(get('/fn/hello/', headers))
    await proxy.response()
    t.match(dispatcher.runs.at(-1)?.call, expected)
  }
})
