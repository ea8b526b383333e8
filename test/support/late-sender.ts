/** A sender of a request body that has pieces at hand when it may go on, as a front door has: it writes them within that very call. */
export interface BodyTaker {
  write(chunk: Uint8Array): void
  writeEnd(): void
}

export class LateSender {
  readonly #late: Uint8Array[]
  to: BodyTaker | null = null
  paused = false

  constructor(late: readonly string[]) {
    this.#late = late.map((text) => Buffer.from(text))
  }

  pauseBody(): void {
    this.paused = true
  }

  resumeBody(): void {
    this.paused = false
    for (const chunk of this.#late.splice(0)) this.to?.write(chunk)
    this.to?.writeEnd()
  }
}
