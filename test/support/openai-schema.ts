// Judges what is answered, or sent, by OpenAI's own description of its API: an extract of its published OpenAPI document
// (openai-schemas.json: names, types, what is required), so that no test holds our output against our own idea of it.
// `oneOf` stands there as `anyOf`, since the document's alternatives overlap where a discriminator tells them apart.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'

/** What can be judged, by the names of the document. */
export type OpenaiSchema =
  | 'CreateChatCompletionRequest'
  | 'CreateChatCompletionResponse'
  | 'CreateChatCompletionStreamResponse'
  | 'CreateCompletionRequest'
  | 'CreateCompletionResponse'
  | 'CreateEmbeddingResponse'
  | 'CreateResponse'
  | 'ErrorResponse'
  | 'ListModelsResponse'
  | 'Model'
  | 'Response'
  | 'ResponseStreamEvent'

const DOCUMENT = 'openai'

/** Made once: a schema of 400 definitions takes a while. */
let compiled: { ajv: Ajv2020; byName: Map<string, ValidateFunction> } | undefined

function validator(name: string): ValidateFunction {
  if (compiled === undefined) {
    const ajv = new Ajv2020({ strict: false, allErrors: false, validateFormats: false })
    const schemas: unknown = JSON.parse(
      readFileSync(join(import.meta.dirname, 'openai-schemas.json'), 'utf8'),
    )
    if (typeof schemas !== 'object' || schemas === null) throw new Error('openai-schemas.json is no object')
    ajv.addSchema({ $id: DOCUMENT, ...schemas })
    compiled = { ajv, byName: new Map() }
  }
  const known = compiled.byName.get(name)
  if (known !== undefined) return known
  const made = compiled.ajv.compile({ $ref: `${DOCUMENT}#/$defs/${name}` })
  compiled.byName.set(name, made)
  return made
}

/**
 * What is wrong with a value, as `path: why`; empty where OpenAI's description allows it. A member that a description
 * does not know is allowed by it.
 */
export function schemaFaults(name: OpenaiSchema, value: unknown): string[] {
  const validate = validator(name)
  // As a reader gets it: without members that are undefined.
  if (validate(JSON.parse(JSON.stringify(value)))) return []
  return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath}: ${message}`)
}
