/** `node:punycode`, by unenv: Node's own. */
export * from 'unenv/node/punycode'
export { default } from 'unenv/node/punycode'
