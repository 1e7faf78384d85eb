import { expect, it } from 'vitest'
import { createCannedReply } from '../../../../src/upstream/in-process/canned-reply.ts'
import { type Asked, call } from './calls.ts'
import { createManualTime, WALL_MS } from './manual-time.ts'
import { gather, readError, readStream, readWhole } from './wire.ts'

const text = 'No model is reachable. A person must confirm this step.'
const zeros = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 }

async function answer(asked: Partial<Asked> = {}) {
  const { clock, settle } = createManualTime()
  const made = call(createCannedReply({ clock }), { body: { messages: [] }, text, ...asked })
  await settle()
  return made
}

it('answers its text at once, whatever was asked, and counts nothing', async () => {
  const made = await answer({ body: 'not even JSON', pieceBytes: 3 })
  expect(made.events).toEqual(['started', 'head', 'data', 'end'])
  const reply = readWhole(made.text())
  expect(reply).toMatchObject({ model: 'reply', created: Math.floor(WALL_MS / 1000), usage: zeros })
  expect(reply.choices).toMatchObject([{ finish_reason: 'stop', message: { content: text } }])
})

it('streams it to who asked for a stream, with the zeros of its usage', async () => {
  const made = await answer({ request: { stream: true } })
  expect(made.events.slice(0, 2)).toEqual(['started', 'head'])
  const chunks = readStream(made.text())
  expect(gather(chunks)).toEqual([{ text, finish: 'stop' }])
  expect(chunks.at(-1)).toMatchObject({ model: 'reply', choices: [], usage: zeros })
})

it('gives every choice the same text', async () => {
  expect(readWhole((await answer({ request: { choices: 3 } })).text()).choices).toHaveLength(3)
  expect(readWhole((await answer({ request: { choices: 1e9 } })).text()).choices).toHaveLength(8)
})

it('does not know other operations', async () => {
  const made = await answer({ operation: 'embeddings' })
  expect(made.status).toBe(404)
  expect(readError(made.text()).code).toBe('model_not_found')
})

it('can be held and ended', async () => {
  const { clock, settle } = createManualTime()
  const kind = createCannedReply({ clock })
  const [held, ended] = [call(kind, { body: {}, text }), call(kind, { body: {}, text })]
  held.control.pause()
  ended.control.abort()
  await settle()
  expect([held.events, ended.events]).toEqual([[], []])
  held.control.resume()
  await settle()
  expect(held.events.at(-1)).toBe('end')
  expect(ended.events).toEqual([])
})
