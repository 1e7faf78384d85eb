// Twenty thousand generated requests over raw sockets to a real gateway: it answers each from a closed set of statuses,
// never with a 5xx, and afterwards it is as it was.

import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { metricOf } from '../support/operator.ts'
import { parseResponses, rawRequest } from '../support/raw-http.ts'
import { createScriptedProvider, type ScriptedProvider } from '../support/scripted-provider.ts'
import { createRandom, fuzzSeed, type Random } from '../unit/bytes/random.ts'
import { requestBytes } from '../unit/http/raw-shapes.ts'
import { type GeneratedRequest, generateRequest } from '../unit/http/request-corpus.ts'

const seed = fuzzSeed()
const REQUESTS = 24_000
const CONNECTIONS = 50
const ALLOWED: ReadonlySet<number> = new Set([200, 204, 400, 401, 404, 405, 413, 415, 417, 426, 431])
/** After so long without a word the gateway waits for bytes that never come; then we go away. */
const SILENCE_MS = 60
/** OpenAI's, and that of Messages for who calls there. */
const SHAPES = [
  /^\{"error":\{"message":".+","type":"invalid_request_error","param":.+,"code":"\w+"\}\}$/s,
  /^\{"type":"error","error":\{"type":"(?:(?:invalid_request|authentication|permission|not_found)_error|request_too_large)","message":".+"\},"request_id":"req_\w+"\}$/s,
] as const
const STATUS_LINE = 'HTTP/1.1 '

let gateway: TestGateway
let provider: ScriptedProvider

beforeAll(async () => {
  provider = await createScriptedProvider({ record: 'count' })
  gateway = await startGateway({
    config: simpleConfig({ provider: provider.url, over: { listen: { maxBody: '64KiB' } } }),
  })
})
afterAll(async () => {
  await gateway.stop()
  // Every answer found its end: nothing is left that a drain would wait for.
  expect(gateway.stdout()).not.toContain('drain time is over')
  await provider.close()
})

/** One connection: as many framed requests as chance gives, and one last that may be anything. */
function batchOf(random: Random): GeneratedRequest[] {
  const batch: GeneratedRequest[] = []
  for (let left = 1 + random.below(8); left > 0; left -= 1) {
    const request = generateRequest(random, gateway.bearer)
    batch.push(request)
    if (!request.isFramed) break
  }
  return batch
}

/** Sends a batch at once, reads what comes until it is over, and goes away. */
function play(batch: readonly GeneratedRequest[], random: Random): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    const socket = connect({ port: gateway.port, host: '127.0.0.1', allowHalfOpen: true })
    const how = random.below(8)
    const leave = (): void => {
      if (how === 0) socket.resetAndDestroy()
      else socket.end()
    }
    let timer = setTimeout(leave, 2_000)
    const restart = (): void => {
      clearTimeout(timer)
      timer = setTimeout(leave, SILENCE_MS)
    }
    socket.on('connect', () => {
      socket.write(Buffer.concat(batch.map((request) => request.bytes)))
      // Some leave before anything can be answered.
      if (how === 1) socket.end()
      restart()
    })
    socket.on('data', (bytes) => {
      chunks.push(bytes)
      restart()
    })
    socket.on('end', () => socket.end())
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') reject(error)
    })
    socket.on('close', () => {
      clearTimeout(timer)
      resolve(Buffer.concat(chunks))
    })
  })
}

/** What is wrong with the answers to a batch; undefined when nothing is. */
function breach(
  batch: readonly GeneratedRequest[],
  raw: Buffer,
  statuses: Map<number, number>,
): string | undefined {
  const { responses, interim, rest } = parseResponses(
    raw,
    batch.map((request) => request.method),
  )
  // A caller who leaves early may have got no more than a 100, or a head that is cut. And a HEAD that is no HTTP is
  // told so with a body: nobody knows what it was, and the connection ends with it.
  const last = responses.at(-1)
  const isLastBody =
    last?.header('connection') === 'close' && last.header('content-length') === String(rest.length)
  if (!isLastBody && !STATUS_LINE.startsWith(rest.toString('latin1', 0, STATUS_LINE.length)))
    return `bytes that are no HTTP: ${JSON.stringify(rest.toString('latin1', 0, 200))}`
  const unasked = interim.find((status) => status !== 100)
  if (unasked !== undefined) return `an interim ${unasked}`
  const waiting = batch.filter((request) => /^expect: *100-continue/im.test(request.bytes.toString('latin1')))
  if (interim.length > waiting.length)
    return `${interim.length} times 100 for ${waiting.length} that wait for it`
  for (const response of responses) {
    statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1)
    if (!ALLOWED.has(response.status)) return `status ${response.status}`
    if (response.header('x-request-id') === undefined) return `a ${response.status} without x-request-id`
    if (response.status >= 400 && response.complete && response.body.length > 0) {
      const text = response.body.toString()
      if (!SHAPES.some((shape) => shape.test(text))) return `a ${response.status} in another shape: ${text}`
    }
  }
  return undefined
}

const inflight = (): Promise<number> => metricOf(gateway, 'sluice_inflight')

describe('a corpus of malformed requests', () => {
  it(`${REQUESTS} of them end in a closed set of statuses (SLUICE_FUZZ_SEED=${seed})`, {
    timeout: 120_000,
  }, async () => {
    const statuses = new Map<number, number>()
    const problems: string[] = []
    let sent = 0

    async function worker(number: number): Promise<void> {
      // Each connection has its own chances, so that a seed gives the same requests in whatever order they run.
      const random = createRandom(seed + number * 7919)
      while (sent < REQUESTS && problems.length === 0) {
        const batch = batchOf(random)
        sent += batch.length
        const wrong = breach(batch, await play(batch, random), statuses)
        if (wrong !== undefined) {
          const shown = batch.map((request) =>
            JSON.stringify(request.bytes.toString('latin1').slice(0, 2000)),
          )
          problems.push(`seed ${seed}, connection ${number}: ${wrong}\n${shown.join('\n')}`)
        }
      }
    }
    await Promise.all(Array.from({ length: CONNECTIONS }, (_, number) => worker(number)))
    expect(problems).toEqual([])
    expect(sent).toBeGreaterThanOrEqual(20_000)
    // The corpus reaches every place where a request can be refused.
    for (const status of ALLOWED)
      expect(statuses.get(status) ?? 0, `answers with ${status}`).toBeGreaterThan(0)

    const good = await rawRequest(gateway.port, requestBytes({ bearer: gateway.bearer }))
    expect(good.status).toBe(200)
    await expect.poll(inflight, { timeout: 5_000 }).toBe(0)
    await expect.poll(() => provider.active, { timeout: 5_000 }).toBe(0)
    expect(provider.faults).toEqual([])
    expect(gateway.stderr()).toBe('')
    const defects = gateway
      .stdout()
      .split('\n')
      .filter((line) => /unhandled|uncaught|internal error|"level":(50|60)/i.test(line))
    expect(defects).toEqual([])
  })
})
