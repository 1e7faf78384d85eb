// The libraries that agents are built on, in the mode that each takes by itself (Responses, or Messages), over tiers that
// speak something else: an answer whole and streamed, a tool's round trip, an object of a schema, an error, a broken stream.

import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI } from '@ai-sdk/openai'
import { HumanMessage, ToolMessage } from '@langchain/core/messages'
import { ChatOpenAI } from '@langchain/openai'
import { Agent, tool as agentTool, OpenAIProvider, Runner } from '@openai/agents'
import { generateText, Output, stepCountIs, streamText, tool } from 'ai'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import {
  answer,
  createScriptedProvider,
  cutAfter,
  type ScriptedProvider,
  status,
  toolLoop,
} from '../support/scripted-provider.ts'

// It does not know the models, and says so of each call.
globalThis.AI_SDK_LOG_WARNINGS = false

const TIERS = ['openai', 'responses', 'anthropic', 'gemini'] as const
const WEATHER = { name: 'get_temperature', args: { city: 'Oslo' } }
const CITY = z.object({ city: z.string() })
const REPORT = z.object({ city: z.string(), degrees: z.number() })
const JSON_ANSWER = '{"city":"Oslo","degrees":-4}'
const QUESTION = 'How warm is Oslo?'

/** What a program does with a library. */
interface Library {
  whole(): Promise<string>
  /** The text piece by piece, and the tokens that were told of. */
  streamed(): Promise<{ readonly text: string; readonly tokens: number }>
  /** Runs a tool and returns what was said of its result. */
  withTool(asked: unknown[]): Promise<string>
  structured(): Promise<unknown>
}

let provider: ScriptedProvider
let gateway: TestGateway
beforeAll(async () => {
  provider = await createScriptedProvider()
  const at = (format: string) => ({ format, baseUrl: provider.baseUrl })
  gateway = await startGateway({
    config: {
      providers: { ...Object.fromEntries(TIERS.map((one) => [one, at(one)])), own: { format: 'simulated' } },
      tiers: {
        ...Object.fromEntries(TIERS.map((one) => [one, { deployments: [`${one}/${one}-m`], retries: 0 }])),
        own: { deployments: ['own/m'] },
      },
      routes: { ...Object.fromEntries(TIERS.map((one) => [one, [one]])), own: ['own'] },
    },
  })
})
afterAll(async () => {
  await gateway?.stop()
  await provider?.close()
})
beforeEach(() => provider.reset())

function aiSdk(model: () => Parameters<typeof generateText>[0]['model']): Library {
  return {
    whole: async () => (await generateText({ model: model(), prompt: QUESTION, maxRetries: 0 })).text,
    async streamed() {
      const errors: unknown[] = []
      const { textStream, usage } = streamText({
        model: model(),
        prompt: QUESTION,
        maxRetries: 0,
        onError: ({ error }) => void errors.push(error),
      })
      let text = ''
      for await (const piece of textStream) text += piece
      if (errors.length > 0) throw errors[0]
      return { text, tokens: (await usage).totalTokens ?? 0 }
    },
    async withTool(asked) {
      const { text } = await generateText({
        model: model(),
        prompt: QUESTION,
        stopWhen: stepCountIs(3),
        tools: {
          get_temperature: tool({
            inputSchema: CITY,
            execute: (input) => {
              asked.push(input)
              return 'minus four'
            },
          }),
        },
      })
      return text
    },
    structured: async () =>
      (await generateText({ model: model(), prompt: QUESTION, output: Output.object({ schema: REPORT }) }))
        .output,
  }
}

function agents(model: string, baseURL: string): Library {
  const runner = new Runner({
    tracingDisabled: true,
    modelProvider: new OpenAIProvider({ apiKey: gateway.bearer, baseURL }),
  })
  const plain = new Agent({ name: 'weather', model })
  return {
    whole: async () => (await runner.run(plain, QUESTION)).finalOutput ?? '',
    async streamed() {
      const run = await runner.run(plain, QUESTION, { stream: true })
      let text = ''
      for await (const piece of run.toTextStream()) text += piece
      await run.completed
      return { text, tokens: run.rawResponses.at(-1)?.usage.totalTokens ?? 0 }
    },
    async withTool(asked) {
      const get_temperature = agentTool({
        name: 'get_temperature',
        description: 'How warm it is.',
        parameters: CITY,
        execute: (input) => {
          asked.push(input)
          return 'minus four'
        },
      })
      const agent = new Agent({ name: 'weather', model, tools: [get_temperature] })
      return (await runner.run(agent, QUESTION)).finalOutput ?? ''
    },
    structured: async () =>
      (await runner.run(new Agent({ name: 'weather', model, outputType: REPORT }), QUESTION)).finalOutput,
  }
}

function langChain(model: string, baseURL: string): Library {
  const chat = new ChatOpenAI({
    model,
    apiKey: gateway.bearer,
    maxRetries: 0,
    useResponsesApi: true,
    configuration: { baseURL },
  })
  return {
    whole: async () => (await chat.invoke(QUESTION)).text,
    async streamed() {
      let text = ''
      let tokens = 0
      for await (const piece of await chat.stream(QUESTION)) {
        text += piece.text
        tokens += piece.usage_metadata?.total_tokens ?? 0
      }
      return { text, tokens }
    },
    async withTool(asked) {
      const parameters = { type: 'object', properties: { city: { type: 'string' } } }
      const tools = chat.bindTools([{ type: 'function', function: { name: 'get_temperature', parameters } }])
      const question = new HumanMessage(QUESTION)
      const call = await tools.invoke([question])
      const [first] = call.tool_calls ?? []
      asked.push(first?.args)
      const result = new ToolMessage({ tool_call_id: first?.id ?? '', content: 'minus four' })
      return (await tools.invoke([question, call, result])).text
    },
    structured: () => chat.withStructuredOutput(REPORT, { method: 'jsonSchema' }).invoke(QUESTION),
  }
}

const LIBRARIES: readonly (readonly [string, string, (model: string, baseURL: string) => Library])[] = [
  [
    'the AI SDK at OpenAI',
    '/responses',
    (model, baseURL) => aiSdk(() => createOpenAI({ baseURL, apiKey: gateway.bearer })(model)),
  ],
  [
    'the AI SDK at Anthropic',
    '/messages',
    (model, baseURL) => aiSdk(() => createAnthropic({ baseURL, apiKey: gateway.bearer })(model)),
  ],
  ['the OpenAI Agents SDK', '/responses', agents],
  ['LangChain with Responses', '/responses', langChain],
]

describe.each(LIBRARIES)('%s', (_, path, make) => {
  const open = (model: string, baseURL = gateway.baseUrl) => make(model, baseURL)

  describe.each(TIERS)('over a tier of %s', (tier) => {
    it('gets text, whole and streamed, with its tokens', async () => {
      provider.script(answer({ text: 'It is cold.' }))
      expect(await open(tier).whole()).toBe('It is cold.')
      const { text, tokens } = await open(tier).streamed()
      expect(text).toBe('It is cold.')
      expect(tokens).toBeGreaterThan(0)
      expect(provider.calls).toBe(2)
    })

    it('has its tool called, and its result answered', async () => {
      provider.script(toolLoop(WEATHER))
      const asked: unknown[] = []
      expect(await open(tier).withTool(asked)).toContain('minus four')
      expect(asked).toEqual([{ city: 'Oslo' }])
      expect(provider.calls).toBe(2)
    })

    it('gets an object of its schema', async () => {
      provider.script(answer({ text: JSON_ANSWER }))
      expect(await open(tier).structured()).toEqual({ city: 'Oslo', degrees: -4 })
      expect(provider.requests[0]?.body.toString()).toContain('degrees')
    })

    it('hears of a stream that broke', async () => {
      provider.script(cutAfter({ frames: 4, text: 'one two three four five six seven eight' }))
      await expect(open(tier).streamed()).rejects.toThrow()
    })

    it('hears of a request that was refused, once', async () => {
      provider.script(status(400, { error: { message: 'no such thing', code: 'invalid_value' } }))
      await expect(open(tier).whole()).rejects.toThrow('no such thing')
      expect(provider.calls).toBe(1)
    })
  })

  it('is answered by the simulated model', async () => {
    const library = open('own')
    expect(await library.whole()).toContain(QUESTION)
    expect((await library.streamed()).text).toContain(QUESTION)
    const asked: unknown[] = []
    expect(await library.withTool(asked)).not.toBe('')
    expect(asked).toEqual([{ city: expect.any(String) }])
    expect(REPORT.safeParse(await library.structured()).success).toBe(true)
  })

  it(`speaks ${path} by itself`, async () => {
    await open('any', provider.baseUrl).whole()
    expect(provider.requests.map((one) => one.path)).toEqual([`/v1${path}`])
  })
})
