// How many tokens a Messages request has (`POST /messages/count_tokens`): the caller's bytes for a provider that counts
// them itself, else an estimate. Nothing is written for it, so it takes no tokens of anybody. Pure.

import { parseObject } from '../bytes/json-value.ts'
import { IMAGE_TOKENS } from '../config/limits.ts'
import { GatewayError } from '../errors.ts'
import type { ModelRequest, Usage } from '../types.ts'
import { anthropic } from './anthropic.ts'
import { count, NOTHING, noAnswer } from './facts.ts'
import type { ChatClientSide, Format, ProviderSide, WholeFacts } from './format.ts'

export const anthropicCount: Format & { readonly client: ChatClientSide; readonly provider: ProviderSide } = {
  name: 'anthropic-count',
  client: {
    ...anthropic.client,
    estimate(request) {
      requireMessages(request)
      return { input_tokens: estimate(request) }
    },
  },
  provider: {
    ...anthropic.provider,
    path: () => '/messages/count_tokens',
    // There is no output that could be capped.
    edits: (request, asked) => anthropic.provider.edits(request, { ...asked, maxOutputTokens: undefined }),
    chat: undefined,
    resume: undefined,
    watch: () => ({
      look: () => NOTHING,
      finished: false,
      finishedChoices: 0,
      usage: undefined,
      countedTokens: 0,
    }),
    whole: readCount,
  },
}

/** Who counts itself says so too. @throws GatewayError `invalid_request` */
function requireMessages({ body, spans }: ModelRequest): void {
  const span = spans.get('messages')
  const text = span && body?.toString('latin1', span.start, span.end)
  if (text !== undefined && /^\[\s*[^\s\]]/.test(text)) return
  throw new GatewayError('invalid_request', 'messages: must be a list with at least one message.', {
    param: 'messages',
  })
}

/** About four bytes to a token, tools and all; what the form of it takes is in these bytes as well. */
function estimate({ textBytes, images }: ModelRequest): number {
  return Math.max(1, Math.ceil(textBytes / 4) + images * IMAGE_TOKENS)
}

/** To count is free. */
const NO_USAGE: Usage = {
  inputTokens: 0,
  cachedTokens: 0,
  cacheWriteTokens: 0,
  audioInputTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
  audioOutputTokens: 0,
  source: 'provider',
}

function readCount(_: unknown, body: Buffer): WholeFacts {
  const told = count(parseObject(body.toString('utf8'))?.input_tokens)
  if (told === undefined) return noAnswer(body.length === 0 ? 'empty' : 'malformed')
  return { usage: NO_USAGE, countedTokens: 0, failure: undefined, error: undefined }
}
