/** `node:querystring`, by unenv: Node's own. */
export * from 'unenv/node/querystring'
export { default } from 'unenv/node/querystring'
