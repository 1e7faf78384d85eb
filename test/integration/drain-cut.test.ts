import { afterEach, expect, test } from 'vitest'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { silent, stallAfter } from '../support/provider-script.ts'
import { createScriptedProvider, type ScriptedProvider } from '../support/scripted-provider.ts'

let gateway: TestGateway | undefined
let provider: ScriptedProvider | undefined
afterEach(async () => {
  await gateway?.kill9()
  await provider?.close()
})

function call(at: TestGateway, stream: boolean): Promise<Response> {
  return fetch(`${at.baseUrl}/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${at.bearer}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'm', stream, messages: [{ role: 'user', content: 'hi' }] }),
  })
}

test('what the end of a drain cuts is told: an error event in a stream, a 503 where no answer had begun', async () => {
  provider = await createScriptedProvider()
  provider.script((request) => (request.body.includes('"stream":true') ? stallAfter(3) : silent()))
  gateway = await startGateway({
    config: simpleConfig({ provider: provider.url, over: { listen: { drain: '1s' } } }),
  })
  const streamed = await call(gateway, true)
  const whole = call(gateway, false)
  await provider.waitForRequests(2)
  const ended = gateway.stop()
  const text = await streamed.text()
  expect(text).toContain('"code":"upstream_incomplete"')
  expect(text).not.toContain('[DONE]')
  const refused = await whole
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
  expect(await refused.json()).toMatchObject({ error: { code: 'draining' } })
  expect(await ended).toBe(0)
})
