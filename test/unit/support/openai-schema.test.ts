// The judge of OpenAI's shapes can say no, and says yes to what its vendor documents.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { schemaFaults } from '../../support/openai-schema.ts'

const GOLDEN = join(import.meta.dirname, '../../golden/openai')
const read = (name: string): Record<string, unknown> => JSON.parse(readFileSync(join(GOLDEN, name), 'utf8'))

describe("OpenAI's description of its API", () => {
  it('allows a recorded answer, and not one without its id or with another reason', () => {
    // Null is what is sent there, and not what is described.
    const reply = { ...read('plain.reply.json'), system_fingerprint: undefined }
    expect(schemaFaults('CreateChatCompletionResponse', reply)).toEqual([])
    expect(schemaFaults('CreateChatCompletionResponse', { ...reply, id: undefined })).toHaveLength(1)
    const choices = [{ index: 0, finish_reason: 'done', logprobs: null, message: {} }]
    expect(schemaFaults('CreateChatCompletionResponse', { ...reply, choices })).not.toEqual([])
  })

  it('knows the events of a response, and no others', () => {
    const delta = {
      type: 'response.output_text.delta',
      item_id: 'msg_1',
      output_index: 0,
      content_index: 0,
      delta: 'Hi',
      logprobs: [],
      sequence_number: 4,
    }
    expect(schemaFaults('ResponseStreamEvent', delta)).toEqual([])
    expect(schemaFaults('ResponseStreamEvent', { ...delta, item_id: undefined })).not.toEqual([])
    expect(schemaFaults('ResponseStreamEvent', { ...delta, type: 'response.text' })).not.toEqual([])
  })

  it('knows errors, models and embeddings', () => {
    const error = { message: 'No.', type: 'invalid_request_error', param: null, code: null }
    expect(schemaFaults('ErrorResponse', { error })).toEqual([])
    expect(schemaFaults('ErrorResponse', error)).not.toEqual([])
    const model = { id: 'm', object: 'model', created: 1, owned_by: 'us' }
    expect(schemaFaults('ListModelsResponse', { object: 'list', data: [model] })).toEqual([])
    expect(schemaFaults('Model', { ...model, created: 'today' })).not.toEqual([])
    const embeddings = read('embeddings.reply.json')
    expect(schemaFaults('CreateEmbeddingResponse', embeddings)).toEqual([])
    expect(schemaFaults('CreateEmbeddingResponse', { ...embeddings, usage: undefined })).not.toEqual([])
  })
})
