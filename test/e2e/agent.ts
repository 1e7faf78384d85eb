// The agent of the end-to-end tests: the official OpenAI SDK, its own tool loop, and tools that keep what they were
// called with. Two rounds of tools are needed before the answer, the first with two calls at once.

import type OpenAI from 'openai'

export const QUESTION = 'How warm are Paris and Oslo together?'
export const TEMPERATURES: Readonly<Record<string, number>> = { Paris: 21, Oslo: -4 }
export const ANSWER = 'Together it is 17 degrees.'

export interface LoopResult {
  readonly answer: string | null
  /** Calls of the tools in order. */
  readonly calls: readonly { readonly tool: string; readonly args: unknown }[]
  /** Roles of the conversation at the end. */
  readonly roles: readonly string[]
}

/** The calls that a model makes which plays its part. */
export const EXPECTED_CALLS = [
  { tool: 'get_temperature', args: { city: 'Paris' } },
  { tool: 'get_temperature', args: { city: 'Oslo' } },
  { tool: 'add', args: { a: 21, b: -4 } },
]

/** Runs the loop to its end. */
export async function runAgent(client: OpenAI, model: string, stream: boolean): Promise<LoopResult> {
  const calls: { tool: string; args: unknown }[] = []
  const tool = <Args extends object>(
    name: string,
    properties: Readonly<Record<string, string>>,
    run: (args: Args) => string,
  ) => ({
    type: 'function' as const,
    function: {
      name,
      description: `The tool ${name}.`,
      parameters: {
        type: 'object',
        properties: Object.fromEntries(Object.entries(properties).map(([key, type]) => [key, { type }])),
        required: Object.keys(properties),
      },
      parse: (text: string): Args => JSON.parse(text),
      function: (args: Args) => {
        calls.push({ tool: name, args })
        return run(args)
      },
    },
  })
  const params = {
    model,
    messages: [
      { role: 'system' as const, content: 'Use your tools.' },
      { role: 'user' as const, content: QUESTION },
    ],
    tools: [
      tool<{ city: string }>('get_temperature', { city: 'string' }, ({ city }) =>
        String(TEMPERATURES[city] ?? 'unknown'),
      ),
      tool<{ a: number; b: number }>('add', { a: 'number', b: 'number' }, ({ a, b }) => String(a + b)),
    ],
  }
  const { completions } = client.chat
  const runner = stream ? completions.runTools({ ...params, stream }) : completions.runTools(params)
  const answer = await runner.finalContent()
  return { answer, calls, roles: runner.messages.map(({ role }) => role) }
}

/** The error of a promise that fails. */
export async function rejection(promise: PromiseLike<unknown>): Promise<unknown> {
  try {
    await promise
  } catch (error) {
    return error
  }
  throw new Error('it was expected to fail and did not')
}
