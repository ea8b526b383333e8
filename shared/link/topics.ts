/**
 * Who may ask what: the questions by topic that this end of a link answers, and which roles each is open to.
 *
 * T1  A topic that is not open to a peer's role is to that peer as one that does not exist.
 * T2  A handler gets the payload as it came: a plain value within the bounds of the link, of no promised shape.
 */
import { CodedError } from '../errors.ts'
import type { LinkPeer, LinkRole } from './types.ts'

/** What it throws reaches the asker as its coded error. */
export type TopicHandler = (peer: LinkPeer, payload: unknown) => unknown

interface Topic {
  readonly roles: readonly LinkRole[]
  readonly handler: TopicHandler
}

export class TopicTable {
  readonly #topics = new Map<string, Topic>()

  /** One handler for each topic: a second one is a mistake of ours. */
  handle(topic: string, roles: readonly LinkRole[], handler: TopicHandler): void {
    if (this.#topics.has(topic)) throw new Error(`topic ${topic} is handled already`)
    this.#topics.set(topic, { roles, handler })
  }

  /** T1. Throws ERR_LINK_TOPIC. */
  answer(peer: LinkPeer, topic: string, payload: unknown): unknown {
    const entry = this.#topics.get(topic)
    if (entry === undefined || !entry.roles.includes(peer.role)) throw new CodedError('ERR_LINK_TOPIC', [topic])
    return entry.handler(peer, payload)
  }
}
