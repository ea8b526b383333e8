/** Heads of service calls as a hostile guest may write them. */
import t from 'tap'
import { CodedError } from '../../../shared/errors.ts'
import { parseServiceHead, serviceResponseHeaders } from '../../../shared/worker/service-head.ts'

t.test('what no front door would let in is refused', (t) => {
  const refused: readonly (readonly [string, RegExp])[] = [
    ['0\n0\nGET / HTTP/1.1\nhttp://x/', /method/], ['0\n0\nCONNECT\nhttp://x/', /method/], ['0\n0\ntrace\nhttp://x/', /method/],
    ['0\n0\nGET\n/relative', /absolute/], ['0\n0\nGET\nfile:///etc/passwd', /absolute/], ['0\n0\nGET\n', /absolute/], ['', /method/],
    ['0\n0\nGET\nhttp://x/\nname', /headers/], ['0\n0\nGET\nhttp://x/\nna me\nv', /header "na me"/], ['0\n0\nGET\nhttp://x/\na\nb\rc: d', /header "a"/],
    [`0\n0\nGET\nhttp://x/${'a'.repeat(20_000)}`, /URL is longer/], [`0\n0\nGET\nhttp://x/${'\na\nb'.repeat(101)}`, /headers/], [`0\n0\nGET\nhttp://x/\na\n${'b'.repeat(33_000)}`, /larger/],
  ]
  for (const [head, why] of refused) t.throws(() => parseServiceHead(head), { code: 'ERR_SERVICE_FAILED', message: why }, head.slice(0, 40))
  t.throws(() => parseServiceHead('0\n0\n\nhttp://x/'), CodedError)
  t.end()
})

t.test('an index is a number or nothing; what concerns connections or is ours is dropped', (t) => {
  for (const forged of ['-1', '1e3', '0x1', '__proto__', 'length', '99999', ' 1', '']) t.ok(Number.isNaN(parseServiceHead(`${forged}\n0\nGET\nhttp://x/`).index), forged)
  t.same(parseServiceHead('3\n1\npost\nhttp://User@Host:80/a?b#c\nHost\nforged\nConnection\nclose\nContent-Length\n7\nx-outpost-place\npop\nX-Outpost-Session\ns1\nproxy-a\nb\nX-A\nb'), {
    index: 3, more: true, method: 'POST', url: 'http://host/a?b', headers: 'host\nhost\nx-outpost-session\ns1\nx-a\nb',
  })
  const answer = 'Content-Type\ntext/plain\nx-outpost-node\nn\nTrailer\nx\nx-outpost-session\nclose\nset-cookie\na=b'
  t.equal(serviceResponseHeaders(answer, null), 'content-type\ntext/plain\nset-cookie\na=b')
  t.equal(serviceResponseHeaders(answer, { id: 'r.1', state: 'new', reason: 'moved', setCookie: 'sid=1' }), 'content-type\ntext/plain\nset-cookie\na=b\nx-outpost-session\nr.1\nx-outpost-session-state\nnew; reason=moved\nset-cookie\nsid=1')
  t.equal(serviceResponseHeaders('', { id: 'r.1', state: 'resumed', reason: null, setCookie: null }), 'x-outpost-session\nr.1\nx-outpost-session-state\nresumed')
  t.equal(serviceResponseHeaders('', null), '')
  for (const malformed of ['a', 'a b\nc', 'a\nb\u0000', 'a\nb\nc']) t.equal(serviceResponseHeaders(malformed, null), null)
  t.end()
})
