// What is wrong with a configuration, in words for the person who wrote it: every problem at once, each with its
// place. No message repeats a value that could be a secret.

import { distance } from 'fastest-levenshtein'
import type { z } from 'zod'
import { notYetSentence } from './schema.ts'

export interface Problem {
  /** The file it stands in, as given, or `environment`. */
  readonly file: string
  /** `providers.local.baseUrl`; '' for the file as a whole. */
  readonly path: string
  readonly message: string
  /** The known word that was probably meant. */
  readonly nearest?: string
  /** From 1; absent where the place is not known. */
  readonly line?: number
  readonly column?: number
}

export type Path = readonly PropertyKey[]

export interface Position {
  readonly line: number
  readonly column: number
}

/** A file after YAML and before the schema. */
export interface RawDocument {
  readonly file: string
  readonly value: unknown
  /** Where the key or item of a path stands, or the nearest part of it that is there. */
  readonly locate?: (path: Path) => Position | undefined
}

/** A problem before its place is looked up. */
export interface Finding {
  readonly path: Path
  readonly message: string
  readonly nearest?: string | undefined
}

type Issue = z.core.$ZodIssue
type RawIssue = z.core.$ZodRawIssue

/** Farthest that a misspelt word may be from the one that was meant. */
const NEAR = 3

/** One line for a terminal or a log: `sluice.yaml:12:3 providers.local.baseUrl: is missing`. */
export function formatProblem(problem: Problem): string {
  const place =
    problem.line === undefined ? problem.file : `${problem.file}:${problem.line}:${problem.column ?? 1}`
  return problem.path === '' ? `${place}: ${problem.message}` : `${place} ${problem.path}: ${problem.message}`
}

/** Findings of one file as problems, in the order of the file where that is known. */
export function toProblems(document: RawDocument, findings: readonly Finding[]): Problem[] {
  const problems = findings.map(({ path, message, nearest }): Problem => {
    const position = document.locate?.(path)
    return { file: document.file, path: formatPath(path), message, ...(nearest && { nearest }), ...position }
  })
  return problems.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0))
}

/** Zod's issues, which must have been worded by `explain`, as findings: one for each unknown key, unions unfolded. */
export function toFindings(issues: readonly Issue[], base: Path = []): Finding[] {
  return issues.flatMap((issue): Finding[] => {
    const path = [...base, ...issue.path]
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => unknownKey(path, key, issue.message.split(' ')))
    }
    if (issue.code === 'invalid_key') return toFindings(issue.issues, path)
    if (issue.code === 'invalid_union') return unfoldUnion(issue.errors, path)
    return [{ path, message: issue.message }]
  })
}

/**
 * Words for zod's own issues; to be given to `safeParse` as `error`. The message of an unknown key is the list of
 * known ones, because a finished issue no longer knows its schema; `toFindings` makes the sentence.
 */
export function explain(issue: RawIssue): string | undefined {
  switch (issue.code) {
    case 'unrecognized_keys':
      return knownKeys(issue.inst).join(' ')
    case 'invalid_type':
      if (issue.expected === 'never') return notYetSentence(String(issue.path?.at(-1) ?? 'this'))
      if (issue.input === undefined) return 'is missing'
      return TYPE_WORDS.get(issue.expected) ?? `must be of type ${issue.expected}`
    case 'invalid_value':
      if (issue.input === undefined) return 'is missing'
      return wordsFor(issue.values.map(String), issue.input)
    case 'too_small':
      if (issue.origin === 'string') return 'must not be empty'
      if (issue.origin === 'array') return `must have at least ${issue.minimum}`
      return issue.inclusive === false
        ? `must be more than ${issue.minimum}`
        : `must be at least ${issue.minimum}`
    case 'too_big':
      if (issue.origin === 'string') return `must be at most ${issue.maximum} characters`
      if (issue.origin === 'array') return `must have at most ${issue.maximum}`
      return issue.inclusive === false
        ? `must be less than ${issue.maximum}`
        : `must be at most ${issue.maximum}`
    default:
      return undefined
  }
}

function wordsFor(known: readonly string[], input: unknown): string {
  const list = known.length === 1 ? `must be ${known[0]}` : `must be one of ${known.join(', ')}`
  return typeof input === 'string' ? list + suggestion(nearestWord(input, known)) : list
}

const TYPE_WORDS: ReadonlyMap<string, string> = new Map([
  ['string', 'must be text; put a number or a word such as true in quotes'],
  ['number', 'must be a number'],
  ['int', 'must be a whole number'],
  ['boolean', 'must be true or false'],
  ['object', 'must be a mapping of keys to values'],
  ['record', 'must be a mapping of names to values'],
  ['array', 'must be a list'],
])

/** The known word nearest to a misspelt one, whatever its case, or undefined when none is near. */
export function nearestWord(word: string, known: Iterable<string>): string | undefined {
  let nearest: string | undefined
  let least = Math.min(NEAR, word.length - 1) + 1
  for (const candidate of known) {
    const far = distance(word.toLowerCase(), candidate.toLowerCase())
    if (far < least) [nearest, least] = [candidate, far]
  }
  return nearest
}

/** `providers.local.keys[0]`; a name that would be misread with dots is quoted. */
export function formatPath(path: Path): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`
    const name = String(part)
    if (!/^[^.[\]"\s]+$/.test(name)) return `${text}[${JSON.stringify(name)}]`
    return text === '' ? name : `${text}.${name}`
  }, '')
}

/** "; did you mean …?" or nothing. */
export function suggestion(nearest: string | undefined): string {
  return nearest === undefined ? '' : `; did you mean ${JSON.stringify(nearest)}?`
}

function unknownKey(path: Path, key: string, known: readonly string[]): Finding {
  // What stands under apiKey may be the secret itself, written as a key by mistake.
  if (path.includes('apiKey')) return { path, message: `has an unknown key; known are ${known.join(', ')}` }
  const nearest = nearestWord(key, known)
  return {
    path: [...path, key],
    message: `unknown key ${JSON.stringify(key)}${suggestion(nearest)}`,
    nearest,
  }
}

function knownKeys(schema: unknown): string[] {
  if (typeof schema !== 'object' || schema === null || !('shape' in schema)) return []
  return typeof schema.shape === 'object' && schema.shape !== null ? Object.keys(schema.shape) : []
}

/** The issues of the form that was meant: the first whose outermost type fits; else what each would have been. */
function unfoldUnion(options: readonly Issue[][], path: Path): Finding[] {
  const fitting = options.find((issues) => !issues.some(isMismatch))
  if (fitting) return toFindings(fitting, path)
  const messages = new Set(options.flatMap((issues) => toFindings(issues).map((finding) => finding.message)))
  return [{ path, message: [...messages].join(', or ') }]
}

function isMismatch(issue: Issue): boolean {
  if (issue.path.length > 0) return false
  return issue.code === 'invalid_type' || (issue.code === 'custom' && issue.params?.mismatch === true)
}
