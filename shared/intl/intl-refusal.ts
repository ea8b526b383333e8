/** What the guest shall see as an error of its own. */
export class IntlRefusal extends Error {
  override readonly name: 'RangeError' | 'TypeError'

  constructor(name: 'RangeError' | 'TypeError', message: string) {
    super(message)
    this.name = name
  }
}
