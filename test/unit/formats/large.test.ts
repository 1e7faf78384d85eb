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

/** Of the thread alone, so that others on the machine do not count: many times what it takes, and less than anything quadratic. */
const MOST_CPU_MS = 3_000

const MODELS = [
  ['openai', 'm'],
  ['responses', 'gpt-5.1'],
  ['anthropic', 'claude-sonnet-4-5'],
  ['anthropic', 'claude-opus-4-8'],
  ['gemini', 'gemini-2.0-flash'],
  ['bedrock', 'anthropic.claude-sonnet-4-5-20250929-v1:0'],
  ['bedrock', 'mistral.mistral-large'],
] as const

function many(times: number, one: (i: number) => string): string {
  return Array.from({ length: times }, (_, i) => one(i)).join(',')
}

const thought = (signature: string) => `{"type":"thinking","thinking":"","signature":"${signature}"}`
const messages = (content: string) =>
  `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[${content}]}]}`

const chat = (list: string, more = '') =>
  `{"model":"m","messages":[{"role":"user","content":"a"},${list}]${more}}`
const call = (id: string) => `{"id":"${id}","type":"function","function":{"name":"f"}}`
const result = (id: string) => `{"role":"tool","tool_call_id":"${id}"}`
const USER = '{"role":"user","content":"a"}'
const tool = (parameters: string) =>
  chat(USER, `,"tools":[{"type":"function","function":{"name":"f","parameters":${parameters}}}]`)
const names = (count: number) => many(count, (i) => `"n${i}"`)

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
  [
    'parts of one message',
    '/chat/completions',
    () => chat(`{"role":"user","content":[${many(200_000, () => '"a"')}]}`),
  ],
  [
    'calls with one id',
    '/chat/completions',
    () => chat(`{"role":"assistant","tool_calls":[${many(45_000, () => call('a'))}]}`),
  ],
  [
    'calls with results',
    '/chat/completions',
    () =>
      chat(
        `{"role":"assistant","tool_calls":[${many(30_000, (i) => call(`a${i}`))}]},${many(30_000, (i) => result(`a${i}`))}`,
      ),
  ],
  [
    'calls with one id, and their results',
    '/chat/completions',
    () =>
      chat(
        `{"role":"assistant","tool_calls":[${many(25_000, () => call('a'))}]},${many(30_000, () => result('a'))}`,
      ),
  ],
  [
    'instructions in the middle',
    '/chat/completions',
    () =>
      chat(
        many(90_000, (i) =>
          i % 2 === 0 ? '{"role":"system","content":"b"}' : '{"role":"user","content":"a"}',
        ),
      ),
  ],
  [
    'files without a name',
    '/chat/completions',
    () =>
      chat(
        `{"role":"user","content":[${many(60_000, () => '{"type":"file","file":{"file_data":"AA=="}}')}]}`,
      ),
  ],
  [
    'tools that are allowed',
    '/responses',
    () => {
      const tools = many(49_000, (i) => `{"type":"function","name":"f${i}"}`)
      return `{"model":"m","input":"x","tools":[${tools}],"tool_choice":{"type":"allowed_tools","tools":[${tools}]}}`
    },
  ],
  [
    'members that two branches of a schema require',
    '/chat/completions',
    () =>
      tool(`{"type":"object","anyOf":[{"required":[${names(100_000)}]},{"required":[${names(100_000)}]}]}`),
  ],
  [
    'members that a schema requires',
    '/messages',
    () => {
      const properties = many(100_000, (i) => `"n${i}":1`)
      return `{"model":"m","max_tokens":9,"messages":[${USER}],"output_config":{"format":{"type":"json_schema","schema":{"additionalProperties":false,"required":[${names(100_000)}],"properties":{${properties}}}}}}`
    },
  ],
  [
    'references of a schema, one behind the other',
    '/chat/completions',
    () => {
      const defs = many(90_000, (i) => `"a${i}":{"$ref":"#/$defs/a${i + 1}"}`)
      return tool(`{"type":"object","properties":{"x":{"$ref":"#/$defs/a0"}},"$defs":{${defs}}}`)
    },
  ],
  [
    'references of a schema to what is large',
    '/chat/completions',
    () => {
      const properties = many(4_000, (i) => `"p${i}":{"$ref":"#/$defs/a"}`)
      const large = `{"type":"object","additionalProperties":false,"properties":{},"required":[${names(200_000)}]}`
      const schema = `{"type":"object","additionalProperties":false,"properties":{${properties}},"$defs":{"a":${large}}}`
      const format = `{"type":"json_schema","json_schema":{"name":"n","schema":${schema}}}`
      return tool(schema).replace('"tools"', `"response_format":${format},"tools"`)
    },
  ],
  [
    'types of a schema',
    '/chat/completions',
    () => tool(`{"type":[${many(500_000, () => '"a"')}],"properties":{"x":{"type":"string"}}}`),
  ],
]

describe.each(BODIES)('many %s', (_, path, body) => {
  const endpoint = ENDPOINTS.find((one) => one.path === path)
  if (endpoint === undefined) throw new Error('no endpoint')

  it.each(MODELS)('are no burden for %s (%s)', (format, model) => {
    const request = readRequest(endpoint, Buffer.from(body()), new Set())
    const before = process.threadCpuUsage()
    ask(request, format, model)
    const { user, system } = process.threadCpuUsage(before)
    expect((user + system) / 1000).toBeLessThan(MOST_CPU_MS)
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
