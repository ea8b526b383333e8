/**
 * Where a neighbouring module is: `.ts` in a checkout (type stripping), `.js` in an installed package (`dist/`, because
 * Node strips no types under node_modules). The extension of the caller tells which of the two it is, so the same line
 * works in both: for worker threads, child processes, and sources that esbuild bundles at run time.
 */

/** `siblingModule(import.meta.url, './worker-main')`: relative to the calling file, written without an extension. */
export function siblingModule(callerUrl: string, relativePath: string): URL {
  const extension = /\.[jt]s$/.exec(new URL(callerUrl).pathname)?.[0] ?? '.js'
  return new URL(relativePath + extension, callerUrl)
}
