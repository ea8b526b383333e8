import { test } from 'tap'
import { parity } from './parity.ts'

void test('encodings behave as in Node', async (t) => {
  const same = await parity(t)
  same('an unknown label is refused', `new TextDecoder('nope')`)
  same('TextDecoder wants new', `TextDecoder()`)
  same('fatal throws on wrong bytes', `new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([255]))`)
  same('decode refuses what is not bytes', `new TextDecoder('latin1').decode('x')`)
  same('utf-8 round trip', `return new TextDecoder().decode(new TextEncoder().encode('hé\u{1F600}\\ud800'))`)
  same('BOM', `const b = new Uint8Array([0xef, 0xbb, 0xbf, 65]); return [new TextDecoder().decode(b), new TextDecoder('utf-8', { ignoreBOM: true }).decode(b).length]`)
  same('streaming', `const d = new TextDecoder(); return [d.decode(new Uint8Array([0xe2, 0x82]), { stream: true }), d.decode(new Uint8Array([0xac]), { stream: true }), d.decode()]`)
  same('utf-16le', `return new TextDecoder('utf-16le').decode(new Uint8Array([65, 0, 66, 0]))`)
  same('windows-1252 by its labels', `return ['latin1', 'ASCII', ' iso-8859-1 ', 'windows-1252'].map((l) => { const d = new TextDecoder(l); return [d.encoding, d.fatal, d.ignoreBOM, d.decode(new Uint8Array([65, 0x80, 0x9f, 0xe9])), d.decode()] })`)
  same('attributes', `const d = new TextDecoder('UTF8', { fatal: true }); return [d.encoding, d.fatal, d.ignoreBOM, String(d), d instanceof TextDecoder, new TextDecoder('latin1') instanceof TextDecoder, TextDecoder.name, TextDecoder.length]`)
  same('a subclass works', `class D extends TextDecoder {} return [new D().decode(new Uint8Array([65])), new D('latin1').decode(new Uint8Array([0xe9])), new D() instanceof D]`)
  same('encodeInto', `return new TextEncoder().encodeInto('hé', new Uint8Array(2))`)
  same('TextEncoderStream joins cut surrogates', `const s = new TextEncoderStream(); const w = s.writable.getWriter(); w.write('a\\ud83d'); w.write('\\ude00'); w.write('\\ud83d'); w.close(); const out = []; for await (const c of s.readable) out.push(...c); return out`)
  same('TextDecoderStream joins cut bytes', `const s = new TextDecoderStream(); const w = s.writable.getWriter(); w.write(new Uint8Array([0xe2, 0x82])); w.write(new Uint8Array([0xac])); w.close(); let out = ''; for await (const c of s.readable) out += c; return [out, s.encoding, s.fatal]`)
  same('TextDecoderStream rejects wrong bytes when fatal', `const s = new TextDecoderStream('utf-8', { fatal: true }); const w = s.writable.getWriter(); w.write(new Uint8Array([255])).catch(() => {}); w.closed.catch(() => {}); for await (const c of s.readable);`)
  same('atob and btoa', `return [btoa('hé'), atob('aOk=')]`)
  same('atob refuses', `atob('*')`)
})
