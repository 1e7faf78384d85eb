// The libraries that agents are built on, unmodified, each pointed at a gateway as its documentation says: chat, stream,
// a tool's round trip, structured output, and what becomes of an error.

import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { HumanMessage, ToolMessage } from '@langchain/core/messages'
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai'
import { Agent, tool as agentTool, OpenAIProvider, Runner } from '@openai/agents'
import { embed, generateText, Output, stepCountIs, streamText, tool } from 'ai'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { agentPolicy, makeBearer, simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import {
  answer,
  createScriptedProvider,
  cutAfter,
  type ScriptedProvider,
  status,
  toolLoop,
} from '../support/scripted-provider.ts'

let provider: ScriptedProvider
let second: ScriptedProvider
let gateway: TestGateway
beforeAll(async () => {
  ;[provider, second] = await Promise.all([createScriptedProvider(), createScriptedProvider()])
  gateway = await startGateway({
    config: simpleConfig({ provider: [provider.url, second.url], tier: { retries: 0 } }),
  })
})
afterAll(async () => {
  await gateway?.stop()
  await Promise.all([provider?.close(), second?.close()])
})
beforeEach(() => {
  provider.reset()
  second.reset()
})

const WEATHER = { name: 'get_temperature', args: { city: 'Oslo' } }
const JSON_ANSWER = '{"city":"Oslo","degrees":-4}'

describe('the AI SDK', () => {
  const model = () =>
    createOpenAICompatible({ name: 'sluice', baseURL: gateway.baseUrl, apiKey: gateway.bearer })('m')

  it('gets text, whole and streamed', async () => {
    provider.script(answer({ text: 'It is cold.' }))
    expect((await generateText({ model: model(), prompt: 'Hello.' })).text).toBe('It is cold.')
    provider.script(answer({ text: 'It is cold.' }))
    const { textStream } = streamText({ model: model(), prompt: 'Hello.' })
    let text = ''
    for await (const piece of textStream) text += piece
    expect(text).toBe('It is cold.')
  })

  it('has its tool called, and its result answered', async () => {
    provider.script(toolLoop(WEATHER))
    const asked: unknown[] = []
    const { text, steps } = await generateText({
      model: model(),
      prompt: 'How warm is Oslo?',
      stopWhen: stepCountIs(3),
      tools: {
        get_temperature: tool({
          inputSchema: z.object({ city: z.string() }),
          execute: (input) => {
            asked.push(input)
            return 'minus four'
          },
        }),
      },
    })
    expect(asked).toEqual([{ city: 'Oslo' }])
    expect(text).toContain('minus four')
    expect(steps).toHaveLength(2)
    expect(provider.calls).toBe(2)
  })

  it('gets an object of its schema', async () => {
    provider.script(answer({ text: JSON_ANSWER }))
    const { output } = await generateText({
      model: createOpenAI({ baseURL: gateway.baseUrl, apiKey: gateway.bearer }).chat('m'),
      prompt: 'How warm is Oslo?',
      output: Output.object({ schema: z.object({ city: z.string(), degrees: z.number() }) }),
    })
    expect(output).toEqual({ city: 'Oslo', degrees: -4 })
    expect(provider.requests[0]?.body.toString()).toContain('"json_schema"')
  })

  it('embeds', async () => {
    const sluice = createOpenAI({ baseURL: gateway.baseUrl, apiKey: gateway.bearer })
    const { embedding } = await embed({ model: sluice.embedding('m'), value: 'Oslo' })
    expect(embedding.length).toBeGreaterThan(0)
  })

  it('notices nothing when the first tier is down, and hears of a stream that broke', async () => {
    provider.script(status(503))
    second.script(answer({ text: 'From the second.' }))
    expect((await generateText({ model: model(), prompt: 'Hello.' })).text).toBe('From the second.')
    provider.reset()
    provider.script(cutAfter({ frames: 3 }))
    const errors: unknown[] = []
    const { fullStream } = streamText({
      model: model(),
      prompt: 'Hello.',
      maxRetries: 0,
      onError: () => {},
    })
    for await (const part of fullStream) if (part.type === 'error') errors.push(part.error)
    expect(errors).toHaveLength(1)
    expect(JSON.stringify(errors[0])).toContain('broke off')
  })
})

describe('LangChain', () => {
  const chat = (more: object = {}) =>
    new ChatOpenAI({
      model: 'm',
      apiKey: gateway.bearer,
      maxRetries: 0,
      configuration: { baseURL: gateway.baseUrl },
      ...more,
    })

  it('gets text, whole and streamed', async () => {
    provider.script(answer({ text: 'It is cold.' }))
    expect((await chat().invoke('Hello.')).text).toBe('It is cold.')
    provider.script(answer({ text: 'It is cold.' }))
    let text = ''
    let tokens = 0
    for await (const piece of await chat().stream('Hello.')) {
      text += piece.text
      tokens += piece.usage_metadata?.total_tokens ?? 0
    }
    expect(text).toBe('It is cold.')
    expect(tokens).toBeGreaterThan(0)
  })

  it('has its tool called, and its result answered', async () => {
    provider.script(toolLoop(WEATHER))
    const tools = chat().bindTools([
      {
        type: 'function',
        function: {
          name: 'get_temperature',
          parameters: { type: 'object', properties: { city: { type: 'string' } } },
        },
      },
    ])
    const question = new HumanMessage('How warm is Oslo?')
    const call = await tools.invoke([question])
    expect(call.tool_calls).toMatchObject([WEATHER])
    const result = new ToolMessage({ tool_call_id: call.tool_calls?.[0]?.id ?? '', content: 'minus four' })
    expect((await tools.invoke([question, call, result])).text).toContain('minus four')
  })

  it('gets an object of its schema', async () => {
    provider.script(answer({ text: JSON_ANSWER }))
    const structured = chat().withStructuredOutput(z.object({ city: z.string(), degrees: z.number() }), {
      method: 'jsonSchema',
    })
    expect(await structured.invoke('How warm is Oslo?')).toEqual({ city: 'Oslo', degrees: -4 })
  })

  it('embeds', async () => {
    const embeddings = new OpenAIEmbeddings({
      model: 'm',
      apiKey: gateway.bearer,
      configuration: { baseURL: gateway.baseUrl },
    })
    expect((await embeddings.embedQuery('Oslo')).length).toBeGreaterThan(0)
  })

  it('does not come again with a request that a provider refused', async () => {
    provider.script(status(400, { error: { message: 'no such thing', code: 'invalid_value' } }))
    await expect(chat({ maxRetries: 3 }).invoke('Hello.')).rejects.toMatchObject({ status: 400 })
    expect(provider.calls).toBe(1)
  })

  it('waits as long as a limit of the gateway says, and comes again', async () => {
    const agent = makeBearer()
    const limits = { requests: { capacity: 1, refill: '1/s' } }
    const limited = await startGateway({
      config: simpleConfig({ provider: provider.url }),
      policies: { agent: agentPolicy('agent', agent, { limits }) },
    })
    try {
      const model = chat({
        apiKey: agent.bearer,
        maxRetries: 3,
        configuration: { baseURL: limited.baseUrl },
      })
      const beganMs = performance.now()
      await model.invoke('Hello.')
      await model.invoke('Hello.')
      expect(performance.now() - beganMs).toBeGreaterThan(900)
      expect(provider.calls).toBe(2)
    } finally {
      await limited.stop()
    }
  })
})

describe('the OpenAI Agents SDK', () => {
  it('runs an agent with a tool to its end, by chat', async () => {
    provider.script(toolLoop(WEATHER))
    const asked: unknown[] = []
    const runner = new Runner({
      tracingDisabled: true,
      modelProvider: new OpenAIProvider({
        apiKey: gateway.bearer,
        baseURL: gateway.baseUrl,
        useResponses: false,
      }),
    })
    const agent = new Agent({
      name: 'weather',
      model: 'm',
      tools: [
        agentTool({
          name: 'get_temperature',
          description: 'How warm it is.',
          parameters: z.object({ city: z.string() }),
          execute: (input) => {
            asked.push(input)
            return 'minus four'
          },
        }),
      ],
    })
    const { finalOutput } = await runner.run(agent, 'How warm is Oslo?')
    expect(asked).toEqual([{ city: 'Oslo' }])
    expect(finalOutput).toContain('minus four')
  })
})
