// Every row of the fault matrix, whole and streamed: through the official SDK, over real sockets, at one gateway.
// What the providers were asked is counted at them.

import { createServer, type Server } from 'node:https'
import OpenAI, { APIError } from 'openai'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createAuthority } from '../support/certificates.ts'
import { FAULT_MATRIX, type Played, RESUMED, type Row, type Seen, WAITS } from '../support/fault-matrix.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { freePort } from '../support/ports.ts'
import {
  answer,
  createScriptedProvider,
  DEFAULT_TEXT,
  type ScriptedProvider,
  status,
} from '../support/scripted-provider.ts'

/** Of the scripted error of any status. */
const PROVIDERS_WORDS = 'Scripted status'
const TEXT = 'All of the answer is here.'
/** A row whose providers are played otherwise at the end. */
const FLAPS = 'no `[DONE]`'
/** What noise of a shared machine may add. */
const NOISE_MS = 250

interface Place {
  readonly row: Row
  readonly streamed: boolean
  readonly seen: Seen
  readonly model: string
  readonly first: ScriptedProvider
  readonly next: ScriptedProvider
}

const places: Place[] = []
let gateway: TestGateway
let untrusted: Server
const ends: (() => Promise<unknown>)[] = []

beforeAll(async () => {
  const refusedPort = await freePort()
  const { cert, key } = createAuthority().issue('127.0.0.1')
  untrusted = createServer({ cert, key })
  await new Promise<void>((resolve) => untrusted.listen(0, '127.0.0.1', resolve))
  ends.push(() => new Promise((resolve) => untrusted.close(resolve)))
  const address = untrusted.address()
  const tlsPort = typeof address === 'object' && address !== null ? address.port : 0
  const urlOf = ({ kind }: Played, first: ScriptedProvider): string => {
    if (kind === 'refused') return `http://127.0.0.1:${refusedPort}/v1`
    if (kind === 'dns') return 'http://no-such-host.invalid/v1'
    return kind === 'tls' ? `https://127.0.0.1:${tlsPort}/v1` : first.baseUrl
  }

  const providers: Record<string, unknown> = {}
  const tiers: Record<string, unknown> = {}
  const routes: Record<string, unknown> = {}
  const waits = Object.fromEntries(Object.entries(WAITS).map(([name, ms]) => [name, `${ms}ms`]))
  for (const [at, row] of FAULT_MATRIX.entries()) {
    for (const streamed of [false, true]) {
      const seen = streamed ? row.stream : row.whole
      if (seen === undefined) continue
      const model = `${streamed ? 'stream' : 'whole'}-${at}`
      const [first, next] = await Promise.all([createScriptedProvider(), createScriptedProvider()])
      ends.push(
        () => first.close(),
        () => next.close(),
      )
      if (row.first.kind === 'script') first.script(row.first.script)
      next.script(row.next ?? answer(row.resume === undefined ? { text: TEXT } : {}))
      const keys = ['env:KEY_1', 'env:KEY_2'].slice(0, row.keys ?? 1)
      const [window, larger] = row.windows ?? []
      providers[`a-${model}`] = { format: 'openai', baseUrl: urlOf(row.first, first), apiKey: keys }
      providers[`b-${model}`] = { format: 'openai', baseUrl: next.baseUrl }
      tiers[`a-${model}`] = {
        ...waits,
        ...row.tier,
        deployments: [{ use: `a-${model}/m`, ...(window && { contextWindow: window }) }],
      }
      tiers[`b-${model}`] = {
        ...waits,
        idle: '2s',
        deployments: [{ use: `b-${model}/m`, ...row.resume, ...(larger && { contextWindow: larger }) }],
      }
      const through = [`a-${model}`, `b-${model}`]
      routes[model] = row.resume === undefined ? through : { tiers: through, midStream: 'resume' }
      places.push({ row, streamed, seen, model, first, next })
    }
  }
  gateway = await startGateway({
    config: { providers, tiers, routes },
    env: { KEY_1: 'key-number-one', KEY_2: 'key-number-two' },
  })
  ends.push(() => gateway.stop())
}, 60_000)

afterAll(async () => {
  for (const end of ends.toReversed()) await end()
})

interface Told {
  readonly caller: string
  readonly reasons: string
  readonly tookMs: number
}

/** One request by the SDK, in the words of the matrix. */
async function ask({ model, streamed, row }: Place): Promise<Told> {
  let head: Headers | undefined
  const client = new OpenAI({
    baseURL: gateway.baseUrl,
    apiKey: gateway.bearer,
    maxRetries: 0,
    logLevel: 'off',
    fetch: async (url, init) => {
      const response = await fetch(url, init)
      head = response.headers
      return response
    },
  })
  const sentMs = performance.now()
  let text = ''
  let finish: string | null = null
  let failure: unknown
  try {
    const messages = [{ role: 'user' as const, content: 'Hello.' }]
    if (streamed) {
      for await (const chunk of await client.chat.completions.create({
        model,
        messages,
        ...row.ask,
        stream: true,
      })) {
        text += chunk.choices[0]?.delta.content ?? ''
        finish = chunk.choices[0]?.finish_reason ?? finish
      }
    } else {
      const { choices } = await client.chat.completions.create({ model, messages })
      text = choices[0]?.message.content ?? ''
      finish = choices[0]?.finish_reason ?? null
    }
  } catch (error) {
    failure = error
  }
  const tookMs = performance.now() - sentMs
  const reasons = [...(head?.get('x-sluice-attempts') ?? '').matchAll(/=([^,]+)/g)].map(
    ([, reason]) => reason,
  )
  return { caller: inWords({ failure, text, finish, head, row }), reasons: reasons.join(', '), tookMs }
}

function inWords({
  failure,
  text,
  finish,
  head,
  row,
}: {
  readonly failure: unknown
  readonly text: string
  readonly finish: string | null
  readonly head: Headers | undefined
  readonly row: Row
}): string {
  if (failure instanceof SyntaxError) return 'the event as it came: SDKs raise on it'
  if (failure instanceof APIError) {
    if (text === '' && failure.code !== 'upstream_incomplete')
      return failure.status === undefined ? String(failure) : toStatusWords(failure)
    return failure.code === 'upstream_incomplete'
      ? 'what came, then the error `upstream_incomplete`'
      : `what came, then ${failure.code}`
  }
  if (failure !== undefined) return String(failure)
  if (row.resume !== undefined) return text === DEFAULT_TEXT ? RESUMED : `not the whole answer: ${text}`
  if (finish === 'content_filter') return 'the answer, `content_filter` its finish reason'
  return head?.get('x-sluice-degraded') === 'true' ? 'the answer of the next tier' : 'the answer'
}

function toStatusWords({ status, code, message }: APIError): string {
  const isPassedOn = (status === 400 || status === 422) && message.includes(PROVIDERS_WORDS)
  return isPassedOn ? `${status}, in the words of the provider` : `${status} \`${code}\``
}

it('plays every row, for whole replies and for streams', { timeout: 120_000 }, async () => {
  expect(places.length).toBeGreaterThan(100)
  const told: unknown[] = []
  const expected: unknown[] = []
  // A few at a time: what is waited for is not to be the machine.
  for (let at = 0; at < places.length; at += 6) {
    const some = places.slice(at, at + 6)
    const answers = await Promise.all(some.map(ask))
    for (const [i, place] of some.entries()) {
      const { row, streamed, seen, first, next } = place
      const { caller, reasons, tookMs } = answers[i] as Told
      const where = { fault: row.fault, streamed }
      // The reason that broke an answer comes behind its headers; the log has it.
      const isBroken = seen.caller.includes('upstream_incomplete') || seen.caller === RESUMED
      told.push({
        ...where,
        caller,
        calls: [first.calls, next.calls],
        reasons,
        inTime: isInTime(tookMs, seen),
      })
      expected.push({
        ...where,
        caller: seen.caller.replace(/, (?:however late|that event as it came)$/, ''),
        calls: seen.calls,
        reasons: isBroken ? '200' : seen.reasons,
        inTime: true,
      })
    }
  }
  expect(told).toEqual(expected)
})

it('answers every request while the first tier flaps, by one tier or the other', {
  timeout: 30_000,
}, async () => {
  const place = places.find(({ row, streamed }) => row.fault === FLAPS && streamed)
  if (place === undefined) throw new Error(`no row for ${FLAPS}`)
  const { first, next } = place
  const startMs = performance.now()
  let failed = 0
  first.script(() => {
    const isWell = Math.floor((performance.now() - startMs) / 250) % 2 === 0
    if (!isWell) failed += 1
    return isWell ? answer({ text: TEXT }) : status(503)
  })
  next.script(answer({ text: TEXT }))
  const seen = new Map<string, number>()
  while (performance.now() - startMs < 4_000) {
    const { caller, reasons } = await ask(place)
    const what = `${caller}: ${reasons.replaceAll('skipped:unavailable', 'skipped')}`
    seen.set(what, (seen.get(what) ?? 0) + 1)
  }
  for (const what of seen.keys())
    expect([
      'the answer: 200',
      'the answer of the next tier: 503, 200',
      'the answer of the next tier: skipped, 200',
    ]).toContain(what)
  expect(seen.size).toBe(3)
  // The first five in a row or half of twenty, and one probe at a time since.
  expect(failed).toBeGreaterThan(4)
  expect(failed).toBeLessThan(30)
})

it('writes the reasons that come behind the headers to the log', async () => {
  for (const { row, streamed, seen, model } of places) {
    if (!seen.caller.includes('upstream_incomplete') && seen.caller !== RESUMED) continue
    const line = await gateway.waitForLog(({ route }) => route === model)
    const reasons = [line.attempts].flat().map((attempt) => String(attempt).split('=').at(-1))
    expect([row.fault, streamed, reasons.join(', ')]).toEqual([row.fault, streamed, seen.reasons])
  }
})

/** No sooner than the settings say, and not much later. */
function isInTime(tookMs: number, { added, calls }: Seen): boolean | string {
  const [least, most] =
    added === 'nothing'
      ? [0, 0]
      : added === 'a pause of up to 500 ms'
        ? [0, 500]
        : added === 'a pause of up to 100 ms'
          ? [0, 100 * (calls[0] - 1)]
          : added === 'the wait told'
            ? [200, 200]
            : [WAITS[added], WAITS[added]]
  // The next tier may itself take its time in the last row.
  const isOk = tookMs >= least - 5 && tookMs <= most + NOISE_MS + 1_000
  return isOk || `${Math.round(tookMs)} ms`
}
