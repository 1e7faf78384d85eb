// Claude at Vertex AI: Anthropic's Messages at another path, with another credential, the model in the path and the version
// of the interface in the body. What counts tokens is a model of its own there. Pure.
// Source: Vertex AI's pages on Claude, and what Anthropic's own SDK for Vertex sends.

import { parseObject } from '../bytes/json-value.ts'
import type { Edit } from '../bytes/splice.ts'
import type { ModelRequest } from '../types.ts'
import { anthropic } from './anthropic.ts'
import { anthropicCount } from './anthropic-count.ts'
import { createEdits } from './edits.ts'
import type { Asked, Fault, Format, HeaderLookup, ProviderSide } from './format.ts'
import { faultOfGemini, inBandOfGemini } from './gemini-faults.ts'
import { toVertexPath } from './vertex-path.ts'
import { secretPartsOfVertex, type VertexSigner } from './vertex-sign.ts'

/** What stands there for the first version of the interface; newer ones have the name that they have at Anthropic. */
const VERSION = 'vertex-2023-10-16'
const FIRST = '2023-06-01'
const PUBLISHER = 'anthropic'
const COUNTER = 'count-tokens'

export function isClaude(model: string): boolean {
  return /^claude/i.test(model)
}

/** No operator names it: it is what a provider of Vertex AI is spoken to in for these models. */
export function createClaudeOnVertex({ sign }: VertexSigner): Format {
  const { chat } = anthropic.provider
  if (chat === undefined) throw new Error('no chat')
  const service: Pick<ProviderSide, 'credential' | 'sign' | 'secretParts' | 'headers' | 'fault' | 'inBand'> =
    {
      credential: (key) => ['authorization', `Bearer ${key}`],
      sign,
      secretParts: secretPartsOfVertex,
      // The version is told in the body.
      headers: undefined,
      fault,
      inBand: (text) => (isGoogles(text) ? inBandOfGemini(text) : anthropic.provider.inBand(text)),
    }
  return {
    name: 'vertex-anthropic',
    bytesOf: anthropic.name,
    provider: {
      ...anthropic.provider,
      ...service,
      path: (_operation, asked) =>
        `${toVertexPath(PUBLISHER, asked.model, asked.options)}:${asked.stream ? 'streamRawPredict' : 'rawPredict'}`,
      edits: toEdits,
      chat: {
        ...chat,
        write(request, asked) {
          const written = chat.write(request, asked)
          const { model: _, ...body } = written.body
          return { ...written, body: { anthropic_version: VERSION, ...body } }
        },
      },
    },
    also: [
      {
        name: 'vertex-anthropic-count',
        bytesOf: anthropicCount.name,
        provider: {
          ...anthropicCount.provider,
          ...service,
          path: (_operation, { options }) => `${toVertexPath(PUBLISHER, COUNTER, options)}:rawPredict`,
          edits: toCountEdits,
        },
      },
    ],
  }
}

function toEdits(request: ModelRequest, asked: Asked): Edit[] {
  // The name of the model is nothing that is rewritten where it stands.
  const inner = anthropic.provider.edits(request, { ...asked, model: request.model })
  const edits = createEdits(request)
  const version = versionFor(request)
  if (request.spans.has('anthropic_version')) {
    edits.set('anthropic_version', version)
    edits.remove('model')
  } else edits.rename('model', 'anthropic_version', version)
  // Behind those that add a member in front: the model may be the first.
  return [...inner, ...edits.list]
}

function toCountEdits(request: ModelRequest, asked: Asked): Edit[] {
  const edits = createEdits(request)
  edits.set('anthropic_version', versionFor(request))
  return [...edits.list, ...anthropicCount.provider.edits(request, asked)]
}

/** That which the caller speaks, as JSON: newer ones refuse what older ones take. */
function versionFor({ forwarded }: ModelRequest): string {
  const at = forwarded.indexOf('anthropic-version')
  const told = at < 0 ? undefined : forwarded[at + 1]
  return JSON.stringify(told !== undefined && DATE.test(told) && told > FIRST ? told : VERSION)
}

const DATE = /^\d{4}-\d{2}-\d{2}$/

/** Google says what stands in front of the model, Anthropic what the model's own server says. */
function fault(status: number, header: HeaderLookup, body: string, nowMs: number): Fault {
  const read = isGoogles(body) ? faultOfGemini : anthropic.provider.fault
  return read(status, header, body, nowMs)
}

/** Anthropic's errors say in front what they are. */
function isGoogles(body: string): boolean {
  return parseObject(body)?.type !== 'error'
}
