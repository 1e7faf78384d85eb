// The table of model endpoints: what is served, as which operation, in which wire format. A new endpoint is a row.

import { MESSAGES, MESSAGES_COUNT } from '../formats/index.ts'
import { media } from '../formats/media.ts'
import type { Endpoint, Operation } from '../types.ts'

export const ENDPOINTS: readonly Endpoint[] = [
  { method: 'POST', path: '/chat/completions', operation: 'chat', format: 'openai', streams: true },
  { method: 'POST', path: '/responses', operation: 'chat', format: 'responses', streams: true },
  { method: 'POST', path: '/messages', operation: 'chat', format: MESSAGES, streams: true },
  {
    method: 'POST',
    path: '/messages/count_tokens',
    operation: 'chat',
    format: MESSAGES_COUNT,
    streams: false,
    countsOnly: true,
  },
  { method: 'POST', path: '/completions', operation: 'chat', format: 'completions', streams: true },
  { method: 'POST', path: '/embeddings', operation: 'embeddings', format: 'openai', streams: false },
  relayed('images', '/images/generations', media.images.name),
  relayed('images', '/images/edits', media.imageEdits.name),
  relayed('images', '/images/variations', media.imageVariations.name),
  relayed('audio', '/audio/speech', media.speech.name),
  relayed('audio', '/audio/transcriptions', media.transcriptions.name),
  relayed('audio', '/audio/translations', media.translations.name),
  relayed('moderations', '/moderations', media.moderations.name),
]

/** An endpoint of its own operation and scope, passed as it is to providers that have it. */
function relayed(operation: Operation, path: string, format: string): Endpoint {
  return { method: 'POST', path, operation, format, streams: true }
}

const BY_PATH: ReadonlyMap<string, Endpoint> = new Map(ENDPOINTS.map((endpoint) => [endpoint.path, endpoint]))

/**
 * The path that routes are looked up by: no query, no trailing slash, no `/v1` in front (clients write none, one,
 * or, with a base URL that has one already, two). Nothing is decoded: `/v1%2fchat` is another path, and unknown.
 */
export function toRoutePath(target: string): string {
  const query = target.indexOf('?')
  let path = query < 0 ? target : target.slice(0, query)
  while (path.length > 1 && path.endsWith('/')) path = path.slice(0, -1)
  for (let i = 0; i < 2 && (path === '/v1' || path.startsWith('/v1/')); i += 1) path = path.slice(3)
  return path === '' ? '/' : path
}

/** The model endpoint at a route path, or undefined. */
export function findEndpoint(routePath: string): Endpoint | undefined {
  return BY_PATH.get(routePath)
}
