/** The one way in which the rewriter says no. */
import { CodedError } from '../../errors.ts'

/** `opcodeName` is the instruction, or in parentheses the part of the module, that was read at `byteOffset` of the original. */
export function refuse(reason: string, opcodeName: string, byteOffset: number): never {
  throw new CodedError('ERR_MODULE_REFUSED', [reason, opcodeName, byteOffset])
}
