// What of a request each format of providers can carry, found out by asking: every member is put into a request and written
// for each of them. The table in deploy/reference/formats.md is made of it.

import { GatewayError } from '../../src/errors.ts'
import { formats } from '../../src/formats/index.ts'
import { ENDPOINTS } from '../../src/http/operations.ts'

type Members = Readonly<Record<string, unknown>>
type Carried = 'yes' | 'told' | 'no effect' | '400'

/** Columns: a format, and what is known of the server behind it. */
const COLUMNS = [
  { title: '`openai`, any server', format: 'openai', model: 'm', options: {} },
  {
    title: '`openai` at its own address, `azure`',
    format: 'openai',
    model: 'gpt-5.1',
    options: { quirks: 'all-fields max-completion-tokens no-reasoning-content' },
  },
  { title: '`responses`', format: 'responses', model: 'gpt-5.1', options: {} },
  { title: '`anthropic`, Claude on `vertex`', format: 'anthropic', model: 'claude-sonnet-4-5', options: {} },
  { title: '`gemini`, `vertex`', format: 'gemini', model: 'gemini-2.5-pro', options: {} },
  {
    title: '`bedrock`',
    format: 'bedrock',
    model: 'anthropic.claude-sonnet-4-5-20250929-v1:0',
    options: { region: 'eu-west-1' },
  },
] as const

const SCHEMA = {
  type: 'object',
  properties: { x: { type: 'string' } },
  required: ['x'],
  additionalProperties: false,
}
const PNG = 'iVBORw0KGgo='

/** Who makes vectors in words of its own. */
const VECTOR_COLUMNS = [
  { title: '`gemini`', format: 'gemini', model: 'gemini-embedding-2' },
  { title: '`vertex`, `text-embedding-*`', format: 'vertex', model: 'text-embedding-005' },
  { title: '`vertex`, Gemini 2 and newer', format: 'vertex', model: 'gemini-embedding-2' },
  { title: '`bedrock`, Titan 2, Nova', format: 'bedrock', model: 'amazon.titan-embed-text-v2:0' },
  { title: '`bedrock`, Titan 1', format: 'bedrock', model: 'amazon.titan-embed-text-v1' },
  { title: '`bedrock`, Cohere 4', format: 'bedrock', model: 'cohere.embed-v4:0' },
  { title: '`bedrock`, Cohere 3', format: 'bedrock', model: 'cohere.embed-english-v3' },
] as const

interface Probe {
  /** As the table names it. */
  readonly name: string
  readonly members: Members
}

const chatTool = { type: 'function', function: { name: 'f', parameters: SCHEMA } }
const user = (...content: unknown[]): Members => ({
  messages: [{ role: 'user', content: [{ type: 'text', text: 'x' }, ...content] }],
})

const CHAT: readonly Probe[] = [
  {
    name: 'system and developer messages',
    members: {
      messages: [
        { role: 'developer', content: 'y' },
        { role: 'user', content: 'x' },
      ],
    },
  },
  {
    name: 'image, inline',
    members: user({ type: 'image_url', image_url: { url: `data:image/png;base64,${PNG}` } }),
  },
  {
    name: 'image, by its address',
    members: user({ type: 'image_url', image_url: { url: 'https://example.com/a.png' } }),
  },
  {
    name: 'file, inline',
    members: user({
      type: 'file',
      file: { filename: 'a.pdf', file_data: 'data:application/pdf;base64,JVBERi0=' },
    }),
  },
  { name: 'sound', members: user({ type: 'input_audio', input_audio: { data: 'UklGRg==', format: 'wav' } }) },
  {
    name: '`cache_control` of a part',
    members: {
      messages: [
        { role: 'user', content: [{ type: 'text', text: 'x', cache_control: { type: 'ephemeral' } }] },
      ],
    },
  },
  { name: '`tools`', members: { tools: [chatTool] } },
  { name: '`tools`: `custom`', members: { tools: [{ type: 'custom', custom: { name: 'f' } }] } },
  { name: '`tool_choice`: `required`', members: { tools: [chatTool], tool_choice: 'required' } },
  {
    name: '`tool_choice`: one tool',
    members: { tools: [chatTool], tool_choice: { type: 'function', function: { name: 'f' } } },
  },
  { name: '`parallel_tool_calls`: `false`', members: { tools: [chatTool], parallel_tool_calls: false } },
  { name: '`response_format`: `json_object`', members: { response_format: { type: 'json_object' } } },
  {
    name: '`response_format`: `json_schema`',
    members: {
      response_format: { type: 'json_schema', json_schema: { name: 'n', schema: SCHEMA, strict: true } },
    },
  },
  { name: '`max_completion_tokens`', members: { max_completion_tokens: 77 } },
  { name: '`temperature`', members: { temperature: 0.5 } },
  { name: '`top_p`', members: { top_p: 0.5 } },
  { name: '`stop`', members: { stop: ['END'] } },
  { name: '`n` above 1', members: { n: 2 } },
  { name: '`seed`', members: { seed: 5 } },
  { name: '`presence_penalty`, `frequency_penalty`', members: { presence_penalty: 1 } },
  { name: '`reasoning_effort`', members: { reasoning_effort: 'high' } },
  { name: '`verbosity`', members: { verbosity: 'low' } },
  { name: '`user`', members: { user: 'u' } },
  { name: '`prompt_cache_key`', members: { prompt_cache_key: 'k' } },
  { name: '`service_tier`', members: { service_tier: 'flex' } },
  { name: '`metadata`', members: { metadata: { a: 'b' } } },
  { name: '`logprobs`', members: { logprobs: true, top_logprobs: 2 } },
  { name: '`logit_bias`', members: { logit_bias: { 5: 1 } } },
  { name: '`prediction`', members: { prediction: { type: 'content', content: 'x' } } },
  {
    name: '`modalities` with pictures',
    members: { modalities: ['text', 'image'] },
  },
  {
    name: "the assistant's own `images`",
    members: {
      messages: [
        { role: 'user', content: [{ type: 'text', text: 'x' }] },
        {
          role: 'assistant',
          content: null,
          images: [{ type: 'image_url', image_url: { url: `data:image/png;base64,${PNG}` } }],
        },
      ],
    },
  },
  {
    name: '`modalities` with sound',
    members: { modalities: ['text', 'audio'], audio: { voice: 'a', format: 'wav' } },
  },
]

const item = (...content: unknown[]): Members => ({
  input: [{ type: 'message', role: 'user', content: [{ type: 'input_text', text: 'x' }, ...content] }],
})
const RESPONSES: readonly Probe[] = [
  { name: '`instructions`', members: { instructions: 'y' } },
  {
    name: '`input_image`, inline',
    members: item({ type: 'input_image', image_url: `data:image/png;base64,${PNG}` }),
  },
  {
    name: '`input_file`, inline',
    members: item({
      type: 'input_file',
      filename: 'a.pdf',
      file_data: 'data:application/pdf;base64,JVBERi0=',
    }),
  },
  {
    name: '`tools`: `function`',
    members: { tools: [{ type: 'function', name: 'f', parameters: SCHEMA, strict: false }] },
  },
  { name: '`tools`: `custom`', members: { tools: [{ type: 'custom', name: 'f' }] } },
  {
    name: '`tools`: `namespace`',
    members: {
      tools: [{ type: 'namespace', name: 'n', tools: [{ type: 'function', name: 'f', parameters: SCHEMA }] }],
    },
  },
  { name: '`tools`: `web_search`', members: { tools: [{ type: 'web_search' }] } },
  { name: '`max_output_tokens`', members: { max_output_tokens: 77 } },
  {
    name: '`text.format`: `json_schema`',
    members: { text: { format: { type: 'json_schema', name: 'n', schema: SCHEMA, strict: true } } },
  },
  { name: '`text.verbosity`', members: { text: { verbosity: 'low' } } },
  { name: '`reasoning.effort`', members: { reasoning: { effort: 'high' } } },
  {
    name: '`store`: `false`, `include`, `truncation`',
    members: { store: false, include: ['reasoning.encrypted_content'] },
  },
  {
    name: '`image_generation_call`, drawn',
    members: {
      input: [
        { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'x' }] },
        { type: 'image_generation_call', id: 'ig_1', status: 'completed', result: PNG },
      ],
    },
  },
  { name: '`max_tool_calls`', members: { max_tool_calls: 3 } },
  { name: '`background`: `true`', members: { background: true } },
  { name: '`previous_response_id`, `conversation`', members: { previous_response_id: 'resp_1' } },
]

const MESSAGES: readonly Probe[] = [
  { name: '`system`', members: { system: 'y' } },
  {
    name: '`image`, inline',
    members: {
      messages: [
        {
          role: 'user',
          content: [{ type: 'image', source: { type: 'base64', media_type: 'image/png', data: PNG } }],
        },
      ],
    },
  },
  {
    name: '`document`, inline',
    members: {
      messages: [
        {
          role: 'user',
          content: [
            { type: 'document', source: { type: 'base64', media_type: 'application/pdf', data: 'JVBERi0=' } },
          ],
        },
      ],
    },
  },
  {
    name: '`cache_control`',
    members: {
      messages: [
        { role: 'user', content: [{ type: 'text', text: 'x', cache_control: { type: 'ephemeral' } }] },
      ],
    },
  },
  { name: '`tools`', members: { tools: [{ name: 'f', input_schema: SCHEMA }] } },
  {
    name: "`tools`: the vendor's own",
    members: { tools: [{ type: 'web_search_20250305', name: 'web_search' }] },
  },
  {
    name: '`tool_choice`: `any`',
    members: { tools: [{ name: 'f', input_schema: SCHEMA }], tool_choice: { type: 'any' } },
  },
  { name: '`stop_sequences`', members: { stop_sequences: ['END'] } },
  { name: '`temperature`', members: { temperature: 0.5 } },
  { name: '`top_k`', members: { top_k: 5 } },
  { name: '`thinking`', members: { max_tokens: 9000, thinking: { type: 'enabled', budget_tokens: 4000 } } },
  { name: '`output_config.effort`', members: { output_config: { effort: 'high' } } },
  { name: '`metadata`', members: { metadata: { user_id: 'u' } } },
  { name: '`context_management`', members: { context_management: { edits: [] } } },
]

const VECTORS: readonly Probe[] = [
  { name: '`input`: text', members: { input: 'y' } },
  { name: '`input`: several texts', members: { input: ['x', 'y'] } },
  { name: '`input`: tokens', members: { input: [1, 2, 3] } },
  { name: '`dimensions`', members: { dimensions: 256 } },
  { name: '`encoding_format`: `base64`, made here', members: { encoding_format: 'base64' } },
  { name: "`input_type`, of Cohere's", members: { input_type: 'search_query' } },
  { name: '`user`', members: { user: 'u' } },
]

const TABLES = [
  {
    title: 'Chat completions',
    path: '/chat/completions',
    base: { messages: [{ role: 'user', content: [{ type: 'text', text: 'x' }] }] },
    probes: CHAT,
  },
  {
    title: 'Responses',
    path: '/responses',
    base: { input: [{ type: 'message', role: 'user', content: [{ type: 'input_text', text: 'x' }] }] },
    probes: RESPONSES,
  },
  {
    title: 'Messages',
    path: '/messages',
    base: { max_tokens: 9000, messages: [{ role: 'user', content: [{ type: 'text', text: 'x' }] }] },
    probes: MESSAGES,
  },
] as const

/** Undefined where the column takes the caller's bytes as they are. */
function carry(
  path: string,
  column: (typeof COLUMNS)[number],
  base: Members,
  probe: Probe,
): Carried | undefined {
  const format = ENDPOINTS.find((one) => one.path === path)?.format ?? ''
  if (format === column.format) return undefined
  const client = formats.get(format)?.client?.chat
  const provider = formats.get(column.format)?.provider?.chat
  if (client === undefined || provider === undefined)
    throw new Error(`${format} or ${column.format} has no chat`)
  const write: Write = (members) => {
    const read = client.read({ model: 'm', ...members })
    const { model, options } = column
    const written = provider.write(read.request, { model, maxOutputTokens: undefined, options })
    const body = JSON.stringify([written.body, written.headers, [...written.names]])
    return { body, dropped: [...read.dropped, ...written.dropped] }
  }
  return compare(write, base, probe)
}

/** What a member adds to what is written. */
function compare(write: Write, base: Members, probe: Probe): Carried {
  const before = write(base)
  try {
    const after = write({ ...base, ...probe.members })
    if (after.dropped.some((name) => !before.dropped.includes(name))) return 'told'
    return after.body === before.body ? 'no effect' : 'yes'
  } catch (error) {
    if (error instanceof GatewayError) return '400'
    throw error
  }
}

type Write = (members: Members) => { readonly body: string; readonly dropped: readonly string[] }

function carryVectors({ format, model }: (typeof VECTOR_COLUMNS)[number], probe: Probe): Carried {
  const embeddings = formats.get(format)?.provider?.embeddings
  if (embeddings === undefined) throw new Error(`${format} makes no vectors`)
  const asked = { model, maxOutputTokens: undefined, options: {} }
  const write: Write = (members) => {
    const { body, dropped } = embeddings.write({ model: 'm', ...members }, asked)
    return { body: JSON.stringify(body), dropped }
  }
  return compare(write, { input: 'x' }, probe)
}

const SIGNS: Readonly<Record<Carried, string>> = {
  yes: '✓',
  told: 'left out',
  'no effect': '–',
  '400': '400',
}

/** Markdown, one table for each API that agents speak. */
export function carriedTables(): string {
  const chats = TABLES.map(({ title, path, base, probes }) => {
    const shown = COLUMNS.filter((column) =>
      probes.some((probe) => carry(path, column, base, probe) !== undefined),
    )
    const cells = (probe: Probe) => shown.map((column) => carry(path, column, base, probe) ?? 'yes')
    return toTable(title, shown, probes, cells)
  })
  const vectors = toTable('Embeddings', VECTOR_COLUMNS, VECTORS, (probe) =>
    VECTOR_COLUMNS.map((column) => carryVectors(column, probe)),
  )
  return [...chats, vectors].join('\n\n')
}

function toTable(
  title: string,
  columns: readonly { readonly title: string }[],
  probes: readonly Probe[],
  cells: (probe: Probe) => readonly Carried[],
): string {
  return [
    `## ${title}`,
    '',
    `| member | ${columns.map((column) => column.title).join(' | ')} |`,
    `|---${'|---'.repeat(columns.length)}|`,
    ...probes.map(
      (probe) =>
        `| ${probe.name} | ${cells(probe)
          .map((cell) => SIGNS[cell])
          .join(' | ')} |`,
    ),
  ].join('\n')
}
