/**
 * Compiles a rewritten module so that V8 reads its branch hints (C3 in code.ts). V8 12 reads them only while a flag is
 * set. The flag is set for the compilation alone, because a changed flag makes V8 distrust its cache of built-in code
 * and start every worker thread 15 ms later. Modules sent to workers keep what was compiled.
 *
 * Flags belong to the process: compile on one thread at a time.
 */
import { setFlagsFromString } from 'node:v8'

/** Throws WebAssembly.CompileError for bytes that are no module. V8 gives equal bytes one compilation: the first decides. */
export function compileRewritten(bytes: Uint8Array<ArrayBuffer>): WebAssembly.Module {
  setFlagsFromString('--experimental-wasm-branch-hinting')
  try {
    return new WebAssembly.Module(bytes)
  } finally {
    setFlagsFromString('--no-experimental-wasm-branch-hinting')
  }
}
