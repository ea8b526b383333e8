/**
 * What the stand-ins for Node's modules (shared/node-compat) ask of the host. They are part of a function's bundle, so they
 * find it by a name on the global object, one that no library looks for; what they get are functions of the prelude.
 */
import { OPERATIONS } from '../abi.ts'
import { hostCompute, hostUtf8Decode, hostUtf8Encode, type Bytes } from './host.ts'
import { operation } from './operations.ts'
import { ObjectFreeze } from './primordials.ts'
import { publish } from './webidl.ts'

export const NODE_GLOBAL = '__OUTPOST_NODE__'

export function installNode(): void {
  publish(NODE_GLOBAL, ObjectFreeze({
    /** An ArrayBuffer, or text: JSON, or `!code\nmessage` of an error. */
    compute: (request: string, data: Bytes): ArrayBuffer | string => hostCompute(request, data),
    /** A request of OPERATIONS.SUBTLE. */
    subtle: (request: string, data: Bytes): Promise<unknown> => operation(OPERATIONS.SUBTLE, request, data),
    encodeUtf8: (text: string): ArrayBuffer => hostUtf8Encode(text),
    /** A BOM stays. Wrong bytes are U+FFFD. */
    decodeUtf8: (bytes: Bytes): string => hostUtf8Decode(bytes, false, true) ?? '',
  }))
}
