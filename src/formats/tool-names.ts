// Tools as a wire without groups, long names and free text can call them, and back: for the writers of requests whose
// provider takes plain functions only. Knows names and text, no wire.

import { createHash } from 'node:crypto'
import { isObject, parseExactObject, parseObject } from '../bytes/json-value.ts'
import type { CallPart, Tool } from './canonical.ts'
import type { ToolName } from './format.ts'

export interface WireNames {
  /** What a tool is called on the wire; the same every time, also for one that only stands in the history. */
  toWire(tool: ToolName): string
  /** The tools whose name or kind is another on the wire, by their name there: for `WrittenRequest.names`. */
  readonly names: ReadonlyMap<string, ToolName>
}

/**
 * Gives names of ASCII letters, digits, `_` and `-`, of `longest` characters at most (16 or more). One that has to be
 * changed ends with a hash of what it was, so that two never become one. `startsWithLetter`: none begins with a digit or
 * a hyphen.
 */
export function createWireNames(longest: number, { startsWithLetter = false } = {}): WireNames {
  const names = new Map<string, ToolName>()
  /** Who has a name; a plain name that another's group and name happen to spell is taken too. */
  const taken = new Map<string, string>()
  const given = new Map<string, string>()

  function isPlain(whole: string): boolean {
    return PLAIN_NAME.test(whole) && whole.length <= longest && !(startsWithLetter && NO_LETTER.test(whole))
  }

  function shorten(whole: string, identity: string): string {
    const hash = createHash('sha256').update(identity).digest('hex').slice(0, HASH_LETTERS)
    const plain = whole.replace(/[^a-zA-Z0-9_-]/g, '_')
    const front = startsWithLetter && NO_LETTER.test(plain) ? `_${plain}` : plain
    return `${front.slice(0, longest - HASH_LETTERS - 1)}_${hash}`
  }

  return {
    toWire({ name, namespace, kind }) {
      const identity = JSON.stringify([namespace ?? null, name])
      let wire = given.get(identity)
      if (wire === undefined) {
        const whole = namespace === undefined ? name : `${namespace}__${name}`
        wire = isPlain(whole) ? whole : shorten(whole, identity)
        if ((taken.get(wire) ?? identity) !== identity) wire = shorten(whole, identity)
        taken.set(wire, identity)
        given.set(identity, wire)
      }
      // What a tool is said to be first counts: the list of tools knows it, a choice or a history may not.
      const isOther = wire !== name || namespace !== undefined || kind === 'custom'
      if (isOther && !names.has(wire)) names.set(wire, { name, namespace, kind })
      return wire
    },
    names,
  }
}

/** A call by its name on the wire, as its caller calls it. */
export function toToolName(names: ReadonlyMap<string, ToolName>, wire: string): ToolName {
  return names.get(wire) ?? { name: wire, namespace: undefined, kind: 'function' }
}

const PLAIN_NAME = /^[a-zA-Z0-9_-]+$/
const NO_LETTER = /^[^a-zA-Z_]/
const HASH_LETTERS = 8

// --- tools of free text ------------------------------------------------------------------------------------

/** What a tool of free text takes where there are functions only. */
export const CUSTOM_PARAMETERS: Readonly<Record<string, unknown>> = {
  type: 'object',
  properties: { input: { type: 'string', description: 'The whole input, as plain text.' } },
  required: ['input'],
  additionalProperties: false,
}

/** Its description, with the grammar that nobody enforces there any more. */
export function describeCustom({ description, grammar }: Tool): string | undefined {
  const inner = isObject(grammar) && isObject(grammar.grammar) ? grammar.grammar : grammar
  if (!isObject(inner) || typeof inner.definition !== 'string') return description
  const syntax = typeof inner.syntax === 'string' ? `${inner.syntax} ` : ''
  return `${description === undefined ? '' : `${description}\n\n`}The input must follow this ${syntax}grammar:\n${inner.definition}`
}

export function wrapCustom(text: string): Readonly<Record<string, unknown>> {
  return { input: text }
}

/** The free text in the arguments of such a function; the arguments as they stand where they are something else. */
export function unwrapCustom(json: string): string {
  const input = parseObject(json)?.input
  return typeof input === 'string' ? input : json
}

/** What a call takes on a wire that has its input as an object. */
export function toInput({
  kind,
  arguments: text,
}: Pick<CallPart, 'kind' | 'arguments'>): Readonly<Record<string, unknown>> {
  if (kind === 'custom') return wrapCustom(text)
  if (text.trim() === '') return {}
  // Models do write arguments that are no object: nothing of them is lost, and the tool will say what is wrong.
  return parseExactObject(text) ?? { arguments: text }
}
