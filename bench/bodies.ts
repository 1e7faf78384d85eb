// What is asked: a chat of 1.5 KB, and the turn of an agent with twelve tools (19 KB), as the OpenAI SDK sends them.

const WORDS =
  'the agent reads what the tool has said and then decides which of the next steps is worth a call '

export type Shape = '1.5 KB' | '19 KB'

export function bodyOf(shape: Shape, { model, stream }: { model: string; stream: boolean }): string {
  const tail = stream ? { stream, stream_options: { include_usage: true } } : {}
  if (shape === '1.5 KB') {
    const messages = [
      { role: 'system', content: 'You are a careful assistant.' },
      { role: 'user', content: textOf(560) },
      { role: 'assistant', content: textOf(280) },
      { role: 'user', content: `${textOf(360)}\nWhat follows from that, "in short"?` },
    ]
    return JSON.stringify({ model, messages, temperature: 0.2, max_tokens: 512, ...tail })
  }
  const tools = Array.from({ length: 12 }, (_, i) => ({
    type: 'function',
    function: {
      name: `tool_${i}`,
      description: textOf(300),
      parameters: {
        type: 'object',
        properties: {
          path: { type: 'string', description: textOf(120) },
          limit: { type: 'integer', minimum: 1, maximum: 1000, description: textOf(80) },
          recursive: { type: 'boolean', description: textOf(80) },
        },
        required: ['path'],
        additionalProperties: false,
      },
    },
  }))
  const calls = Array.from({ length: 4 }, (_, i) => [
    {
      role: 'assistant',
      content: null,
      tool_calls: [
        {
          id: `call_${i}`,
          type: 'function',
          function: { name: `tool_${i}`, arguments: JSON.stringify({ path: `/srv/${i}`, limit: 20 }) },
        },
      ],
    },
    { role: 'tool', tool_call_id: `call_${i}`, content: JSON.stringify({ lines: textOf(900) }) },
  ])
  const messages = [
    { role: 'system', content: textOf(3000) },
    { role: 'user', content: textOf(600) },
    ...calls.flat(),
  ]
  return JSON.stringify({ model, messages, tools, tool_choice: 'auto', max_tokens: 2048, ...tail })
}

function textOf(characters: number): string {
  return WORDS.repeat(Math.ceil(characters / WORDS.length)).slice(0, characters)
}
