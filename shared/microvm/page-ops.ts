/** The page operations of a slot, assembled from page-ops.wat (a test keeps the two equal). */
const BINARY =
  'AGFzbQEAAAABJwVgA39/fwF/YAN/f38AYAV/f39/fgBgBX9/f39/AX9gBH9/f38BfwI+AwdvdXRwb3N0BWFyZW5hAgMBgIAEB291dHBvc3QGbWVtb3J5A' +
  'gEBgIAEB291dHBvc3QFZmxhZ3MCAYEBgQEDCgkAAQIAAwMAAAQHLwUFcmVzZXQAAwdyZWltYWdlAAQGc3dpdGNoAAUGdmVyaWZ5AAcHY2hhbmdlcwAICt' +
  'QHCRgAIAIgAUkEfyAAIAJBAnRqKAIABUEACwtBAQF/IAAgASACEAAhAyACQQx0IQIgAwRAIAIgAykDADdDAQAgAiADKQMIN0MBCAUgAkIAN0MBACACQgA' +
  '3QwEICwu0AQEFfyAAIAEgAhAAIQUgAkEMdCEGA0AgBHqnIQcgByAEIAetiEKBgoSIkKDAgAGFeqdqIQhCACAEQn8gCK2GgyAIQcAATxshBCAIIAdrQQZ0' +
  'IQkgCEHAAEkEQCAJQRBqIQkLIAdBBnQhByAFBEAgBiAHaiAFIAdqIAn8CgEABSAGIAdqQQAgCfwLAQsgBEIAUg0ACyAIQcAATwRAIAJBAWohAiACIANJB' +
  'EAgACABIAIQAQsLC4QBAgR/AX4DQCADQQN0IgUpQwIAIAUpQwIIhCAFKUMCECAFKUMCGISEUARAIANBBGohAwUgA0EEaiEEA0AgA0EDdCIFKUMCACEHIA' +
  'dCAFIEQCAAIAEgAyACIAcQAiAFQgA3QwIAIAZBAWohBgsgA0EBaiIDIARJDQALCyADIAJJDQALIAYLZQEDfyABIAMgASADSxshBiAGIARLBEAgBCEGCyA' +
  'GRQRAQQAPCwNAIAAgASAFEAAgAiADIAUQAEcEQCACIAMgBSAEQoGChIiQoMCAARACIAdBAWohBwsgBUEBaiIFIAZJDQALIAcLpwECA38BfiABIAMgASAD' +
  'SxshBiAGIARLBEAgBCEGCwNAIAAgASAFEAAgAiADIAUQAEcEQEKBhJDAgIKIoIB/QoGChIiQoMCAASAAIAEgBRAGIAIgAyAFEAZyrX6DIQhCgYKEiJCgw' +
  'IABIAhC//79+/fv37//AHxCB4iDIQggCEIAUgRAIAIgAyAFIAQgCBACCyAHQQFqIQcLIAVBAWoiBSAGSQ0ACyAHCxsAIAIgAUkEfyAAIAFBAnRqIAJqLQ' +
  'AABUEACwuMAQEEfwNAIANBA3QpQwIAQgBSBEAgAw8LIAAgASADEAAhBCADQQx0IQUgBUGAIGohBiAEBEADQCAFKUMBACAEKQMAUgRAIAMPCyAEQQhqIQQ' +
  'gBUEIaiIFIAZJDQALBQNAIAUpQwEAQgBSBEAgAw8LIAVBCGoiBSAGSQ0ACwsgA0EBaiIDIAJJDQALQX8LgQEBBX8gACABIAIQACEEIAJBDHQhBSAFIANB' +
  'AnRqIQZBgIKABCEHA0BBACEIIAQEQCAEKAIAIQggBEEEaiEECyAFKEIBACAIRwRAIAcgBUECdjZCAgAgByAFKEIBADZCAgQgB0EIaiEHCyAFQQRqIgUgB' +
  'kkNAAsgB0GAgoAEa0EDdgs='

export interface PageOps {
  /** Restores every flagged granule and clears the flags; `pages` is the physical size in 4 KiB pages, a multiple of 16. Returns in how many pages. */
  readonly reset: (table: number, count: number, pages: number) => number
  /** Turns a clean memory from one image into another; returns the pages copied. */
  readonly reimage: (fromTable: number, fromCount: number, toTable: number, toCount: number, pages: number) => number
  /** The same between two images with masks; see arena.ts. */
  readonly switch: (fromTable: number, fromCount: number, toTable: number, toCount: number, pages: number) => number
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
