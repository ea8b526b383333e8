/** The page operations of a slot, assembled from page-ops.wat (a test keeps the two equal). */
const BINARY =
  'AGFzbQEAAAABGANgA39/fwF/YAR/f39/AGAFf39/f38BfwI8AwdvdXRwb3N0BWFyZW5hAgMBgIAEB291dHBvc3QGbWVtb3J5AgEBgIAEB291dH' +
  'Bvc3QFZmxhZ3MCARERAwYFAAEAAgAHHAMFcmVzZXQAAgdyZWltYWdlAAMGdmVyaWZ5AAQK2gMFGAAgAiABSQR/IAAgAkECdGooAgAFQQALC3sB' +
  'AX8gACABIAIQACEEIAQEQCACQQx0IARBgCD8CgEABSACQQx0QQBBgCD8CwELIAJBAWohAiACIANJBEAgACABIAIQACEEIAJBDHQhAiAEBEAgAi' +
  'AEKQMAN0MBACACIAQpAwg3QwEIBSACQgA3QwEAIAJCADdDAQgLCwtfAQN/A0AgAylDAgBCAFIEQCADQQhqIQQDQCADLUACAARAIAAgASADIAIQ' +
  'ASAFQQFqIQULIANBAWoiAyAESQ0ACyADQQhrQgA3QwIABSADQQhqIQMLIAMgAkkNAAsgBQtbAQN/IAEgAyABIANLGyEGIAYgBEsEQCAEIQYLIA' +
  'ZFBEBBAA8LA0AgACABIAUQACACIAMgBRAARwRAIAIgAyAFIAQQASAHQQFqIQcLIAVBAWoiBSAGSQ0ACyAHC4YBAQR/A0AgAy1AAgAEQCADDwsg' +
  'ACABIAMQACEEIANBDHQhBSAFQYAgaiEGIAQEQANAIAUpQwEAIAQpAwBSBEAgAw8LIARBCGohBCAFQQhqIgUgBkkNAAsFA0AgBSlDAQBCAFIEQC' +
  'ADDwsgBUEIaiIFIAZJDQALCyADQQFqIgMgAkkNAAtBfws='

export interface PageOps {
  /** Restores every flagged page and clears the flags; `pages` is the physical size in 4 KiB pages, a multiple of 8. */
  readonly reset: (table: number, count: number, pages: number) => number
  /** Turns a clean memory from one image into another; returns the pages copied. */
  readonly reimage: (fromTable: number, fromCount: number, toTable: number, toCount: number, pages: number) => number
  /** First page that differs from the image or is flagged, -1 for none. */
  readonly verify: (table: number, count: number, pages: number) => number
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
