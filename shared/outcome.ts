/** How an invocation ended. One closed set, used in logs, metrics, the link and between threads. */
export const OUTCOMES = [
  'ok', 'exception', 'exceededCpu', 'exceededMemory', 'exceededWall', 'exceededResponse', 'exceededSubrequests',
  'hung', 'canceled', 'loadShed', 'platformFault',
] as const
export type Outcome = (typeof OUTCOMES)[number]

/** Where the sandbox that ran an invocation came from; see design words in ARCHITECTURE.md. */
export const START_KINDS = ['warm', 'reimaged', 'restored', 'cold', 'resumed'] as const
export type StartKind = (typeof START_KINDS)[number]
