// Makes calls to a kind of deployment and writes down what its receiver is told.

import { Readable } from 'node:stream'
import type { HeaderLookup } from '../../../../src/formats/format.ts'
import type {
  Deployment,
  Limits,
  ModelRequest,
  Operation,
  Provider,
  Simulate,
  Tier,
} from '../../../../src/types.ts'
import type { Control, Exchange, Kind, Receiver } from '../../../../src/upstream/kind.ts'

export interface Call {
  readonly control: Control
  /** Names of the receiver's calls, in order; one `data` for each chunk. */
  readonly events: string[]
  readonly text: () => string
  readonly status: number | undefined
  readonly header: HeaderLookup | undefined
  readonly error: (Error & { code?: string }) | undefined
  onData: (() => void) | undefined
}

export interface Asked {
  readonly body: unknown
  readonly model?: string
  readonly provider?: string
  readonly operation?: Operation
  readonly simulate?: Partial<Simulate>
  readonly text?: string
  /** Sends the body as a stream of pieces of this many bytes. */
  readonly pieceBytes?: number
  /** Sends this stream, and says of it what is true of `body`. */
  readonly replaceBody?: Readable
  readonly request?: Partial<ModelRequest>
}

const NONE: Limits = { strict: false }

export function call(kind: Kind, asked: Asked): Call {
  const events: string[] = []
  const chunks: Buffer[] = []
  const told: { status?: number; header?: HeaderLookup; error?: Error } = {}
  const hooks: { onData?: (() => void) | undefined } = {}
  const receiver: Receiver = {
    started: () => events.push('started'),
    head(status, header) {
      events.push('head')
      told.status = status
      told.header = header
    },
    data(chunk) {
      events.push('data')
      chunks.push(chunk)
      hooks.onData?.()
    },
    end: () => events.push('end'),
    failed(error) {
      events.push('failed')
      told.error = error
    },
  }
  const control = kind(toExchange(asked), receiver)
  if (events.length > 0) throw new Error('a kind must not answer before it has returned')
  return {
    control,
    events,
    text: () => Buffer.concat(chunks).toString(),
    get status() {
      return told.status
    },
    get header() {
      return told.header
    },
    get error() {
      return told.error
    },
    get onData() {
      return hooks.onData
    },
    set onData(hook: (() => void) | undefined) {
      hooks.onData = hook
    },
  }
}

function toExchange({
  body,
  model = 'sim-1',
  provider = 'lab',
  operation = 'chat',
  ...asked
}: Asked): Exchange {
  const bytes = typeof body === 'string' ? Buffer.from(body) : Buffer.from(JSON.stringify(body))
  const simulate = { latencyMs: 0, paceMs: 0, fault: undefined, ...asked.simulate }
  const deployment = toDeployment(provider, model, { simulate, text: asked.text })
  const format = 'openai'
  const path = operation === 'chat' ? '/chat/completions' : '/embeddings'
  const request: ModelRequest = {
    endpoint: { method: 'POST', path, operation, format, streams: true },
    model,
    stream: false,
    includeUsage: false,
    maxOutputTokens: undefined,
    plainText: true,
    choices: 1,
    textBytes: bytes.length,
    images: 0,
    cacheKey: undefined,
    body: bytes,
    letGo: () => {},
    spans: new Map(),
    restrictedFields: [],
    forwarded: [],
    ...asked.request,
  }
  return {
    candidate: {
      tier: toTier(deployment),
      deployment,
      callee: deployment.name,
      barred: undefined,
      doubt: undefined,
    },
    request,
    model,
    path,
    headers: [],
    body:
      asked.replaceBody ??
      (asked.pieceBytes === undefined
        ? bytes
        : Readable.from(toPieces(bytes, asked.pieceBytes), { objectMode: false })),
    bodyBytes: bytes.length,
  }
}

function toDeployment(
  name: string,
  model: string,
  { simulate, text }: { simulate: Simulate; text: string | undefined },
): Deployment {
  const provider: Provider = {
    name,
    format: 'openai',
    kind: 'simulated',
    tracedAs: 'simulated',
    baseUrl: '',
    proxy: undefined,
    keys: [],
    keyHours: undefined,
    rotateMs: undefined,
    headers: {},
    alsoSpeaks: new Set(),
    options: {},
    allowFields: new Set(),
    limits: NONE,
    health: undefined,
    simulate,
  }
  const isReply = text !== undefined
  return {
    name: `${name}/${model}`,
    kind: isReply ? 'reply' : 'simulated',
    provider: isReply ? undefined : provider,
    model,
    weight: 1,
    contextWindow: undefined,
    price: undefined,
    listPrices: [],
    prefill: false,
    limits: NONE,
    text,
  }
}

function toTier(deployment: Deployment): Tier {
  return {
    name: 'only',
    deployments: [deployment],
    balance: 'weighted',
    firstTokenMs: 15_000,
    firstTokenLeastMs: undefined,
    firstByteMs: 300_000,
    idleMs: 30_000,
    attemptMs: 300_000,
    connectMs: 5_000,
    hedge: undefined,
    retries: 1,
    patienceMs: 0,
    needsReview: false,
  }
}

function* toPieces(bytes: Buffer, pieceBytes: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes)
}
