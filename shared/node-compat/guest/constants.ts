/** `node:constants`: of errors and signals, as in `os.constants`. */
import { constants } from 'unenv/node/os'

const { errno, signals, priority } = constants as { readonly errno: object; readonly signals: object; readonly priority: object }
const all: object = { ...errno, ...signals, ...priority }
export default all
