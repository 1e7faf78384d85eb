// Azure OpenAI's chat completions, as a provider speaks them: OpenAI's, at its own paths, with what its filters say in
// front of the stream and behind each text, and errors of its gateway.

import { CREATED, type Dialect, toFrame } from './dialect.ts'
import { openai } from './openai.ts'

const UNFILTERED = {
  hate: { filtered: false, severity: 'safe' },
  violence: { filtered: false, severity: 'safe' },
}

export const azure: Dialect = {
  ...openai,
  name: 'azure',
  speaks: (path) => /\/openai\/(?:v1|deployments\/[^/]+)\/chat\/completions/.test(path),
  frames: (chat, options) => [
    toFrame(
      {
        id: '',
        object: '',
        created: 0,
        model: '',
        choices: [],
        prompt_filter_results: [{ prompt_index: 0, content_filter_results: UNFILTERED }],
      },
      options.newline,
    ),
    ...openai.frames(chat, {
      ...options,
      extra: { created: CREATED, system_fingerprint: 'fp_scripted', ...options.extra },
    }),
  ],
  errorBody: (status) =>
    ({
      401: {
        error: {
          code: '401',
          message:
            'Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription.',
        },
      },
      404: {
        error: {
          code: 'DeploymentNotFound',
          message: 'The API deployment for this resource does not exist.',
        },
      },
      429: {
        error: {
          code: '429',
          message:
            'Requests to the ChatCompletions Operation have exceeded the call rate limit of your current tier. Please retry after 1 second.',
        },
      },
    })[status] ?? openai.errorBody(status),
}
