// Where an object that is written in pieces ends: for a writer that must know whether a call's arguments are whole. It
// counts brackets outside strings and judges nothing else.

export interface JsonEnd {
  push(text: string): void
  /** An object or list has been opened and closed. */
  isWhole(): boolean
}

export function createJsonEnd(): JsonEnd {
  let depth = 0
  let isWhole = false
  let inString = false
  let isEscaped = false
  return {
    push(text) {
      for (let at = 0; at < text.length && !isWhole; at += 1) {
        if (inString) {
          if (isEscaped) {
            isEscaped = false
            continue
          }
          // The inside of a string is most of what there is.
          const next = text.slice(at).search(/["\\]/)
          if (next < 0) return
          at += next
          if (text[at] === '\\') isEscaped = true
          else inString = false
          continue
        }
        const char = text[at]
        if (char === '"') inString = true
        else if (char === '{' || char === '[') depth += 1
        else if (char === '}' || char === ']') {
          depth -= 1
          isWhole = depth <= 0
        }
      }
    },
    isWhole: () => isWhole,
  }
}
