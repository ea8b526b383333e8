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
  same('encodings that the host decodes', `return ['shift_jis', 'EUC-JP', 'iso-2022-jp', 'gbk', 'gb18030', 'big5', 'euc-kr', 'koi8-u', 'ibm866', 'windows-1251', 'iso-8859-2', 'macintosh'].map((l) => { const d = new TextDecoder(l); return [d.encoding, d.decode(new Uint8Array([0x41, 0x82, 0xa0, 0xb0, 0xa1, 0x1b, 0x24, 0x42, 0x24, 0x22, 0x1b, 0x28, 0x42, 0xe9]))] })`)
  same('labels are what the standard has', `return ['CP866', ' utf8 ', 'gb2312', 'x-sjis', 'csisolatin2', 'dos-874'].map((l) => new TextDecoder(l).encoding)`)
  for (const label of ['\\vutf-8', 'utf-8\\0', '', 'utf-7', 'replacement', '\\u00a0latin1', 'hz-gb-2312']) same(`no label: ${JSON.stringify(label)}`, `new TextDecoder('${label}')`)
  same('fatal in what the host decodes', `const d = new TextDecoder('euc-kr', { fatal: true }); const good = d.decode(new Uint8Array([0xb0, 0xa1])); let name = ''; try { d.decode(new Uint8Array([0xff, 0xff])) } catch (error) { name = error.name } return [good, name, d.decode(new Uint8Array([0xb0, 0xa1]))]`)
  // Each text cut at each place, with what is left at the end: the host has no state between the chunks.
  same('cut characters are joined in every encoding', `
    const texts = { shift_jis: [0x82, 0xa0, 0x41, 0xb1, 0x88, 0x9f], 'euc-jp': [0xa4, 0xa2, 0x8f, 0xb0, 0xa1, 0x41], gb18030: [0x81, 0x30, 0x81, 0x30, 0xb0, 0xa1, 0x90, 0x30, 0x81, 0x30], big5: [0xa4, 0x40, 0x41, 0x88, 0x62], 'euc-kr': [0xb0, 0xa1, 0x41], 'iso-2022-jp': [0x41, 0x1b, 0x24, 0x42, 0x24, 0x22, 0x24, 0x24, 0x1b, 0x28, 0x42, 0x42], 'koi8-r': [0xc1, 0xc2] }
    const out = []
    for (const [label, bytes] of Object.entries(texts)) {
      for (let cut = 0; cut <= bytes.length; cut++) {
        const d = new TextDecoder(label)
        out.push(label + cut + d.decode(new Uint8Array(bytes.slice(0, cut)), { stream: true }) + '|' + d.decode(new Uint8Array(bytes.slice(cut)), { stream: true }) + '|' + d.decode())
      }
      const d = new TextDecoder(label)
      out.push(bytes.map((byte) => d.decode(new Uint8Array([byte]), { stream: true })).join('|') + d.decode())
      const half = new TextDecoder(label)
      out.push(half.decode(new Uint8Array(bytes.slice(0, 1)), { stream: true }) + half.decode())
    }
    return out`)
  same('more than the host takes at once', `const bytes = new Uint8Array(50_001); for (let i = 0; i + 1 < bytes.length; i += 2) { bytes[i] = 0xb0; bytes[i + 1] = 0xa1 } const text = new TextDecoder('euc-kr').decode(bytes); return [text.length, text.at(0), text.at(-2), text.at(-1), new Set(text).size]`)
  same('a decoder stream of it', `const s = new TextDecoderStream('gbk'); const w = s.writable.getWriter(); w.write(new Uint8Array([0xc4, 0xe3, 0xba])); w.write(new Uint8Array([0xc3])); w.close(); let out = ''; for await (const c of s.readable) out += c; return [out, s.encoding]`)
  same('a decoder stream refuses what is not bytes', `const s = new TextDecoderStream(); const w = s.writable.getWriter(); w.closed.catch(() => {}); s.readable.cancel().catch(() => {}); await w.write(undefined)`)
  same('attributes', `const d = new TextDecoder('UTF8', { fatal: true }); return [d.encoding, d.fatal, d.ignoreBOM, String(d), d instanceof TextDecoder, new TextDecoder('latin1') instanceof TextDecoder, TextDecoder.name, TextDecoder.length]`)
  same('a subclass works', `class D extends TextDecoder {} return [new D().decode(new Uint8Array([65])), new D('latin1').decode(new Uint8Array([0xe9])), new D() instanceof D]`)
  same('encodeInto', `return new TextEncoder().encodeInto('hé', new Uint8Array(2))`)
  same('TextEncoderStream joins cut surrogates', `const s = new TextEncoderStream(); const w = s.writable.getWriter(); w.write('a\\ud83d'); w.write('\\ude00'); w.write('\\ud83d'); w.close(); const out = []; for await (const c of s.readable) out.push(...c); return out`)
  same('TextDecoderStream joins cut bytes', `const s = new TextDecoderStream(); const w = s.writable.getWriter(); w.write(new Uint8Array([0xe2, 0x82])); w.write(new Uint8Array([0xac])); w.close(); let out = ''; for await (const c of s.readable) out += c; return [out, s.encoding, s.fatal]`)
  same('TextDecoderStream rejects wrong bytes when fatal', `const s = new TextDecoderStream('utf-8', { fatal: true }); const w = s.writable.getWriter(); w.write(new Uint8Array([255])).catch(() => {}); w.closed.catch(() => {}); for await (const c of s.readable);`)
  same('atob and btoa', `return [btoa('hé'), atob('aOk=')]`)
  same('atob refuses', `atob('*')`)
})
