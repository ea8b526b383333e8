/** The page operations of a slot, assembled from page-ops.wat (a test keeps the two equal). */
const BINARY =
  'AGFzbQEAAAABJwVgA39/fwF/YAN/f38AYAV/f39/fgBgBX9/f39/AX9gBH9/f38BfwI+AwdvdXRwb3N0BWFyZW5hAgMBgIAEB291dHBvc3QGbWVtb3J5A' +
  'gEBgIAEB291dHBvc3QFZmxhZ3MCAYEBgQEDCAcAAQIAAwAEByYEBXJlc2V0AAMHcmVpbWFnZQAEBnZlcmlmeQAFB2NoYW5nZXMABgqPBgcYACACIAFJBH' +
  '8gACACQQJ0aigCAAVBAAsLQQEBfyAAIAEgAhAAIQMgAkEMdCECIAMEQCACIAMpAwA3QwEAIAIgAykDCDdDAQgFIAJCADdDAQAgAkIAN0MBCAsLtAEBBX8' +
  'gACABIAIQACEFIAJBDHQhBgNAIAR6pyEHIAcgBCAHrYhCgYKEiJCgwIABhXqnaiEIQgAgBEJ/IAithoMgCEHAAE8bIQQgCCAHa0EGdCEJIAhBwABJBEAg' +
  'CUEQaiEJCyAHQQZ0IQcgBQRAIAYgB2ogBSAHaiAJ/AoBAAUgBiAHakEAIAn8CwELIARCAFINAAsgCEHAAE8EQCACQQFqIQIgAiADSQRAIAAgASACEAELC' +
  'wuEAQIEfwF+A0AgA0EDdCIFKUMCACAFKUMCCIQgBSlDAhAgBSlDAhiEhFAEQCADQQRqIQMFIANBBGohBANAIANBA3QiBSlDAgAhByAHQgBSBEAgACABIA' +
  'MgAiAHEAIgBUIAN0MCACAGQQFqIQYLIANBAWoiAyAESQ0ACwsgAyACSQ0ACyAGC2UBA38gASADIAEgA0sbIQYgBiAESwRAIAQhBgsgBkUEQEEADwsDQCA' +
  'AIAEgBRAAIAIgAyAFEABHBEAgAiADIAUgBEKBgoSIkKDAgAEQAiAHQQFqIQcLIAVBAWoiBSAGSQ0ACyAHC4wBAQR/A0AgA0EDdClDAgBCAFIEQCADDwsg' +
  'ACABIAMQACEEIANBDHQhBSAFQYAgaiEGIAQEQANAIAUpQwEAIAQpAwBSBEAgAw8LIARBCGohBCAFQQhqIgUgBkkNAAsFA0AgBSlDAQBCAFIEQCADDwsgB' +
  'UEIaiIFIAZJDQALCyADQQFqIgMgAkkNAAtBfwuBAQEFfyAAIAEgAhAAIQQgAkEMdCEFIAUgA0ECdGohBkGAgoAEIQcDQEEAIQggBARAIAQoAgAhCCAEQQ' +
  'RqIQQLIAUoQgEAIAhHBEAgByAFQQJ2NkICACAHIAUoQgEANkICBCAHQQhqIQcLIAVBBGoiBSAGSQ0ACyAHQYCCgARrQQN2Cw=='

export interface PageOps {
  /** Restores every flagged granule and clears the flags; `pages` is the physical size in 4 KiB pages, a multiple of 16. Returns in how many pages. */
  readonly reset: (table: number, count: number, pages: number) => number
  /** Turns a clean memory from one image into another; returns the pages copied. */
  readonly reimage: (fromTable: number, fromCount: number, toTable: number, toCount: number, pages: number) => number
  /** First page that differs from the image or is flagged, -1 for none. */
  readonly verify: (table: number, count: number, pages: number) => number
  /** Writes the words of a page that differ from the image to the flags memory, past the control block; returns how many. */
  readonly changes: (table: number, count: number, page: number, words: number) => number
}

export function compilePageOps(): WebAssembly.Module {
  return new WebAssembly.Module(pageOpsBinary())
}

export function pageOpsBinary(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(BINARY, 'base64'))
}

export function bindPageOps(module: WebAssembly.Module, arena: WebAssembly.Memory, memory: WebAssembly.Memory, flags: WebAssembly.Memory): PageOps {
  return new WebAssembly.Instance(module, { outpost: { arena, memory, flags } }).exports as unknown as PageOps
}
