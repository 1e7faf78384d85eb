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
  // What Node has, and TypeScript's library does not describe yet (ECMA-262, "JSON.parse source text access").
  interface JSON {
    parse(
      text: string,
      reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
    ): unknown
    /** Something that is written as this text. */
    rawJSON(text: string): unknown
    isRawJSON(value: unknown): boolean
  }
}

/** Sixteen digits are more than a number of JavaScript is sure to have; a large exponent may be no number at all. */
const LONG_NUMBER = /\d{16}|\de\+?\d{3}/i

/**
 * The same for what is only written again: numbers that JavaScript cannot hold (ids of 64 bits) stay as they are. Such a
 * one is no number to anybody who looks at it.
 */
export function parseExactObject(text: string): Record<string, unknown> | undefined {
  if (!LONG_NUMBER.test(text)) return parseObject(text)
  try {
    const value = JSON.parse(text, (_, one, { source }) =>
      typeof one !== 'number' || source === undefined || isExact(one, source) ? one : JSON.rawJSON(source),
    )
    return isObject(value) && !JSON.isRawJSON(value) ? value : undefined
  } catch {
    return undefined
  }
}

function isExact(value: number, source: string): boolean {
  return Number.isFinite(value) && (source.length < 16 || String(value) === source)
}
