/** Something that is done once, however often it is asked for. */
export class Once {
  #done: Promise<void> | null = null

  run(action: () => Promise<void>): Promise<void> {
    this.#done ??= action()
    return this.#done
  }
}
