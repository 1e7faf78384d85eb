// What a parser of JSON or YAML gave, looked at from outside: the first step from `unknown`.

/** Whether a parsed value is an object with members: neither null nor a list. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Its members that have a value, in their order. */
export function withoutUndefined(members: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined))
}

/** The object that a text is, or undefined: no JSON, or another value. */
export function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

declare global {
  interface JSON {
    /** A value that `JSON.stringify` writes as this very text (ECMAScript's proposal on the source text of JSON). */
    rawJSON(text: string): unknown
    isRawJSON(value: unknown): boolean
  }
}

/**
 * The same for an object that is only to be written again: whole numbers of more digits than JavaScript has (identifiers
 * of 64 bits) are written as they were.
 */
export function parseObjectToWrite(text: string): Record<string, unknown> | undefined {
  if (!LONG_NUMBER.test(text)) return parseObject(text)
  try {
    const value: unknown = JSON.parse(text, keepLong)
    return isObject(value) && !JSON.isRawJSON(value) ? value : undefined
  } catch {
    return undefined
  }
}

/** More digits than are always exact. */
const LONG_NUMBER = /\d{16}/
const WHOLE = /^-?\d+$/

/** A reviver, which is given the source of a number behind it. */
function keepLong(_: string, value: unknown, ...more: unknown[]): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value)) return value
  const [context] = more
  const source = isObject(context) ? context.source : undefined
  return typeof source === 'string' && WHOLE.test(source) ? JSON.rawJSON(source) : value
}
