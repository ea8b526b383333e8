/** `node:string_decoder`: the npm package of that name, which is Node's. */
import { StringDecoder } from 'string_decoder/'

export { StringDecoder }
export default { StringDecoder }
