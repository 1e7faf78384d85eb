// Whatever stands in the place of a member of a request, and for whatever provider: it is written, or it is refused as
// its caller's mistake with the field's name. Nothing else is ever thrown, and no number becomes null on its way.

import { describe, expect, it } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import { formats } from '../../../src/formats/index.ts'
import { ENDPOINTS } from '../../../src/http/operations.ts'
import { readRequest } from '../../../src/http/request.ts'
import { createWires, type Wires } from '../../../src/upstream/wire.ts'
import { makeDeployment } from '../upstream/stage.ts'

const DEPLOYMENTS = [
  ['openai', 'm'],
  ['responses', 'gpt-5.1'],
  ['anthropic', 'claude-sonnet-4-5'],
  ['gemini', 'gemini-2.0-flash'],
  ['bedrock', 'anthropic.claude-sonnet-4-5-20250929-v1:0'],
  ['bedrock', 'amazon.nova-2-lite-v1:0'],
].map(([format, model]) => makeDeployment(`p/${model}`, {}, { format }))

const PNG = 'data:image/png;base64,iVBORw0KGgo='
const SCHEMA = {
  type: 'object',
  properties: {
    x: { type: ['string', 'null'], format: 'email', minLength: 1 },
    y: { $ref: '#/$defs/d' },
    z: { anyOf: [{ type: 'integer', exclusiveMinimum: 1 }, { const: 4 }] },
  },
  required: ['x'],
  additionalProperties: false,
  $defs: { d: { type: 'array', items: { type: 'string', enum: ['a', 'b'] } } },
}

const CHAT = {
  model: 'm',
  max_completion_tokens: 9000,
  max_tokens: 5000,
  temperature: 0.5,
  top_p: 0.5,
  top_k: 4,
  n: 1,
  seed: 4,
  presence_penalty: 0.1,
  frequency_penalty: 0.1,
  response_format: { type: 'json_schema', json_schema: { name: 'n', schema: SCHEMA, strict: true } },
  reasoning_effort: 'high',
  reasoning: { effort: 'low', max_tokens: 2000, summary: 'auto', enabled: true },
  thinking: { type: 'enabled', budget_tokens: 2000 },
  verbosity: 'low',
  user: 'u',
  safety_identifier: 's',
  prompt_cache_key: 'k',
  service_tier: 'flex',
  metadata: { a: 'b' },
  stream: true,
  logprobs: true,
  top_logprobs: 2,
  modalities: ['text'],
  parallel_tool_calls: false,
  tool_choice: { type: 'function', function: { name: 'f' } },
  tools: [
    {
      type: 'function',
      function: { name: 'f', description: 'd', parameters: SCHEMA, strict: true },
      cache_control: { type: 'ephemeral', ttl: '1h' },
    },
    {
      type: 'custom',
      custom: {
        name: 'c',
        description: 'd',
        format: { type: 'grammar', grammar: { syntax: 'lark', definition: 'x' } },
      },
    },
  ],
  messages: [
    { role: 'developer', content: [{ type: 'text', text: 'd', cache_control: { type: 'ephemeral' } }] },
    {
      role: 'user',
      name: 'bob',
      content: [
        { type: 'text', text: 'x' },
        { type: 'image_url', image_url: { url: PNG, detail: 'low' } },
        { type: 'file', file: { filename: 'a.pdf', file_data: 'data:application/pdf;base64,JVBERi0=' } },
      ],
    },
    {
      role: 'assistant',
      content: 'hm',
      refusal: null,
      reasoning_content: 'think',
      reasoning_details: [
        { type: 'reasoning.text', text: 't', signature: 'c2ln', format: 'anthropic-claude-v1', index: 0 },
        { type: 'reasoning.encrypted', data: 'eA==', format: 'google-gemini-v1', index: 1 },
      ],
      tool_calls: [
        {
          id: 'c1',
          type: 'function',
          function: { name: 'f', arguments: '{"x":"1"}' },
          extra_content: { google: { thought_signature: 'c2ln' } },
        },
        { id: 'c2', type: 'custom', custom: { name: 'c', input: 'free' } },
      ],
    },
    { role: 'tool', tool_call_id: 'c1', content: [{ type: 'text', text: 'r' }] },
    { role: 'tool', tool_call_id: 'c2', content: 'r2' },
    { role: 'assistant', content: null, function_call: { name: 'old', arguments: '{}' } },
    { role: 'function', name: 'old', content: 'r3' },
  ],
}

const RESPONSES = {
  model: 'm',
  include: ['message.output_text.logprobs'],
  instructions: 'i',
  max_output_tokens: 900,
  temperature: 0.2,
  top_p: 0.3,
  top_logprobs: 3,
  text: { format: { type: 'json_schema', name: 'n', schema: SCHEMA, strict: true }, verbosity: 'low' },
  reasoning: { effort: 'high', summary: 'auto' },
  user: 'u',
  metadata: { a: 'b' },
  parallel_tool_calls: true,
  prompt: null,
  tool_choice: {
    type: 'allowed_tools',
    mode: 'required',
    tools: [
      { type: 'function', name: 'f' },
      { type: 'custom', name: 'c' },
    ],
  },
  tools: [
    { type: 'function', name: 'f', description: 'd', parameters: SCHEMA, strict: false },
    { type: 'custom', name: 'c', format: { type: 'grammar', syntax: 'lark', definition: 'x' } },
    { type: 'namespace', name: 'ns', tools: [{ type: 'function', name: 'g', parameters: SCHEMA }] },
    { type: 'web_search' },
  ],
  input: [
    {
      role: 'user',
      content: [
        { type: 'input_text', text: 'x' },
        { type: 'input_image', image_url: PNG, detail: 'auto' },
        { type: 'input_file', filename: 'a.pdf', file_data: 'JVBERi0=' },
      ],
    },
    {
      type: 'reasoning',
      id: 'rs_1',
      summary: [{ type: 'summary_text', text: 't' }],
      encrypted_content: 'abc',
    },
    { type: 'reasoning', id: 'rs_2', summary: [], encrypted_content: 'sluice.call.gemini.c2ln' },
    { type: 'function_call', call_id: 'c1', name: 'f', arguments: '{"x":1}', namespace: null },
    { type: 'custom_tool_call', call_id: 'c2', name: 'c', input: 'free' },
    { type: 'local_shell_call', id: 'l', call_id: 'c3', action: { type: 'exec', command: ['ls'] } },
    { type: 'function_call_output', call_id: 'c1', output: [{ type: 'input_text', text: 'r' }] },
    { type: 'custom_tool_call_output', call_id: 'c2', output: 'r2' },
    { type: 'local_shell_call_output', id: 'c3', output: 'r3' },
    { type: 'web_search_call', id: 'w', status: 'completed' },
    {
      type: 'message',
      role: 'assistant',
      content: [
        { type: 'output_text', text: 'said' },
        { type: 'refusal', refusal: 'no' },
      ],
    },
  ],
}

const MESSAGES = {
  model: 'm',
  max_tokens: 9000,
  system: [{ type: 'text', text: 's', cache_control: { type: 'ephemeral', ttl: '5m' } }],
  temperature: 1,
  top_p: 0.5,
  top_k: 5,
  thinking: { type: 'enabled', budget_tokens: 2000, display: 'summarized' },
  output_config: { effort: 'high', format: { type: 'json_schema', schema: SCHEMA } },
  metadata: { user_id: 'u1' },
  service_tier: 'standard_only',
  mcp_servers: [{ type: 'url', url: 'https://x', name: 'n' }],
  tools: [
    { name: 'f', description: 'd', input_schema: SCHEMA, strict: true },
    { type: 'web_search_20250305', name: 'web_search' },
  ],
  tool_choice: { type: 'tool', name: 'f', disable_parallel_tool_use: true },
  messages: [
    {
      role: 'user',
      content: [
        { type: 'text', text: 'x', cache_control: { type: 'ephemeral' } },
        { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'iVBORw0KGgo=' } },
        {
          type: 'document',
          title: 't',
          context: 'c',
          source: { type: 'content', content: [{ type: 'text', text: 'k' }] },
        },
        { type: 'search_result', title: 't', source: 's', content: [{ type: 'text', text: 'k' }] },
      ],
    },
    {
      role: 'assistant',
      content: [
        { type: 'thinking', thinking: 't', signature: 'c2ln' },
        { type: 'redacted_thinking', data: 'ZGF0YQ==' },
        { type: 'thinking', thinking: '', signature: 'sluice:call:gemini:c2ln' },
        { type: 'tool_use', id: 't1', name: 'f', input: { x: 1 } },
        { type: 'server_tool_use', id: 's', name: 'web_search', input: {} },
      ],
    },
    {
      role: 'user',
      content: [
        {
          type: 'tool_result',
          tool_use_id: 't1',
          content: [{ type: 'text', text: 'r' }],
          is_error: true,
        },
      ],
    },
    { role: 'system', content: 'mid' },
  ],
}

const COMPLETIONS = {
  model: 'm',
  prompt: 'p',
  echo: true,
  max_tokens: 5,
  temperature: 0.4,
  seed: 4,
  user: 'u',
}
const EMBEDDINGS = { model: 'm', input: ['a', 'b'], dimensions: 5, encoding_format: 'base64', user: 'u' }

/** As JSON; undefined takes the member out. */
const JUNK = [
  undefined,
  'null',
  '-1',
  '1.5',
  '1e999',
  '12345678901234567890',
  '""',
  '"constructor"',
  '"\\ud800\\u0000"',
  '"data:constructor;base64,AA=="',
  '[null]',
  '{}',
  '[{"toString":null,"valueOf":null}]',
  '{"__proto__":{"type":"text","text":"p"},"constructor":1}',
  '{"type":{"toString":1,"valueOf":1}}',
  '{"type":"constructor"}',
]

type Step = string | number

function* placesOf(value: unknown, at: readonly Step[] = []): Generator<readonly Step[]> {
  if (at.length > 0) yield at
  if (typeof value !== 'object' || value === null) return
  for (const [name, inner] of Object.entries(value))
    yield* placesOf(inner, [...at, Array.isArray(value) ? Number(name) : name])
}

const MARK = '@here'

/** The body with this in that place. */
function put(seed: unknown, at: readonly Step[], junk: string | undefined): string {
  const text = JSON.stringify(replaced(seed, at, junk === undefined ? undefined : MARK))
  return junk === undefined ? text : text.replace(`"${MARK}"`, () => junk)
}

function replaced(value: unknown, [step, ...rest]: readonly Step[], by: string | undefined): unknown {
  if (step === undefined || typeof value !== 'object' || value === null) return by
  const entries = Object.entries(value)
    .map(([name, inner]) => [name, name === String(step) ? replaced(inner, rest, by) : inner] as const)
    .filter(([, inner]) => inner !== undefined)
  return Array.isArray(value) ? entries.map(([, inner]) => inner) : Object.fromEntries(entries)
}

function wiresOf(path: string, text: string): Wires {
  const endpoint = ENDPOINTS.find((one) => one.path === path)
  if (endpoint === undefined) throw new Error('no endpoint')
  const request = readRequest(endpoint, Buffer.from(text), new Set())
  return createWires({ formats, request, nowSeconds: () => 5, nextId: (prefix) => `${prefix}1` })
}

const SEEDS = [
  ['/chat/completions', CHAT],
  ['/responses', RESPONSES],
  ['/messages', MESSAGES],
  ['/completions', COMPLETIONS],
  ['/embeddings', EMBEDDINGS],
] as const

function mayThrow(run: () => void): void {
  try {
    run()
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'invalid_request' || error.param === undefined)
      throw error
  }
}

describe.each(SEEDS)('a request to %s', (path, seed) => {
  it.each(Object.entries(seed))(
    'is written, or refused by the name of a field, whatever is in %s',
    (name, inner) => {
      for (const at of [[name], ...[...placesOf(inner)].map((place) => [name, ...place])])
        for (const junk of JUNK) {
          try {
            mayThrow(() => {
              const wires = wiresOf(path, put(seed, at, junk))
              for (const deployment of DEPLOYMENTS) mayThrow(() => wires.of(deployment, undefined))
            })
          } catch (error) {
            throw new Error(`${at.join('.')}: ${junk}`, { cause: error })
          }
        }
    },
  )
})

describe('a number that is too large to be one', () => {
  const numbers: readonly (readonly [string, Readonly<Record<string, unknown>>, readonly string[]])[] = [
    [
      '/chat/completions',
      { messages: [{ role: 'user', content: 'x' }] },
      ['temperature', 'top_p', 'top_k', 'seed', 'presence_penalty', 'frequency_penalty', 'max_tokens', 'n'],
    ],
    ['/responses', { input: 'x' }, ['temperature', 'top_p', 'max_output_tokens']],
    [
      '/messages',
      { max_tokens: 9, messages: [{ role: 'user', content: 'x' }] },
      ['temperature', 'top_p', 'top_k', 'max_tokens'],
    ],
    ['/completions', { prompt: 'x' }, ['temperature', 'top_p', 'presence_penalty', 'max_tokens', 'seed']],
    ['/embeddings', { input: 'x' }, ['dimensions']],
  ]
  const cases = numbers.flatMap(([path, base, names]) => names.map((name) => [name, path, base] as const))

  it.each(cases)('is refused as %s of %s', (name, path, base) => {
    const text = JSON.stringify({ model: 'm', ...base, [name]: MARK }).replace(`"${MARK}"`, '1e999')
    // No caller speaks this one's format.
    const gemini = makeDeployment('p/gemini-2.0-flash', {}, { format: 'gemini' })
    expect(() => wiresOf(path, text).of(gemini, undefined)).toThrow(
      expect.objectContaining({ code: 'invalid_request', param: name }),
    )
  })
})
