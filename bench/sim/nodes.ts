export function newRing(nodes: number): number { return nodes }
export function ownerOf(ring: number, index: number): number { return (Math.imul(index + 1, 0x9e3779b1) >>> 8) % ring }
