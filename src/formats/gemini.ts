// Gemini's wire format on the provider's side: generateContent and streamGenerateContent, at the Gemini API and at Vertex
// AI, which differ in path and credential. No caller speaks it, so that its bytes are never passed.
// Source: the Gemini API reference, the Vertex AI reference for publisher models.

import type { Asked, Format, ProviderSide } from './format.ts'
import { embeddingsOfGemini, type GoogleEmbeddings } from './gemini-embeddings.ts'
import { faultOfGemini, inBandOfGemini } from './gemini-faults.ts'
import { toModelName } from './gemini-models.ts'
import { eventsOfGemini, readGemini, watchGemini, wholeGemini } from './gemini-read.ts'
import { type Service, writeGemini } from './gemini-write.ts'
import { createClaudeOnVertex, isClaude } from './vertex-anthropic.ts'
import { embeddingsOfVertex } from './vertex-embeddings.ts'
import { toVertexPath } from './vertex-path.ts'
import { createVertexSigner, secretPartsOfVertex } from './vertex-sign.ts'

export const gemini: Format & { readonly provider: ProviderSide } = {
  name: 'gemini',
  provider: createProvider({
    service: { origin: 'gemini', callIds: true },
    embeddings: embeddingsOfGemini,
    path: ({ model }) => `/${toModelName(model)}`,
    credential: (key) => ['x-goog-api-key', key],
  }),
}

const signer = createVertexSigner()
const claude = createClaudeOnVertex(signer)

/**
 * The base URL ends before `/projects`; `options` name the project and the region. The key is a service account (its JSON
 * file in one line), an access token, or an API key of the express mode, which belongs to a project already.
 */
export const vertex: Format & { readonly provider: ProviderSide } = {
  name: 'vertex',
  forModel: (model) => (isClaude(model) ? claude : undefined),
  provider: {
    ...createProvider({
      service: { origin: 'vertex', callIds: false },
      embeddings: embeddingsOfVertex,
      path: ({ model, options }) => toVertexPath('google', model, options),
      // Of an access token; what signs stands in its place.
      credential: (key) => ['authorization', `Bearer ${key}`],
    }),
    sign: signer.sign,
    secretParts: secretPartsOfVertex,
  },
}

interface Parts {
  readonly service: Service
  readonly embeddings: GoogleEmbeddings
  readonly path: (asked: Asked) => string
  readonly credential: ProviderSide['credential']
}

function createProvider({ service, embeddings, path, credential }: Parts): ProviderSide {
  const { origin } = service
  return {
    path: (operation, asked) =>
      `${path(asked)}:${operation === 'embeddings' ? embeddings.method(asked.model) : methodOf(asked.stream)}`,
    credential,
    edits: () => [],
    chat: {
      write: (request, asked) => writeGemini(request, asked, service),
      read: (body, written) => readGemini(body, written, origin),
      events: (written) => eventsOfGemini(written, origin),
    },
    embeddings,
    watch: watchGemini,
    whole: (operation, body) => wholeGemini(operation, body, embeddings.whole),
    // Nothing is said of what is left; only an answer that comes too late tells when to ask again.
    quota: () => undefined,
    fault: faultOfGemini,
    inBand: inBandOfGemini,
  }
}

function methodOf(stream: boolean): string {
  return stream ? 'streamGenerateContent?alt=sse' : 'generateContent'
}
