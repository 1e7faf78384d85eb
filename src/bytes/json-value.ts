// What a parser of JSON or YAML gave, looked at from outside: the first step from `unknown`.

/** Whether a parsed value is an object with members: neither null nor a list. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
