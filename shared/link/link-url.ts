/** Where the links of a region are: one path of its front door. */
export const LINK_PATH = '/link'

/** `regionUrl`: `http:` or `https:`, as operators write it. */
export function linkUrl(regionUrl: string): string {
  const url = new URL(LINK_PATH, regionUrl)
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  return url.href
}
