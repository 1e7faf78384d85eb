// One path for all: whatever API an agent speaks, and whatever its provider does, the same rules hold. Each row is a way
// for a request to end badly; each is played at every endpoint, passed untouched and translated, whole and streamed.

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { eventually } from '../support/caller.ts'
import { agentPolicy, makeBearer, startGateway, type TestGateway } from '../support/gateway.ts'
import { metricIn, metricOf, metricsOf } from '../support/operator.ts'
import {
  answer,
  createScriptedProvider,
  cutAfter,
  echoKey,
  inBandErrorAfterContent,
  malformedEventMiddle,
  noFinishReason,
  rateLimited,
  type ScriptedProvider,
  stallAfter,
  status,
} from '../support/scripted-provider.ts'
import { ask, type Heard, SURFACES, type Surface } from '../support/surfaces.ts'

const KEY = 'sk-provider-key-0123456789abcdef'
const PRICE = { input: 1, output: 1 }
const PIECES = ['one ', 'two ', 'three ', 'four ', 'five ', 'six ']

const tester = makeBearer()
const narrow = makeBearer()
const hasty = makeBearer()
const poor = makeBearer()

let provider: ScriptedProvider
let other: ScriptedProvider
let gateway: TestGateway

/** Route `native`: what an agent speaks is what its provider takes; the others are translated. */
const ROUTES = ['native', 'chat', 'messages', 'gemini', 'bedrock'] as const
type RouteName = (typeof ROUTES)[number]

const [chat, , messages] = SURFACES as readonly [Surface, Surface, Surface, Surface]
const isMessages = (surface: Surface): boolean => surface === messages

/** What the code of ours is called there. */
function codeFor(surface: Surface, code: string, type: string): string {
  return isMessages(surface) ? type : code
}

/** Every endpoint, with every route and mode. */
const CASES = SURFACES.flatMap((surface) =>
  ROUTES.flatMap((route) => [true, false].map((stream) => ({ surface, route, stream, at: surface.path }))),
)
const STREAMS = CASES.filter(({ stream }) => stream)
const title = '$at over $route, stream: $stream'

/** What goes wrong at a provider; each time it is another deployment, so that no failure is another one's concern. */
const ROWS = [
  '503',
  '429',
  '400',
  'echo',
  'cut',
  'orderly',
  'stall',
  'told',
  'reasonless',
  'malformed',
  'left',
] as const
type Row = (typeof ROWS)[number]

function nameOf(row: Row, { surface, route, stream }: (typeof CASES)[number]): string {
  return `${row}-${route}-${surface.name}${stream ? '-stream' : ''}`
}

beforeAll(async () => {
  ;[provider, other] = await Promise.all([createScriptedProvider(), createScriptedProvider()])
  const apiKey = 'env:PROVIDER_KEY'
  const { url } = provider
  const every = ['openai', 'responses', 'completions', 'anthropic', 'anthropic-count']
  gateway = await startGateway({
    config: {
      providers: {
        native: { format: 'openai', baseUrl: `${url}/v1`, apiKey, alsoSpeaks: every },
        chat: { format: 'openai', baseUrl: `${url}/v1`, apiKey },
        messages: { format: 'anthropic', baseUrl: `${url}/v1`, apiKey },
        gemini: { format: 'gemini', baseUrl: `${url}/v1beta`, apiKey },
        bedrock: { format: 'bedrock', baseUrl: url, region: 'eu-west-1', apiKey },
        other: { format: 'openai', baseUrl: `${other.url}/v1`, apiKey },
      },
      tiers: {
        ...Object.fromEntries(
          ROWS.flatMap((row) =>
            CASES.map((one): [string, unknown] => [
              nameOf(row, one),
              {
                deployments: [{ use: `${one.route}/${nameOf(row, one)}`, price: { ...PRICE } }],
                idle: '300ms',
                retries: 0,
              },
            ]),
          ),
        ),
        ...Object.fromEntries(
          ROUTES.map((name) => [name, { deployments: [{ use: `${name}/m`, price: { ...PRICE } }] }]),
        ),
        other: { deployments: [{ use: 'other/m', price: { ...PRICE } }] },
      },
      routes: {
        ...Object.fromEntries(ROUTES.map((name) => [name, [name]])),
        ...Object.fromEntries(
          ROWS.flatMap((row) => CASES.map((one) => nameOf(row, one))).flatMap((name) => [
            [name, [name]],
            [`${name}-then`, [name, 'other']],
          ]),
        ),
      },
    },
    policies: {
      tester: agentPolicy('tester', tester),
      narrow: agentPolicy('narrow', narrow, { scopes: ['chat:elsewhere', 'embeddings:*'] }),
      hasty: agentPolicy('hasty', hasty, { limits: { requests: { capacity: 1, refill: '1/h' } } }),
      poor: agentPolicy('poor', poor, { limits: { budget: '0.00001 USD/day' } }),
    },
    env: { PROVIDER_KEY: KEY },
  })
})
afterAll(async () => {
  provider?.killConnections()
  await gateway?.stop()
  await Promise.all([provider?.close(), other?.close()])
})
beforeEach(() => {
  provider.reset()
  other.reset()
})

/** Whatever went wrong, these hold. */
function judge(surface: Surface, answered: Awaited<ReturnType<typeof ask>>): Heard {
  const id = answered.headers.get('x-request-id')
  expect(id).toMatch(/^req_/)
  if (isMessages(surface)) expect(answered.headers.get('request-id')).toBe(id)
  expect(answered.body).not.toContain(KEY)
  expect(JSON.stringify([...answered.headers])).not.toContain(KEY)
  return answered.heard
}

describe('a caller without a bearer', () => {
  it.each(CASES)(`is refused at ${title}`, async ({ surface, route, stream }) => {
    const answered = await ask(gateway.baseUrl, surface, { model: route, stream, bearer: undefined })
    expect(answered.status).toBe(401)
    expect(judge(surface, answered).error).toBe(codeFor(surface, 'invalid_api_key', 'authentication_error'))
    expect(answered.headers.get('x-should-retry')).toBe('false')
    expect(provider.calls).toBe(0)
  })

  it.each(SURFACES)('may hand it over as others do at $path', async (surface) => {
    const headers = { 'x-api-key': tester.bearer }
    const answered = await ask(gateway.baseUrl, surface, { model: 'native', bearer: undefined, headers })
    expect(answered.status).toBe(200)
  })
})

describe('a caller without the scope', () => {
  it.each(CASES)(`is refused at ${title}`, async ({ surface, route, stream }) => {
    const answered = await ask(gateway.baseUrl, surface, { model: route, stream, bearer: narrow.bearer })
    expect(answered.status).toBe(403)
    const heard = judge(surface, answered)
    expect(heard.error).toBe(codeFor(surface, 'scope_denied', 'permission_error'))
    expect(heard.message).toContain(`chat:${route}`)
    expect(provider.calls).toBe(0)
  })
})

describe('a model that there is no route for', () => {
  it.each(SURFACES)('is not found at $path', async (surface) => {
    const answered = await ask(gateway.baseUrl, surface, { model: 'nobody', bearer: tester.bearer })
    expect(answered.status).toBe(404)
    expect(judge(surface, answered).error).toBe(codeFor(surface, 'model_not_found', 'not_found_error'))
  })
})

describe('a limit of the agent', () => {
  it('counts all endpoints together, and is told in the words of each', async () => {
    const first = await ask(gateway.baseUrl, chat, { model: 'native', bearer: hasty.bearer })
    expect(first.status).toBe(200)
    for (const { surface, route, stream } of CASES) {
      const answered = await ask(gateway.baseUrl, surface, { model: route, stream, bearer: hasty.bearer })
      expect(answered.status).toBe(429)
      const heard = judge(surface, answered)
      expect(heard.error).toBe(codeFor(surface, 'rate_limit_exceeded', 'rate_limit_error'))
      const seconds = Number(answered.headers.get('retry-after'))
      expect(seconds).toBeGreaterThanOrEqual(1)
      expect(seconds).toBeLessThanOrEqual(60)
      expect(answered.headers.get('x-should-retry')).toBe('true')
      expect(answered.headers.get('x-ratelimit-limit-requests')).toBe('1')
    }
    expect(provider.calls).toBe(1)
  })
})

describe('a provider that fails before it has said anything', () => {
  it.each(CASES)(`is stood in for at ${title}`, async (one) => {
    const { surface, route, stream } = one
    provider.script(status(503))
    other.script(answer({ text: 'From the other.' }))
    const answered = await ask(gateway.baseUrl, surface, {
      model: `${nameOf('503', one)}-then`,
      stream,
      bearer: tester.bearer,
    })
    expect(answered.status).toBe(200)
    expect(judge(surface, answered)).toMatchObject({ text: 'From the other.', finish: 'stop' })
    expect(answered.headers.get('x-sluice-attempts')).toBe(
      `${nameOf('503', one)}:${route}/${nameOf('503', one)}=503, other:other/m=200`,
    )
    expect(answered.headers.get('x-sluice-degraded')).toBe('true')
  })

  it.each(CASES)(`and has nobody beside it is told of at ${title} (bug 62)`, async (one) => {
    const { surface, stream } = one
    provider.script(rateLimited(7))
    const answered = await ask(gateway.baseUrl, surface, {
      model: nameOf('429', one),
      stream,
      bearer: tester.bearer,
    })
    expect(answered.status).toBe(503)
    const heard = judge(surface, answered)
    expect(heard.error).toBe(codeFor(surface, 'upstream_failed', 'api_error'))
    expect(heard.message).toContain(`${nameOf('429', one)}: 429`)
    expect(Number(answered.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
  })
})

describe("a caller's own mistake", () => {
  it.each(CASES)(`is passed on in the provider's words at ${title}`, async (one) => {
    const { surface, stream } = one
    provider.script(status(400))
    const answered = await ask(gateway.baseUrl, surface, {
      model: `${nameOf('400', one)}-then`,
      stream,
      bearer: tester.bearer,
    })
    expect(answered.status).toBe(400)
    expect(judge(surface, answered).message).toContain('Scripted status 400')
    expect(provider.calls).toBe(1)
    expect(other.calls).toBe(0)
  })
})

describe('a key that a provider echoes', () => {
  it.each(CASES)(`is never seen at ${title}`, async (one) => {
    const { surface, stream } = one
    provider.script(echoKey({ code: 400 }))
    const refused = await ask(gateway.baseUrl, surface, {
      model: nameOf('echo', one),
      stream,
      bearer: tester.bearer,
    })
    expect(refused.status).toBeGreaterThanOrEqual(400)
    for (const form of [KEY, Buffer.from(KEY).toString('base64'), Buffer.from(KEY).toString('hex')]) {
      expect(refused.body).not.toContain(form)
    }
    provider.script(answer({ pieces: ['Your key is ', KEY, ' I think.'] }))
    const told = await ask(gateway.baseUrl, surface, {
      model: nameOf('echo', one),
      stream,
      bearer: tester.bearer,
    })
    expect(told.status).toBe(200)
    expect(judge(surface, told).text).toBe('Your key is [redacted] I think.')
  })
})

const BREAKS = [
  ['is cut', 'cut', (frames: number) => cutAfter({ pieces: PIECES, frames })],
  ['ends in good order', 'orderly', (frames: number) => cutAfter({ pieces: PIECES, frames, how: 'orderly' })],
  ['stalls', 'stall', (frames: number) => stallAfter(frames, { pieces: PIECES })],
  ['tells an error', 'told', (frames: number) => inBandErrorAfterContent({ pieces: PIECES, after: frames })],
] as const

describe.each(BREAKS)('a stream that %s behind its first words', (_, row, broken) => {
  it.each(STREAMS)(`ends with an error and no end at ${title} (bug 1, bug 2)`, async (one) => {
    const { surface, stream } = one
    provider.script(broken(5))
    const answered = await ask(gateway.baseUrl, surface, {
      model: `${nameOf(row, one)}-then`,
      stream,
      bearer: tester.bearer,
    })
    expect(answered.status).toBe(200)
    const heard = judge(surface, answered)
    expect(heard.text).toMatch(/^one /)
    expect(heard).toMatchObject({
      error: codeFor(surface, 'upstream_incomplete', 'overloaded_error'),
      finish: undefined,
      ended: false,
    })
    expect(other.calls).toBe(0)
  })
})

describe('a stream without a reason why it ended', () => {
  it.each(STREAMS)(`is not whole at ${title} (bug 2)`, async (one) => {
    const { surface, stream } = one
    provider.script(noFinishReason({ pieces: PIECES }))
    const answered = await ask(gateway.baseUrl, surface, {
      model: nameOf('reasonless', one),
      stream,
      bearer: tester.bearer,
    })
    expect(judge(surface, answered)).toMatchObject({
      error: codeFor(surface, 'upstream_incomplete', 'overloaded_error'),
      ended: false,
    })
  })
})

describe('an event that cannot be read', () => {
  const translated = STREAMS.filter(({ surface, route }) => route !== 'native' && !speaks(surface, route))
  it.each(translated)(`breaks an answer that is translated at ${title}`, async (one) => {
    const { surface, stream } = one
    provider.script(malformedEventMiddle({ pieces: PIECES, after: 5 }))
    const answered = await ask(gateway.baseUrl, surface, {
      model: nameOf('malformed', one),
      stream,
      bearer: tester.bearer,
    })
    expect(judge(surface, answered)).toMatchObject({
      text: expect.stringMatching(/^one /),
      error: codeFor(surface, 'upstream_incomplete', 'overloaded_error'),
      ended: false,
    })
  })
})

function speaks(surface: Surface, route: RouteName): boolean {
  return surface.name === route
}

describe('a caller who leaves', () => {
  it.each(CASES)(`cancels what was asked for at ${title} (bug 72)`, async (one) => {
    const { surface, stream } = one
    provider.script(stallAfter(stream ? 5 : 0, { pieces: PIECES }))
    const left = new AbortController()
    const asked = ask(gateway.baseUrl, surface, {
      model: nameOf('left', one),
      stream,
      bearer: tester.bearer,
      signal: left.signal,
    }).catch((error: Error) => error.name)
    await provider.waitForRequests(1)
    left.abort()
    expect(await asked).toBe('AbortError')
    await provider.waitForAbort(0)
    await eventually(async () => (await metricOf(gateway, 'sluice_inflight')) === 0, 'nothing is under way')
  })
})

describe('money that is spent', () => {
  it('is told in the words of each endpoint', async () => {
    const first = await ask(gateway.baseUrl, chat, { model: 'native', bearer: poor.bearer })
    expect(first.status).toBe(200)
    for (const { surface, route, stream } of CASES) {
      const answered = await ask(gateway.baseUrl, surface, { model: route, stream, bearer: poor.bearer })
      expect(answered.status).toBe(isMessages(surface) ? 402 : 429)
      expect(judge(surface, answered).error).toBe(codeFor(surface, 'insufficient_quota', 'billing_error'))
      expect(answered.headers.get('retry-after')).toBeNull()
      expect(answered.headers.get('x-should-retry')).toBe('false')
    }
    expect(provider.calls).toBe(1)
  })
})

describe('what is counted', () => {
  it.each(CASES)(`is the same at ${title}`, async ({ surface, route, stream }) => {
    const deployment = `deployment="${route}/m"`
    const look = async (): Promise<readonly number[]> => {
      const text = await metricsOf(gateway)
      const all = [
        metricIn(
          text,
          'sluice_requests_total',
          `agent="tester",route="${route}",operation="chat",status="200",code="ok"`,
        ),
        metricIn(text, 'sluice_tokens_total', `agent="tester",${deployment},kind="input"`),
        metricIn(text, 'sluice_tokens_total', `agent="tester",${deployment},kind="output"`),
        metricIn(text, 'sluice_attempts_total', `tier="${route}",${deployment},outcome="answered"`),
        metricIn(text, 'sluice_cost_usd_total', `agent="tester",${deployment}`),
      ]
      return all.map((value) => value || 0)
    }
    const before = await look()
    provider.script(answer({ pieces: PIECES }))
    const answered = await ask(gateway.baseUrl, surface, { model: route, stream, bearer: tester.bearer })
    expect(answered.heard.tokens).toEqual({ input: 11, output: PIECES.length })
    await eventually(async () => (await look())[0] !== before[0], 'it is counted')
    const grown = (await look()).map((value, i) => Math.round((value - (before[i] ?? 0)) * 1e6) / 1e6)
    expect(grown).toEqual([1, 11, PIECES.length, 1, (11 + PIECES.length) / 1e6])
  })
})
