// The fault matrix: what a provider can do wrong, and what comes of it. One definition for the test that plays every
// row through real sockets and the official SDK, and for the table of deploy/failover.md.

import { gzipSync } from 'node:zlib'
import {
  answer,
  type Behaviour,
  contentFilter,
  contextLengthExceeded,
  cutAfter,
  DEFAULT_TEXT,
  empty200,
  errorIn200,
  headersOnly,
  inBandErrorAfterContent,
  inBandErrorFirst,
  keepAlivesOnly,
  malformedEventFirst,
  malformedEventMiddle,
  noDone,
  noFinishReason,
  rateLimited,
  resetBeforeHeaders,
  retryAfter,
  silent,
  slowFirstToken,
  stallAfter,
  status,
  stream,
  toFrame,
  wrongContentType,
} from './scripted-provider.ts'

/** What the first provider is. */
export type Played =
  | { readonly kind: 'script'; readonly script: Behaviour | readonly Behaviour[] }
  /** Nobody listens; the name has no address; the certificate is nobody's. */
  | { readonly kind: 'refused' | 'dns' | 'tls' }

/** What comes of one request. */
export interface Seen {
  /** What the caller sees. */
  readonly caller: string
  /** Calls to the first provider, and to the one of the next tier. */
  readonly calls: readonly [first: number, next: number]
  /** Reasons of the attempts, in order. */
  readonly reasons: string
  /** What the caller waits for longer than without the fault, by the names of the settings. */
  readonly added: Added
}

export type Added =
  | 'nothing'
  | 'a pause of up to 100 ms'
  | 'a pause of up to 500 ms'
  | 'the wait told'
  | keyof typeof WAITS

/** The settings that the matrix is played with, in ms. */
export const WAITS = { firstToken: 300, firstByte: 300, idle: 300 } as const

export interface Row {
  readonly fault: string
  readonly first: Played
  /** What the next tier does; answers well by default. */
  readonly next?: Behaviour
  /** Merged over the first tier, over its provider and over its deployment. */
  readonly tier?: Readonly<Record<string, unknown>>
  readonly keys?: number
  readonly windows?: readonly [first: number, next: number]
  /** The route says `midStream: resume`; merged over the deployment of the next tier. */
  readonly resume?: Readonly<Record<string, unknown>>
  /** Merged over what the caller asks. */
  readonly ask?: Readonly<Record<string, unknown>>
  /** Undefined where the fault is one of streams only. */
  readonly whole?: Seen
  readonly stream: Seen
}

const FIRST = 'the answer'
const NEXT = 'the answer of the next tier'
const BROKEN = 'what came, then the error `upstream_incomplete`'
const NOBODY = '503 `upstream_failed`'
export const RESUMED = 'the whole answer, the next tier goes on with it'

const play = (...script: Behaviour[]): Played => ({ kind: 'script', script })

function moved(reason: string, added: Added = 'nothing'): Seen {
  return { caller: NEXT, calls: [1, 1], reasons: `${reason}, 200`, added }
}

/** Once more at the same deployment, then on. */
function retried(reason: string, added: Added = 'a pause of up to 100 ms'): Seen {
  return { caller: NEXT, calls: [2, 1], reasons: `${reason}, ${reason}, 200`, added }
}

const resumed = (reason: string): Seen => ({
  caller: RESUMED,
  calls: [1, 1],
  reasons: `${reason}, 200`,
  added: 'idle',
})

const both = (seen: Seen): { whole: Seen; stream: Seen } => ({ whole: seen, stream: seen })
const again = (reason: string): Seen => ({
  caller: FIRST,
  calls: [2, 0],
  reasons: `${reason}, 200`,
  added: 'a pause of up to 100 ms',
})
const broken = (reason: string, added: Added = 'nothing'): Seen => ({
  caller: BROKEN,
  calls: [1, 0],
  reasons: reason,
  added,
})
const fine: Seen = { caller: FIRST, calls: [1, 0], reasons: '200', added: 'nothing' }
const passedOn = (caller: string): Seen => ({ caller, calls: [1, 0], reasons: '400', added: 'nothing' })

/** Answers as if it had itself said the last message. */
function goesOn(): Behaviour {
  return {
    run(call) {
      const said = String(call.chat.messages.at(-1)?.content)
      if (!DEFAULT_TEXT.startsWith(said)) throw new Error(`nothing to go on with: ${said}`)
      return answer({ text: DEFAULT_TEXT.slice(said.length) }).run(call)
    },
  }
}

const TRUNCATED_GZIP: Behaviour = {
  run(call) {
    const body = gzipSync(Buffer.from(JSON.stringify({ choices: [] })))
    call.head(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' })
    call.end(body.subarray(0, body.length >> 1))
  },
}

/** A head, and the beginning of the first event. */
const RESET_IN_FIRST_EVENT = stream([toFrame({ choices: [] }).subarray(0, 12), { cut: 'reset' }])

export const FAULT_MATRIX: readonly Row[] = [
  // --- rate limits
  { fault: '429, `retry-after` in seconds', first: play(rateLimited(2)), ...both(moved('429')) },
  {
    fault: '429, `retry-after` as a date',
    first: play({ run: (call) => rateLimited(new Date(Date.now() + 3_000)).run(call) }),
    ...both(moved('429')),
  },
  { fault: '429, `retry-after-ms`', first: play(rateLimited('250ms')), ...both(moved('429')) },
  { fault: '429 without a word of when', first: play(rateLimited()), ...both(moved('429')) },
  {
    fault: '429 within the `patience` of the tier',
    first: play(rateLimited('200ms'), answer()),
    tier: { patience: '1s' },
    ...both({ caller: FIRST, calls: [2, 0], reasons: '429, 200', added: 'the wait told' }),
  },
  {
    fault: '503, `retry-after` in seconds',
    first: play(status(503, undefined, retryAfter(2))),
    ...both(moved('503')),
  },
  {
    fault: '429 for one of two keys',
    first: play(rateLimited(2), answer()),
    keys: 2,
    ...both({ caller: FIRST, calls: [2, 0], reasons: '429, 200', added: 'nothing' }),
  },
  // --- statuses
  { fault: '500, once', first: play(status(500), answer()), ...both(again('500')) },
  { fault: '500, again and again', first: play(status(500)), ...both(retried('500')) },
  { fault: '502, again and again', first: play(status(502)), ...both(retried('502')) },
  { fault: '503, again and again', first: play(status(503)), ...both(moved('503')) },
  { fault: '504, again and again', first: play(status(504)), ...both(retried('504')) },
  { fault: '529, again and again', first: play(status(529)), ...both(moved('529')) },
  { fault: '408', first: play(status(408)), ...both(moved('408')) },
  {
    fault: '401 for one of two keys',
    first: play(status(401), answer()),
    keys: 2,
    ...both({ ...again('401'), added: 'nothing' }),
  },
  { fault: '401 for all keys', first: play(status(401)), keys: 2, ...both(retried('401', 'nothing')) },
  { fault: '403 for the only key', first: play(status(403)), ...both(moved('403')) },
  { fault: '404', first: play(status(404)), ...both(moved('404')) },
  // --- connections
  {
    fault: 'connection refused',
    first: { kind: 'refused' },
    ...both({ ...moved('refused'), calls: [0, 1] }),
  },
  { fault: 'no such host', first: { kind: 'dns' }, ...both({ ...moved('dns'), calls: [0, 1] }) },
  {
    fault: 'a certificate that nobody vouches for',
    first: { kind: 'tls' },
    ...both({ ...moved('tls'), calls: [0, 1] }),
  },
  { fault: 'reset before the head', first: play(resetBeforeHeaders()), ...both(retried('reset')) },
  {
    fault: 'reset before the head, once',
    first: play(resetBeforeHeaders(), answer()),
    ...both(again('reset')),
  },
  {
    fault: 'closed before the head, once (a stale connection)',
    first: play(resetBeforeHeaders('fin'), answer()),
    ...both(again('reset')),
  },
  { fault: 'reset behind the head', first: play(cutAfter({ frames: 0 })), ...both(retried('reset')) },
  {
    fault: 'reset in the first event',
    first: play(RESET_IN_FIRST_EVENT),
    whole: { ...retried('malformed'), reasons: 'malformed, malformed, 200' },
    stream: retried('reset'),
  },
  // --- silence
  {
    fault: 'a head and no body',
    first: play(headersOnly()),
    whole: moved('first_byte', 'firstByte'),
    stream: moved('first_token', 'firstToken'),
  },
  {
    fault: 'silence',
    first: play(silent()),
    whole: moved('first_byte', 'firstByte'),
    stream: moved('first_token', 'firstToken'),
  },
  {
    fault: 'a first token that is late',
    first: play(slowFirstToken(2_000)),
    whole: moved('first_byte', 'firstByte'),
    stream: moved('first_token', 'firstToken'),
  },
  {
    fault: 'keep-alives and nothing else',
    first: play(keepAlivesOnly(50)),
    whole: {
      ...moved('malformed'),
      calls: [2, 1],
      reasons: 'malformed, malformed, 200',
      added: 'a pause of up to 100 ms',
    },
    stream: moved('first_token', 'firstToken'),
  },
  // --- in the middle
  {
    fault: 'cut in the middle (reset)',
    first: play(cutAfter({ frames: 3 })),
    whole: retried('reset'),
    stream: broken('reset'),
  },
  {
    fault: 'cut in the middle (closed)',
    first: play(cutAfter({ frames: 3, how: 'fin' })),
    whole: retried('reset'),
    stream: broken('reset'),
  },
  {
    fault: 'ended in the middle as if it were whole',
    first: play(cutAfter({ frames: 3, how: 'orderly' })),
    whole: retried('malformed'),
    stream: broken('incomplete'),
  },
  {
    fault: 'a stall in the middle',
    first: play(stallAfter(3)),
    whole: moved('idle', 'idle'),
    stream: broken('idle', 'idle'),
  },
  // --- in the middle, on a route with `midStream: resume`
  {
    fault: '`resume`: a stall in the middle',
    first: play(stallAfter(3)),
    resume: {},
    stream: resumed('idle'),
  },
  {
    fault: '`resume`: a stall behind some reasoning',
    first: play(stallAfter(4, { reasoning: ['Let me', ' think.'] })),
    next: answer({ reasoning: ['Other', ' thoughts.'] }),
    resume: {},
    stream: resumed('idle'),
  },
  {
    fault: '`resume`: cut in the middle (reset)',
    first: play(cutAfter({ frames: 3 })),
    resume: {},
    stream: { ...resumed('reset, reset'), calls: [2, 1], added: 'a pause of up to 100 ms' },
  },
  {
    fault: '`resume`: an error event in the middle',
    first: play(inBandErrorAfterContent()),
    resume: {},
    stream: { ...resumed('in_band'), added: 'nothing' },
  },
  {
    fault: '`resume`, and a fallback with `prefill`',
    first: play(stallAfter(3)),
    next: goesOn(),
    resume: { prefill: true },
    stream: resumed('idle'),
  },
  {
    fault: '`resume`, and a fallback that rejects `prefill`',
    first: play(stallAfter(3)),
    next: status(400),
    resume: { prefill: 'prefix' },
    stream: { ...broken('idle, 400', 'idle'), calls: [1, 1] },
  },
  {
    fault: '`resume`, and a fallback that says something else',
    first: play(stallAfter(3)),
    next: answer({ text: 'Something else altogether.' }),
    resume: {},
    stream: { ...broken('idle, incomplete', 'idle'), calls: [1, 1] },
  },
  {
    fault: '`resume`, and the next tier breaks as well',
    first: play(stallAfter(3)),
    next: cutAfter({ frames: 5 }),
    resume: {},
    stream: { ...broken('idle, reset', 'idle'), calls: [1, 1] },
  },
  {
    fault: '`resume`: a stall in a tool call',
    first: play(stallAfter(3, { toolCalls: [{ name: 'look', args: { at: 'the sky' } }] })),
    resume: {},
    stream: broken('idle', 'idle'),
  },
  {
    fault: '`resume`: a stall in JSON mode',
    first: play(stallAfter(3)),
    resume: {},
    ask: { response_format: { type: 'json_object' } },
    stream: broken('idle', 'idle'),
  },
  // --- what is not an answer
  {
    fault: 'an event that is no JSON, first',
    first: play(malformedEventFirst()),
    ...both(retried('malformed')),
  },
  {
    fault: 'an event that is no JSON, in the middle',
    first: play(malformedEventMiddle()),
    whole: fine,
    stream: { ...fine, caller: 'the event as it came: SDKs raise on it' },
  },
  { fault: 'no `[DONE]`', first: play(noDone()), whole: fine, stream: fine },
  { fault: 'no finish reason', first: play(noFinishReason()), stream: broken('incomplete') },
  { fault: 'an empty 200', first: play(empty200()), ...both(retried('empty')) },
  { fault: 'a 200 with an error object', first: play(errorIn200()), ...both(moved('in_band')) },
  {
    fault: 'an error event first',
    first: play(inBandErrorFirst()),
    stream: moved('in_band'),
  },
  {
    fault: 'an error event in the middle',
    first: play(inBandErrorAfterContent()),
    stream: broken('in_band'),
  },
  { fault: 'a page of HTML', first: play(wrongContentType()), ...both(retried('malformed')) },
  { fault: 'a compressed answer, cut', first: play(TRUNCATED_GZIP), ...both(retried('malformed')) },
  // --- the caller's
  {
    fault: 'too long a prompt, no larger window',
    first: play(contextLengthExceeded()),
    ...both({ caller: '400 `context_length_exceeded`', calls: [1, 0], reasons: 'context', added: 'nothing' }),
  },
  {
    fault: 'too long a prompt, a larger window behind',
    first: play(contextLengthExceeded()),
    windows: [8_192, 128_000],
    ...both(moved('context')),
  },
  { fault: '400', first: play(status(400)), ...both(passedOn('400, in the words of the provider')) },
  {
    fault: '422',
    first: play(status(422)),
    ...both({ ...passedOn('422, in the words of the provider'), reasons: '422' }),
  },
  {
    fault: 'a content filter, as a 400',
    first: play(contentFilter({ as: 'status' })),
    ...both(passedOn('400 `content_filter`')),
  },
  {
    fault: 'a content filter, in the answer',
    first: play(contentFilter()),
    ...both({ ...fine, caller: 'the answer, `content_filter` its finish reason' }),
  },
  // --- everybody
  {
    fault: 'every tier answers 503',
    first: play(status(503)),
    next: status(503),
    ...both({ caller: NOBODY, calls: [1, 2], reasons: '503, 503, 503', added: 'a pause of up to 500 ms' }),
  },
  {
    fault: 'every tier is silent',
    first: play(silent()),
    next: slowFirstToken(900),
    whole: { ...moved('first_byte', 'firstByte'), caller: 'the answer of the next tier, however late' },
    stream: { ...moved('first_token', 'firstToken'), caller: 'the answer of the next tier, however late' },
  },
]

/** Of many requests, not of one: fault-matrix.test.ts and, for a minute under load, failover-suite.ts. */
const FLAPPING =
  '| flapping: well and ill (503) by turns, for a minute | both | an answer, of either tier, always | a failed call for each of the first five, then one at a time | `200`, or `503, 200` | – |'

/** The matrix as the table of deploy/failover.md. */
export function faultTable(): string {
  const cell = ({ caller, calls, reasons, added }: Seen): string =>
    [
      caller,
      `${calls.join(' + ')}`,
      `\`${reasons}\``,
      added in WAITS ? `\`${added}\`` : added === 'nothing' ? '–' : added,
    ].join(' | ')
  const lines = FAULT_MATRIX.flatMap(({ fault, whole, stream: streamed }) => {
    const isSame = whole !== undefined && JSON.stringify(whole) === JSON.stringify(streamed)
    if (isSame) return [`| ${fault} | both | ${cell(streamed)} |`]
    return [
      ...(whole === undefined ? [] : [`| ${fault} | whole | ${cell(whole)} |`]),
      `| ${fault} | stream | ${cell(streamed)} |`,
    ]
  })
  return [
    '| what the first tier does | reply | the caller sees | calls | reasons | added |',
    '|---|---|---|---|---|---|',
    ...lines,
    FLAPPING,
  ].join('\n')
}
