// A secret as an object: whatever prints, serialises or concatenates it shows a fingerprint, never the value.
// The value leaves through `reveal()` alone, so that every place which uses it can be found by that word.

import { createHash } from 'node:crypto'

/** An opaque value. A class, against the habit of this code, because only `#value` is out of reach of every printer. */
export class Secret {
  readonly #value: string

  constructor(value: string) {
    this.#value = value
  }

  /** The value itself; the only way to it. */
  reveal(): string {
    return this.#value
  }

  /** Tells two values apart without telling what they are: 16 bits of SHA-256. */
  get fingerprint(): string {
    return createHash('sha256').update(this.#value).digest('hex').slice(0, 4)
  }

  toString(): string {
    return `[secret:${this.fingerprint}]`
  }

  toJSON(): string {
    return this.toString()
  }

  valueOf(): string {
    return this.toString()
  }

  [Symbol.toPrimitive](): string {
    return this.toString()
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString()
  }
}
