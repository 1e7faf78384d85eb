// A stream that is gone on with, at a real gateway: a body that is sent twice, a caller who reads slowly, a stop.

import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { createCaller, eventually } from '../support/caller.ts'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { statusOf } from '../support/operator.ts'
import {
  answer,
  createScriptedProvider,
  cutAfter,
  type ScriptedProvider,
  stallAfter,
} from '../support/scripted-provider.ts'
import { parseSse, summarizeChat } from '../support/sse.ts'

/** 165 KB. */
const WORDS = Array.from({ length: 400 }, (_, i) => `word ${i} – ${'x'.repeat(400)} `)
let one: ScriptedProvider
let two: ScriptedProvider
let gateway: TestGateway

beforeEach(async () => {
  ;[one, two] = await Promise.all([createScriptedProvider(), createScriptedProvider()])
  gateway = await startGateway({
    config: simpleConfig({
      provider: [one.url, two.url],
      tier: { idle: '300ms', retries: 0 },
      over: {
        tiers: { t2: { deployments: [{ use: 'p2/m2', prefill: true }] } },
        failover: { midStream: 'resume' },
      },
    }),
  })
})
afterEach(async () => {
  await gateway.stop()
  await Promise.all([one.close(), two.close()])
})

const caller = () => createCaller(gateway.baseUrl, gateway.bearer)

it('sends a large body a second time, whole, with what was said behind it, and then lets go of it', async () => {
  one.script(stallAfter(2, { pieces: ['Hello', ' there', ' world'] }))
  two.script(answer({ pieces: [' there', ' world'] }))
  const messages = [{ role: 'user', content: `${'é"\\ '.repeat(100_000)}end` }]
  const { stream } = await caller().chat({ body: { stream: true, messages, max_tokens: 100 } })
  expect(stream).toMatchObject({ text: 'Hello there world', done: true })
  const [first, second] = [one, two].map(({ requests }) => JSON.parse(String(requests[0]?.body)))
  expect(first.messages).toEqual(messages)
  expect(second.messages).toEqual([...messages, { role: 'assistant', content: 'Hello' }])
  await eventually(async () => (await statusOf(gateway)).inflight === 0, 'nothing is under way')
  expect([one.active, two.active]).toEqual([0, 0])
})

it('reaches a caller who reads slowly in one piece', async () => {
  one.script(cutAfter({ pieces: WORDS, frames: WORDS.length - 100 }))
  const whole = WORDS.join('')
  two.script({
    run(call) {
      const said = String(call.chat.messages.at(-1)?.content)
      expect(whole.startsWith(said)).toBe(true)
      return answer({ pieces: [whole.slice(said.length)] }).run(call)
    },
  })
  const response = await caller().open({ body: { stream: true } })
  const reader = response.body?.getReader()
  const chunks: Buffer[] = []
  for (let turn = 0; ; turn += 1) {
    const next = await reader?.read()
    if (next === undefined || next.done) break
    chunks.push(Buffer.from(next.value))
    if (turn % 10 === 0) await sleep(10)
  }
  const stream = summarizeChat(parseSse(Buffer.concat(chunks).toString()))
  expect(stream).toMatchObject({ text: whole, done: true, error: undefined })
})

it('is finished by a gateway that is told to stop', async () => {
  one.script(stallAfter(2, { pieces: ['Hello', ' there', ' world'] }))
  two.script(answer({ pieces: [' there', ' world'], everyMs: 200 }))
  const answered = caller().chat({ body: { stream: true } })
  await two.waitForRequests(1)
  const ended = gateway.stop()
  expect((await answered).stream).toMatchObject({ text: 'Hello there world', done: true })
  expect(await ended).toBe(0)
})
