/** What members say of themselves in the group, checked when it is read: who can write there may write anything. */
import { z } from 'zod'
import { LINK_MEMBER_ID_MAX_CHARS } from '../limits.ts'
import type { Member } from '../coordination/types.ts'
import type { PeerInfo, PeerMember } from './types.ts'

/** As the link takes it (shared/link/server-connection.ts). */
const MEMBER_ID = new RegExp(`^[A-Za-z0-9._-]{1,${LINK_MEMBER_ID_MAX_CHARS}}$`)

/** Loose: a field that a newer release adds is passed over. */
const peerInfo: z.ZodType<PeerInfo> = z.object({
  address: z.string().regex(/^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$/).max(300),
  capacity: z.int().min(0).max(1_000_000),
  fingerprint: z.string().regex(/^[0-9a-f]{64}$/).nullable(),
  protocol: z.int().nonnegative(),
  state: z.enum(['joining', 'serving', 'draining']),
  ring: z.int().nonnegative(),
  held: z.array(z.int().nonnegative()).max(64),
  mark: z.int().nonnegative(),
})

/** Null for what is no member of ours. */
export function readMember({ id, info }: Member): PeerMember | null {
  const parsed = peerInfo.safeParse(info)
  return MEMBER_ID.test(id) && parsed.success ? { memberId: id, info: parsed.data } : null
}
