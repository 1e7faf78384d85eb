// Whatever a provider sends, what a caller gets of it has the shape of his API: frames left out, sent twice, out of turn or
// with other values than they had. A strict reader of each API is the judge.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ENDPOINTS } from '../../../src/http/operations.ts'
import { anthropic } from '../../support/dialects/anthropic.ts'
import { bedrock } from '../../support/dialects/bedrock.ts'
import type { AnswerOptions, Dialect } from '../../support/dialects/dialect.ts'
import { gemini } from '../../support/dialects/gemini.ts'
import { openai } from '../../support/dialects/openai.ts'
import { responses } from '../../support/dialects/responses.ts'
import { type Heard, SURFACES, type Surface } from '../../support/surfaces.ts'
import { playStream } from '../../support/translated.ts'
import { makeDeployment } from './stage.ts'

const DIALECTS: Readonly<Record<string, Dialect>> = {
  openai,
  anthropic,
  gemini,
  bedrock,
  responses,
}
const ASKED = {
  fields: {},
  model: 'm1',
  stream: true,
  includeUsage: true,
  choices: 1,
  messages: [],
  tools: [],
}

/** What a caller of `surface` is given of these frames of a provider of `format`. */
function play(surface: Surface, format: string, frames: readonly Buffer[]): Outcome {
  const { end, heard } = playStream({ surface, deployment: makeDeployment('p/m1', {}, { format }) }, frames)
  return { ended: end?.kind, heard }
}

interface Outcome {
  readonly ended: 'complete' | 'failed' | 'apart' | undefined
  readonly heard: Heard
}

const word = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 6 })
const options: fc.Arbitrary<AnswerOptions> = fc.record(
  {
    pieces: fc.array(word, { minLength: 1, maxLength: 4 }),
    reasoning: fc.array(word, { minLength: 1, maxLength: 2 }),
    toolCalls: fc.array(fc.record({ name: fc.constant('f'), args: fc.dictionary(fc.constant('x'), word) }), {
      maxLength: 3,
    }),
    finishReason: fc.constantFrom('stop', 'length', 'tool_calls'),
  },
  { requiredKeys: ['pieces'] },
)

type Change = (frames: readonly Buffer[]) => readonly Buffer[]
const at = fc.nat(40)
const change: fc.Arbitrary<Change> = fc.oneof(
  at.map(
    (i): Change =>
      (frames) =>
        frames.toSpliced(i % frames.length, 1),
  ),
  at.map(
    (i): Change =>
      (frames) =>
        frames.toSpliced(i % frames.length, 0, frames[i % frames.length] ?? Buffer.alloc(0)),
  ),
  fc.tuple(at, at).map(
    ([i, j]): Change =>
      (frames) => {
        const moved = frames[i % frames.length] ?? Buffer.alloc(0)
        return frames.toSpliced(i % frames.length, 1).toSpliced(j % frames.length, 0, moved)
      },
  ),
  at.map(
    (i): Change =>
      (frames) =>
        frames.slice(0, (i % frames.length) + 1),
  ),
  fc.tuple(at, fc.constantFrom('null', '0', '-1', '"x"', '{}', '[]', '[null]', 'true')).map(
    ([i, value]): Change =>
      (frames) => {
        // Another value for one member of one event.
        const frame = frames[i % frames.length]?.toString() ?? ''
        const members = [...frame.matchAll(/"\w+":(?:"(?:[^"\\]|\\.)*"|-?\d+|null|true|false)/g)]
        const member = members[i % Math.max(1, members.length)]
        if (member === undefined) return frames
        const named = `${member[0].slice(0, member[0].indexOf(':') + 1)}${value}`
        const changed = `${frame.slice(0, member.index)}${named}${frame.slice(member.index + member[0].length)}`
        return frames.toSpliced(i % frames.length, 1, Buffer.from(changed))
      },
  ),
)

const PAIRS = SURFACES.flatMap((surface) =>
  Object.keys(DIALECTS).map((format) => ({ surface, name: surface.name, format })),
).filter(({ surface, format }) => {
  const endpoint = ENDPOINTS.find((one) => one.path === surface.path)
  return endpoint?.format !== format
})

describe.each(PAIRS)('$name over $format', ({ surface, format }) => {
  const dialect = DIALECTS[format] ?? openai

  it('says what was said', () => {
    fc.assert(
      fc.property(options, (said) => {
        const { ended, heard } = play(surface, format, dialect.frames(ASKED, said))
        expect(ended).toBe('complete')
        expect(heard.ended).toBe(true)
        expect(heard.text).toBe((said.pieces ?? []).join(''))
        if (surface.name !== 'completions') expect(heard.calls).toHaveLength(said.toolCalls?.length ?? 0)
      }),
      { numRuns: 50 },
    )
  })

  it('has the shape of the API, whatever is sent, and an end only where the answer is whole', () => {
    fc.assert(
      fc.property(options, fc.array(change, { minLength: 1, maxLength: 3 }), (said, changes) => {
        const frames = changes.reduce<readonly Buffer[]>(
          (all, one) => (all.length === 0 ? all : one(all)),
          dialect.frames(ASKED, said),
        )
        const { ended, heard } = play(surface, format, frames)
        expect(heard.ended).toBe(ended === 'complete')
        expect(heard.error).toBeUndefined()
        for (const { name } of heard.calls) expect(name).not.toBe('')
      }),
      { numRuns: 150 },
    )
  })
})
