// YAML 1.2 (and so JSON) text as a plain value, with the place of each key for messages. Says what is wrong in its
// own words: the parser's quote the text, and the text may hold a secret.

import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type ParsedNode,
  parseDocument,
  type YAMLError,
} from 'yaml'
import type { Path, Position, Problem, RawDocument } from './problems.ts'

/** The parser's measure of aliases within aliases; more is a bomb. */
const MOST_ALIASES = 100
/** Values of a whole file. */
const MOST_NODES = 1_000_000
/** No key of ours lies deeper than ten. */
const DEEPEST = 64
/** Problems of syntax after this many are the echo of the first ones. */
const MOST_PROBLEMS = 20

interface Parse {
  readonly tree: Document<ParsedNode, true>
  readonly lines: LineCounter
}

/** `text` as a document, or where its syntax is wrong. `file` is only for the messages. */
export function readYaml(
  file: string,
  text: string,
): RawDocument | { readonly problems: readonly Problem[] } {
  try {
    const { tree, lines } = parseText(text)
    const errors: YAMLError[] = [...tree.errors, ...tree.warnings]
    if (errors.length > 0) {
      return {
        problems: errors.slice(0, MOST_PROBLEMS).map((error) => ({
          file,
          path: '',
          message: WORDS[error.code],
          ...toPosition(lines, error.pos[0]),
        })),
      }
    }
    const value: unknown = tree.toJS({ maxAliasCount: MOST_ALIASES })
    if (countNodes(value) <= MOST_NODES) {
      // Only a problem needs the tree again, and ten thousand trees would be hundreds of megabytes.
      let again: Parse | undefined
      return {
        file,
        value: value ?? {},
        locate: (path) => {
          again ??= parseText(text)
          return locate(again, path)
        },
      }
    }
  } catch {
    // An alias of nothing, too many of them, or nesting deeper than the stack: as below.
  }
  const message = 'has an alias (*name) of nothing, too many aliases, or too deep nesting'
  return { problems: [{ file, path: '', message }] }
}

function parseText(text: string): Parse {
  const lines = new LineCounter()
  const tree = parseDocument<ParsedNode, true>(text, {
    version: '1.2',
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: true,
    stringKeys: true,
  })
  return { tree, lines }
}

/** Values in a value, those behind an alias each time; infinite when it is too deep or holds itself. */
function countNodes(value: unknown, depth = 0): number {
  if (typeof value !== 'object' || value === null) return 1
  if (depth > DEEPEST) return Number.POSITIVE_INFINITY
  let count = 1
  for (const inner of Object.values(value)) {
    count += countNodes(inner, depth + 1)
    if (count > MOST_NODES) return Number.POSITIVE_INFINITY
  }
  return count
}

const WORDS: Readonly<Record<YAMLError['code'], string>> = {
  ALIAS_PROPS: 'an alias (*name) can have no tag or anchor of its own',
  BAD_ALIAS:
    'an alias (*name) or anchor (&name) is wrong or not known; put text that begins with * or & in quotes',
  BAD_COLLECTION_TYPE: 'a tag (!name) does not fit here; tags are not used in this file',
  BAD_DIRECTIVE: 'a directive (%name) is not understood; put text that begins with % in quotes',
  BAD_DQ_ESCAPE:
    'an escape after \\ in "quotes" is not understood; use \'single quotes\' for text with backslashes',
  BAD_INDENT: 'the indentation is wrong: a line is further left or right than those it belongs to',
  BAD_PROP_ORDER: 'a tag or anchor stands in the wrong place',
  BAD_SCALAR_START: 'text cannot begin with this character; put it in quotes',
  BLOCK_AS_IMPLICIT_KEY: 'a mapping inside a mapping needs a line of its own; put text with ": " in quotes',
  BLOCK_IN_FLOW: 'a block cannot stand inside { } or [ ]',
  DUPLICATE_KEY: 'the key stands twice in this mapping',
  IMPOSSIBLE: 'this cannot be read as YAML',
  KEY_OVER_1024_CHARS: 'the key is too long',
  MISSING_CHAR: 'something is missing: a closing quote or bracket, a comma, a colon or a space after one',
  MULTILINE_IMPLICIT_KEY: 'a key must stand on one line with its colon',
  MULTIPLE_ANCHORS: 'a value can have one anchor only',
  MULTIPLE_DOCS: 'the file holds more than one document; --- may stand only at its top',
  MULTIPLE_TAGS: 'a value can have one tag only',
  NON_STRING_KEY: 'a key must be text',
  RESOURCE_EXHAUSTION: 'the nesting is too deep',
  TAB_AS_INDENT: 'a tab stands where only spaces may indent',
  TAG_RESOLVE_FAILED:
    'a tag (!name) is not known; tags are not used in this file, put text that begins with ! in quotes',
  UNEXPECTED_TOKEN: 'this cannot stand here',
}

function toPosition(lines: LineCounter, offset: number): Position {
  const { line, col } = lines.linePos(offset)
  return { line: Math.max(line, 1), column: Math.max(col, 1) }
}

/** Where the last part of a path stands that is there at all. */
function locate({ tree, lines }: Parse, path: Path): Position | undefined {
  let node: unknown = tree.contents
  let offset: number | undefined
  for (const part of path) {
    if (isAlias(node)) node = node.resolve(tree)
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(part))
      if (!pair) break
      if (isScalar(pair.key)) offset = pair.key.range?.[0] ?? offset
      node = pair.value
    } else if (isSeq(node)) {
      const item: unknown = node.items[Number(part)]
      if (item === undefined) break
      if (isScalar(item) || isMap(item) || isSeq(item) || isAlias(item)) offset = item.range?.[0] ?? offset
      node = item
    } else break
  }
  return offset === undefined ? undefined : toPosition(lines, offset)
}
