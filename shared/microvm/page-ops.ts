/** The page operations of a slot, assembled from page-ops.wat (a test keeps the two equal). */
const BINARY =
  'AGFzbQEAAAABIARgA39/fwF/YAR/f39/AGAFf39/f38Bf2AEf39/fwF/AjwDB291dHBvc3QFYXJlbmECAwGAgAQHb3V0cG9zdAZtZW1vcnkCAQ' +
  'GAgAQHb3V0cG9zdAVmbGFncwIBEREDBwYAAQACAAMHJgQFcmVzZXQAAgdyZWltYWdlAAMGdmVyaWZ5AAQHY2hhbmdlcwAFCt0EBhgAIAIgAUkE' +
  'fyAAIAJBAnRqKAIABUEACwt7AQF/IAAgASACEAAhBCAEBEAgAkEMdCAEQYAg/AoBAAUgAkEMdEEAQYAg/AsBCyACQQFqIQIgAiADSQRAIAAgAS' +
  'ACEAAhBCACQQx0IQIgBARAIAIgBCkDADdDAQAgAiAEKQMIN0MBCAUgAkIAN0MBACACQgA3QwEICwsLXwEDfwNAIAMpQwIAQgBSBEAgA0EIaiEE' +
  'A0AgAy1AAgAEQCAAIAEgAyACEAEgBUEBaiEFCyADQQFqIgMgBEkNAAsgA0EIa0IAN0MCAAUgA0EIaiEDCyADIAJJDQALIAULWwEDfyABIAMgAS' +
  'ADSxshBiAGIARLBEAgBCEGCyAGRQRAQQAPCwNAIAAgASAFEAAgAiADIAUQAEcEQCACIAMgBSAEEAEgB0EBaiEHCyAFQQFqIgUgBkkNAAsgBwuG' +
  'AQEEfwNAIAMtQAIABEAgAw8LIAAgASADEAAhBCADQQx0IQUgBUGAIGohBiAEBEADQCAFKUMBACAEKQMAUgRAIAMPCyAEQQhqIQQgBUEIaiIFIA' +
  'ZJDQALBQNAIAUpQwEAQgBSBEAgAw8LIAVBCGoiBSAGSQ0ACwsgA0EBaiIDIAJJDQALQX8LgQEBBX8gACABIAIQACEEIAJBDHQhBSAFIANBAnRq' +
  'IQZBgILAACEHA0BBACEIIAQEQCAEKAIAIQggBEEEaiEECyAFKEIBACAIRwRAIAcgBUECdjZCAgAgByAFKEIBADZCAgQgB0EIaiEHCyAFQQRqIg' +
  'UgBkkNAAsgB0GAgsAAa0EDdgs='

export interface PageOps {
  /** Restores every flagged page and clears the flags; `pages` is the physical size in 4 KiB pages, a multiple of 8. */
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
