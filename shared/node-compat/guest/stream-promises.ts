/** `node:stream/promises`. */
import stream from './stream.ts'

const { pipeline, finished } = (stream as unknown as { readonly promises: Record<string, unknown> }).promises
export { pipeline, finished }
export default { pipeline, finished }
