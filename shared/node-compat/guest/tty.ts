/** `node:tty`: there is no terminal. */
export function isatty(): boolean {
  return false
}
export default { isatty }
