// What a caller can put into one body takes time in proportion to its size, in every format that it is written in: a
// translation runs on the one thread that all agents share.

import { describe, expect, it } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import { formats } from '../../../src/formats/index.ts'
import { ENDPOINTS } from '../../../src/http/operations.ts'
import { readRequest } from '../../../src/http/request.ts'
import type { ModelRequest } from '../../../src/types.ts'
import { createWires } from '../../../src/upstream/wire.ts'
import { makeDeployment } from '../upstream/stage.ts'

/** Many times what it takes on a slow machine, and a small part of what anything quadratic takes. */
const MOST_MS = 3_000

const MODELS = [
  ['openai', 'm'],
  ['responses', 'gpt-5.1'],
  ['anthropic', 'claude-sonnet-4-5'],
  ['anthropic', 'claude-opus-4-8'],
  ['gemini', 'gemini-2.0-flash'],
  ['gemini', 'gemini-3-pro'],
  ['bedrock', 'anthropic.claude-sonnet-4-5-20250929-v1:0'],
  ['bedrock', 'mistral.mistral-large'],
] as const

function many(times: number, one: (i: number) => string): string {
  return Array.from({ length: times }, (_, i) => one(i)).join(',')
}

const thought = (signature: string) => `{"type":"thinking","thinking":"","signature":"${signature}"}`
const messages = (content: string) =>
  `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[${content}]}]}`

const BODIES: readonly (readonly [what: string, path: string, body: () => string])[] = [
  [
    'elements in front of a thought of ours',
    '/messages',
    () => messages(`${many(400_000, () => '"aaaa"')},${thought('sluice::gemini:a')}`),
  ],
  [
    'messages in front of a thought of ours',
    '/messages',
    () =>
      `{"model":"m","max_tokens":9,"messages":[${many(90_000, () => `{"role":"user","content":"${'a'.repeat(150)}"}`)},{"role":"assistant","content":[${thought('sluice::gemini:a')}]}]}`,
  ],
  [
    'thoughts of ours, each behind one of another',
    '/messages',
    () => messages(many(60_000, (i) => thought(i % 2 === 0 ? 'sluice::gemini:a' : 'EqQB'))),
  ],
  [
    'sealed thoughts of another provider',
    '/responses',
    () =>
      `{"model":"m","input":[${many(60_000, () => '{"type":"reasoning","encrypted_content":"sluice.thought.gemini.a"}')}]}`,
  ],
]

describe.each(BODIES)('many %s', (_, path, body) => {
  const endpoint = ENDPOINTS.find((one) => one.path === path)
  if (endpoint === undefined) throw new Error('no endpoint')

  it.each(MODELS)('are no burden for %s (%s)', (format, model) => {
    const request = readRequest(endpoint, Buffer.from(body()), new Set())
    const from = performance.now()
    ask(request, format, model)
    expect(performance.now() - from).toBeLessThan(MOST_MS)
  })
})

/** Writes what the deployment would be sent, or refuses it as the caller's mistake. */
function ask(request: ModelRequest, format: string, model: string): void {
  const wires = createWires({ formats, request, nowSeconds: () => 5, nextId: (prefix) => `${prefix}1` })
  const deployment = makeDeployment(`p/${model}`, {}, { format })
  try {
    const { side, body } = wires.of(deployment, undefined)
    if (body === undefined) side.edits(request, { model, maxOutputTokens: undefined, options: {} })
  } catch (error) {
    expect(error).toBeInstanceOf(GatewayError)
    expect(error).not.toHaveProperty('message', expect.stringContaining('nest too deep'))
  }
}
