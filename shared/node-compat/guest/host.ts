/** What the prelude gives to these modules (guest/prelude/node.ts). */
interface NodeHost {
  /** As compute.ts says. */
  readonly compute: (request: string, data: ArrayBuffer | Uint8Array) => ArrayBuffer | string
  readonly subtle: (request: string, data: ArrayBuffer | Uint8Array) => Promise<unknown>
  readonly encodeUtf8: (text: string) => ArrayBuffer
  readonly decodeUtf8: (bytes: Uint8Array) => string
}

export const host: NodeHost = (globalThis as unknown as { readonly __OUTPOST_NODE__: NodeHost }).__OUTPOST_NODE__
