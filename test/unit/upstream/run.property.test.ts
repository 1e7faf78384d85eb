// Laws of a relayed stream: whatever it holds, however it is cut into pieces, wherever it ends.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { COMMENT, chunk, createRun, DONE, frame, type RunStage, STREAM, USAGE } from './stage.ts'

const text = fc.constantFrom(
  'a',
  'Grüße',
  '日本',
  '👩‍🚀',
  ' ',
  'line\nbreak',
  '"quoted"',
  '[DONE]',
  'data: x',
)
const piece = fc.oneof(
  { weight: 6, arbitrary: text.map((content) => chunk({ content })) },
  { weight: 1, arbitrary: text.map((reasoning) => chunk({ reasoning })) },
  { weight: 1, arbitrary: text.map((refusal) => chunk({ refusal })) },
  {
    weight: 1,
    arbitrary: text.map((args) =>
      chunk({ tool_calls: [{ index: 0, id: 'c', function: { name: 'f', arguments: args } }] }),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(COMMENT, chunk({ content: '' }), 'event: ping\n\n', frame({ choices: [] })),
  },
)
/** A valid stream: its frames, the finish reason and maybe usage and `[DONE]` last. */
const valid = fc
  .record({
    pieces: fc.array(piece, { minLength: 1, maxLength: 8 }),
    usage: fc.boolean(),
    done: fc.boolean(),
    newline: fc.constantFrom('\n', '\r\n'),
    asked: fc.boolean(),
  })
  .map(({ pieces, usage, done, newline, asked }) => {
    const frames = [chunk({ role: 'assistant' }), ...pieces, chunk({}, 'stop')]
    if (usage) frames.push(USAGE)
    if (done) frames.push(DONE)
    return { frames: frames.map((one) => one.replaceAll('\n', newline)), usage, asked }
  })
const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 20 })

function feed(stage: RunStage, bytes: Buffer, sizes: readonly number[]): void {
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1
    stage.call.data(bytes.subarray(at, at + size))
    at += size
  }
}

function begin(asked: boolean): RunStage {
  const stage = createRun({ body: { stream: true, stream_options: { include_usage: asked } } })
  stage.call.started()
  stage.call.head(200, STREAM)
  return stage
}

/** The frames that a caller is shown: all of them, but for the usage he did not ask for. */
function shown(frames: readonly string[], asked: boolean): string[] {
  return frames.filter((one) => asked || !one.includes('"prompt_tokens"'))
}

describe('a valid stream', () => {
  it('is relayed as the bytes that came, however they were cut', async () => {
    await fc.assert(
      fc.asyncProperty(valid, cuts, async ({ frames, usage, asked }, sizes) => {
        const stage = begin(asked)
        feed(stage, Buffer.from(frames.join('')), sizes)
        stage.call.end()
        const result = await stage.over()
        expect(result?.outcome).toBe('answered')
        expect(stage.reply.text).toBe(shown(frames, asked).join(''))
        expect(stage.reply.ended).toBe(true)
        const source = usage ? 'provider' : 'counted'
        expect(result).toMatchObject({ usage: { source } })
        expect(stage.time.pending).toBe(0)
      }),
      { numRuns: 300 },
    )
  })

  it('cut anywhere is a prefix of whole frames, and either complete or said to be broken', async () => {
    const how = fc.constantFrom('end', 'reset', 'silence', 'left', 'deadline')
    await fc.assert(
      fc.asyncProperty(valid, cuts, fc.nat(), how, async ({ frames, asked }, sizes, point, cut) => {
        const bytes = Buffer.from(frames.join(''))
        const at = point % (bytes.length + 1)
        const stage = begin(asked)
        feed(stage, bytes.subarray(0, at), sizes)
        if (cut === 'end') stage.call.end()
        else if (cut === 'reset') stage.call.failed()
        else if (cut === 'left') stage.leave()
        else stage.time.advance(cut === 'silence' ? 40_000 : 600_000)
        const result = await stage.over()
        expect(result).toBeDefined()

        const whole = shown(frames, asked)
        const received = stage.reply.text
        // One event may be closed with the blank line that the cut took from it.
        const closed = received.replace(/\n\n$/, '')
        const isPrefix = whole.some((_, count) => whole.slice(0, count + 1).join('') === received)
        const isClosed = whole.some(
          (_, count) =>
            whole
              .slice(0, count + 1)
              .join('')
              .trimEnd() === closed.trimEnd(),
        )
        expect(received === '' || isPrefix || isClosed).toBe(true)

        const sawFinish = received.includes('"finish_reason":"stop"')
        switch (result?.outcome) {
          case 'answered':
            expect(sawFinish).toBe(true)
            expect(stage.reply.ended).toBe(true)
            break
          case 'retry':
            expect(received).toBe('')
            expect(stage.reply.committed).toBe(false)
            break
          default:
            expect(stage.reply.ended).toBe(false)
            expect(received).not.toMatch(/^data: \[DONE\]/m)
        }
        if (result?.outcome === 'broken' || result?.outcome === 'answered') {
          const { usage } = result
          expect(usage?.inputTokens).toBeGreaterThan(0)
          expect(usage?.outputTokens).toBeGreaterThanOrEqual(0)
        }
        if (sawFinish) expect(result?.outcome).not.toBe('broken')
        stage.time.advance(1000)
        expect(stage.time.pending).toBe(0)
      }),
      { numRuns: 500 },
    )
  })

  it('split into two at every byte gives the same bytes', async () => {
    const frames = [
      chunk({ role: 'assistant' }),
      COMMENT,
      chunk({ content: 'é日👩‍🚀' }),
      chunk({}, 'stop'),
      USAGE,
      DONE,
    ]
    const bytes = Buffer.from(frames.join(''))
    for (let at = 0; at <= bytes.length; at += 1) {
      const stage = begin(true)
      stage.call.data(bytes.subarray(0, at), bytes.subarray(at))
      expect(await stage.over()).toMatchObject({ outcome: 'answered', usage: { source: 'provider' } })
      expect(stage.reply.text).toBe(shown(frames, true).join(''))
    }
  })
})
