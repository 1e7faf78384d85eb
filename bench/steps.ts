// What each step of ours costs on the path of a request, without I/O: `npm run bench:steps`. Microseconds, medians of
// interleaved rounds. For comparing before and after a change in one run, never as an absolute claim.

import { scanObject } from '../src/bytes/json-scan.ts'
import { createFrameSplitter } from '../src/bytes/sse.ts'
import { bearerSha256 } from '../src/config/bearer.ts'
import { validate } from '../src/config/validate.ts'
import { formats } from '../src/formats/index.ts'
import { createRedact } from '../src/formats/stage.ts'
import { readHead } from '../src/http/head.ts'
import { ENDPOINTS } from '../src/http/operations.ts'
import { createOverload } from '../src/http/overload.ts'
import { readRequest } from '../src/http/request.ts'
import { createIdentity } from '../src/identity/identify.ts'
import { createRevocations, type Stay } from '../src/identity/revocations.ts'
import { createPolicy } from '../src/policy/decide.ts'
import { createRouter } from '../src/route/plan.ts'
import { createScrubber } from '../src/secrets/scrubber.ts'
import type { Arrival } from '../src/types.ts'
import { VENDORS } from '../src/upstream/vendors.ts'
import { createWires, type Translator } from '../src/upstream/wire.ts'
import { toEdits } from '../test/support/edits.ts'

const ROUNDS = 15
const ROUND_MS = 20

const [chat] = ENDPOINTS
if (chat === undefined) throw new Error('no endpoint')
const endpoint = chat
const bearer = 'a-bearer-of-a-bench'
const loaded = validate({
  config: {
    file: 'bench',
    value: {
      providers: { p: { format: 'openai', baseUrl: 'http://127.0.0.1:1/v1' } },
      tiers: { t: { deployments: ['p/other-model'] } },
      routes: { m: ['t'] },
    },
  },
  agents: [
    {
      file: 'a',
      value: { agent: 'a', scopes: ['chat:*'], bearers: [{ id: 'b', sha256: bearerSha256(bearer) }] },
    },
  ],
  vendors: VENDORS,
  policiesPath: undefined,
  warnings: [],
})
if (!loaded.ok) throw new Error('the configuration of the bench is wrong')
const { snapshot } = loaded
const clock = { now: () => performance.now(), wall: () => Date.now() }
const revocations = createRevocations({ clock, log: { info: () => {} }, count: () => {} })
revocations.use(snapshot)
const identity = createIdentity({ snapshot, revocations })
const overload = createOverload({
  loop: { read: () => ({ delayMs: 0, busyShare: 0, intake: 0 }) },
  clock,
  random: Math.random,
  log: { info: () => {}, warn: () => {} },
})
const policy = createPolicy({ operations: snapshot.operations })
const router = createRouter({
  snapshot,
  health: { isAvailable: () => true },
  pace: { load: () => 0 },
  random: Math.random,
})
const scrubber = createScrubber({ isBearerDigest: () => false })
const key = 'sk-a-secret-of-forty-characters-or-about-that'
scrubber.setSecrets([key])
const redact = createRedact([key])

const body = (bytes: number) =>
  Buffer.from(
    JSON.stringify({
      model: 'm',
      stream: true,
      messages: [{ role: 'user', content: 'word '.repeat(bytes / 5) }],
    }),
  )
const small = body(1500)
const large = body(19_000)
const rawHeaders = [
  ...['Host', 'gateway', 'Authorization', `Bearer ${bearer}`, 'Content-Type', 'application/json'],
  ...[
    'Content-Length',
    '1500',
    'Accept',
    'application/json',
    'User-Agent',
    'OpenAI/JS 7.57.0',
    'X-Stainless-Lang',
    'js',
  ],
]
const head = { method: 'POST', target: '/v1/chat/completions', httpVersion: '1.1', rawHeaders }
const request = readRequest(endpoint, small, new Set())
const caller = identity.identify(bearer)
const toArrival = (id: number): Arrival => ({
  id: String(id),
  endpoint,
  bearer,
  startedMs: 0,
  timeoutMs: undefined,
  signal: new AbortController().signal,
  end: () => {},
  address: '127.0.0.1',
  traceparent: undefined,
  tracestate: undefined,
  forwarded: [],
  body: { read: () => Promise.reject(new Error('not here')), release: () => {}, stop: () => {} },
})
const open = Array.from({ length: 10_000 }, (_, id) => identity.enter(toArrival(id)).stay)
let turn = 0
const frame = Buffer.from(
  'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}\n\n',
)
const splitter = createFrameSplitter()
const watch = formats.get('openai')?.provider?.watch()
const messagesData =
  '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"@0000052340005108183 word "}}'
const messagesFrame = {
  event: 'content_block_delta',
  bytes: Buffer.from(`event: content_block_delta\ndata: ${messagesData}\n\n`),
  data: messagesData,
}
const messages = formats.get('anthropic')?.provider
const messagesWatch = messages?.watch()
const translator = beginTranslation()
const line = JSON.stringify({
  level: 30,
  id: 'req_abcdefghij0001',
  agent: 'a',
  route: 'm',
  status: 200,
  code: 'ok',
  ms: 12.5,
})

const steps: Record<string, () => unknown> = {
  'read the head': () => readHead(head),
  'identify (SHA-256)': () => identity.identify(bearer),
  'identify, enter and leave': () => {
    const at = turn % open.length
    turn += 1
    const stay = open[at] as Stay
    const arrival = stay.item?.arrival
    identity.leave(stay)
    if (arrival !== undefined) open[at] = identity.enter(arrival).stay
  },
  'look for expired, 10,000 open': () => revocations.check(),
  'let in and out (overload)': () => {
    overload.enter(caller)
    overload.leave(caller)
  },
  'scan 1.5 KB': () => scanObject(small),
  'scan 19 KB': () => scanObject(large),
  'read the request, 1.5 KB': () => readRequest(endpoint, small, new Set()),
  decide: () => policy.decide(caller, request),
  'find the route': () => router.find(request),
  'edit the body': () => toEdits(request, 'other-model', undefined),
  'split one frame': () => splitter.push(frame),
  'look at one event': () => watch?.look(frame.toString('utf8', 6, frame.length - 2)),
  'look at one of Messages': () => messagesWatch?.look(messagesData),
  'translate it into chat': () => translator.change(messagesFrame),
  'look for the key in one': () => redact?.(frame),
  'scrub one log line': () => scrubber.text(line),
}

/** From Messages into chat, as for the request above. */
function beginTranslation(): Translator {
  const provider = snapshot.providers.get('p')
  const deployment = snapshot.tiers.get('t')?.deployments[0]
  if (provider === undefined || deployment === undefined) throw new Error('no deployment')
  const wires = createWires({ formats, request, nowSeconds: () => 1, nextId: (prefix) => prefix })
  const wire = wires.of({ ...deployment, provider: { ...provider, format: 'anthropic' } }, undefined)
  if (wire.translation === undefined) throw new Error('nothing is translated')
  return wire.translation.begin()
}

/** Microseconds a call, over about `ROUND_MS`. */
function time(step: () => unknown): number {
  let calls = 0
  const startedMs = performance.now()
  let elapsedMs = 0
  while (elapsedMs < ROUND_MS) {
    for (let i = 0; i < 100; i += 1) step()
    calls += 100
    elapsedMs = performance.now() - startedMs
  }
  return (elapsedMs * 1000) / calls
}

const samples = new Map(Object.keys(steps).map((name) => [name, [] as number[]]))
for (let round = 0; round < ROUNDS; round += 1) {
  for (const [name, step] of Object.entries(steps)) samples.get(name)?.push(time(step))
  if (process.stderr.isTTY) process.stderr.write(`\rround ${round + 1} of ${ROUNDS}`)
}
if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
process.stdout.write(`${'step'.padEnd(26)}   median      min      max  (µs)\n`)
for (const [name, all] of samples) {
  const sorted = all.toSorted((a, b) => a - b)
  const figures = [sorted[ROUNDS >> 1], sorted[0], sorted.at(-1)].map((us) =>
    (us ?? 0).toFixed(2).padStart(8),
  )
  process.stdout.write(`${name.padEnd(26)} ${figures.join(' ')}\n`)
}
