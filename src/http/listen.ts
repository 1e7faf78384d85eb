// The front door: one HTTP server for agents. Model endpoints are taken here, ahead of hono, which serves everything
// else. The server outlives reloads; what answers is asked for anew with every request.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { BlockList, isIP, type Socket } from 'node:net'
import { type Bag, createBag, type Seat } from '../bytes/bag.ts'
import { type Batch, createBatch } from '../bytes/batch.ts'
import { Ending } from '../bytes/ending.ts'
import { GatewayError, toGatewayError } from '../errors.ts'
import type { ClientSide } from '../formats/format.ts'
import { formats } from '../formats/index.ts'
import { openai } from '../formats/openai.ts'
import type { Arrival, Clock, Endpoint, Reply } from '../types.ts'
import { Body, type BodyBudget, type Sweep, type Watched } from './body.ts'
import { type Scrub, toErrorAnswer } from './error-body.ts'
import { type Head, MAX_HEADERS, readHead } from './head.ts'
import { type AnswerKeeper, Incoming, Outgoing } from './message.ts'
import { findEndpoint, toRoutePath } from './operations.ts'
import { createReply, LINGER_MS, type OwnReply, type ReplyDeps } from './reply.ts'

/** What the process is doing, as the front door must know it. */
export interface Phase {
  /**
   * `closing`: the listener is gone. What had reached us before that is still answered, as no balancer would ask elsewhere
   * behind a refusal; its connection ends with that.
   */
  readonly now: 'starting' | 'ready' | 'draining' | 'closing'
}

export interface FrontDoorDeps {
  readonly clock: Clock
  readonly sweep: Sweep
  readonly budget: BodyBudget
  readonly phase: Phase
  readonly scrub: Scrub
  /** Makes request ids. */
  readonly nextId: () => string
  /** Streamed answers under way. */
  readonly counts: { streams: number }
  /** Answers that have not left completely; looked at once a second, and told at the end of a drain. */
  readonly active: Bag<Active>
  readonly maxConnections: number
  /** Proxies whose `x-forwarded-for` is believed. */
  readonly trusted: () => BlockList
  /** The gateway as it is now. */
  readonly handle: (arrival: Arrival, reply: Reply) => Promise<void>
  /** Everything that is no model endpoint. */
  readonly other: (req: IncomingMessage, res: ServerResponse, visit: Visit) => void
  /** A request that was refused before it had a route, by its wire code. */
  readonly onFault: (fault: EarlyFault) => void
}

interface Inside extends FrontDoorDeps {
  /** Replies that have something to send. */
  readonly departures: Batch<OwnReply>
}

/** An answer under way. */
export interface Active extends Watched {
  readonly res: ServerResponse
  readonly reply: OwnReply
  /** Ends its request, or tells whoever waits for the answer where nothing runs for one. */
  cut(cause: Error): void
}

/** A request that ended before it had a path through the gateway. */
export interface EarlyFault {
  readonly id: string
  readonly status: number
  /** The wire code. */
  readonly code: string
  readonly address: string
}

/** A request that is not for a model, as the app sees it. */
export interface Visit {
  readonly id: string
  readonly bearer: string | undefined
  /** Path without query and `/v1`. */
  readonly path: string
  readonly address: string
}

/** An answer that has been the only one of its turn so often in a row is not held back for others. */
const ALONE_AFTER_TURNS = 8
const MAX_HEADER_BYTES = 16 * 1024
const HEAD_TIMEOUT_MS = 10_000
const REQUEST_TIMEOUT_MS = 300_000
/** Longer than the idle time of the usual load balancers (60 s), so that they close first and never meet a reset. */
const KEEP_ALIVE_MS = 75_000

/** A caller who takes nothing for this long while we have something for it is a dead reader. */
const STALL_MS = 30_000

/** An unwanted body up to this size is read to its end, so that the connection can be kept: if it comes soon. */
const SMALL_BODY_BYTES = 64 * 1024

/** What is known of a connection, so that one request on it never gets two answers, nor another's. */
interface Line {
  /** The answers under way. */
  readonly answers: Active[]
  /** One of the answers that have left has said that it was the last. */
  isOver: boolean
  /** The request that got its answer while its body was on its way; nothing behind it has been read. */
  answered: Incoming | undefined
}

export function createFrontDoor(outside: FrontDoorDeps): Server {
  const departures = createBatch((reply: OwnReply) => reply.flush(), { aloneAfter: ALONE_AFTER_TURNS })
  const deps: Inside = { ...outside, departures }
  const server = createServer({
    IncomingMessage: Incoming,
    ServerResponse: Outgoing,
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: HEAD_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionsCheckingInterval: 1000,
    // We answer a missing Host ourselves, in the shape clients read.
    requireHostHeader: false,
    insecureHTTPParser: false,
    noDelay: true,
  })
  server.maxHeadersCount = MAX_HEADERS + 1
  server.maxConnections = deps.maxConnections
  server.timeout = 0
  const lines = new WeakMap<Socket, Line>()

  function onRequest(req: Incoming, res: Outgoing): void {
    const { socket } = req
    req.isTaken = true
    let line = lines.get(socket)
    if (line === undefined) {
      line = { answers: [], isOver: false, answered: undefined }
      lines.set(socket, line)
    } else if (isEnding(line)) {
      // Once everybody has heard of it.
      setImmediate(abandon, res)
      return
    }
    line.answered = undefined
    const call = new Call(req, res, line, deps)
    try {
      call.head = readHead(
        {
          method: req.method ?? '',
          target: req.url ?? '',
          httpVersion: req.httpVersion,
          rawHeaders: req.rawHeaders,
        },
        FORWARDABLE,
      )
      take(call, call.head, toRoutePath(call.head.target))
    } catch (error) {
      const { id, reply } = call
      reply.fail(error)
      const address = addressOf(req, call.head)
      deps.onFault({ id, status: reply.status, code: toGatewayError(error).code, address })
    }
  }

  function addressOf(req: IncomingMessage, head: Head | undefined): string {
    return callerAddress(req.socket.remoteAddress ?? '', head?.forwardedFor, deps.trusted())
  }

  function take(call: Call, head: Head, path: string): void {
    const { req, res, reply } = call
    const endpoint = findEndpoint(path)
    call.client = clientOf(endpoint)
    if (path === '/responses' && head.upgrade !== undefined && WEBSOCKET.test(head.upgrade)) {
      // Codex tries a WebSocket first and falls back to HTTP at once on exactly this status.
      reply.header('upgrade', 'HTTP/1.1')
      throw new GatewayError('upgrade_required', 'WebSocket is not offered here; send the request over HTTP.')
    }
    if (endpoint === undefined || req.method === 'OPTIONS') {
      req.url = path
      deps.other(req, res, { id: call.id, bearer: head.bearer, path, address: addressOf(req, head) })
      return
    }
    if (req.method !== endpoint.method) {
      reply.header('allow', endpoint.method)
      throw new GatewayError('method_not_allowed', `This endpoint takes ${endpoint.method}.`)
    }
    call.arrived = new Arrived(call, head, { endpoint, address: addressOf(req, head) })
    void deps.handle(call.arrived, reply)
  }

  server.on('request', onRequest)
  // A client that waits for 100-continue gets it when its body is wanted, and a refusal otherwise.
  server.on('checkContinue', onRequest)
  server.on('checkExpectation', onRequest)
  server.on('connect', (_req, stream) => {
    const socket = stream as Socket
    const line = lines.get(socket)
    const waiting = [...(line?.answers ?? [])]
    if (line?.isOver) socket.destroySoon()
    else if (waiting.length === 0) {
      refuse(socket, new GatewayError('method_not_allowed', 'This is no proxy for connections.'))
    } else {
      // What was to leave at the end of this turn is an answer all the same.
      const isWritten = waiting.every(({ reply }) => reply.written)
      for (const { reply } of waiting) reply.flush()
      // Node has let go of the connection, so that nobody tells the answers queued on it (pipelining) that it ends.
      for (const { res } of waiting) abandon(res)
      if (isWritten) socket.destroySoon()
      else socket.destroy()
    }
  })
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    const fault = toParserFault(error)
    const line = lines.get(socket)
    const answers = (line?.answers ?? []).map(({ reply }) => reply)
    if (!socket.writable || socket.destroyed || fault === undefined) socket.destroy()
    // What is broken is the rest of a request that has had its answer, or stands behind the last one.
    else if (answers.length === 0 && (line?.isOver || line?.answered?.complete === false)) {
      socket.destroySoon()
    } else if (answers.length === 0 || (answers.length === 1 && answers[0]?.committed === false)) {
      refuse(socket, fault)
    } else if (answers.every((answer) => answer.written)) {
      // The refusal of a head whose body turns out to be broken as well must still arrive.
      for (const answer of answers) answer.flush()
      socket.destroySoon()
    } else {
      // In the middle of an answer nothing else can be said on this connection.
      socket.destroy()
    }
  })
  // Bodies that come too slowly: so that no request has a seat of its own for what is mostly over at once.
  deps.sweep.add({
    check(nowMs) {
      for (const one of deps.active.list()) one.check(nowMs)
    },
  })
  server.on('connection', (socket: Socket) => {
    const watched = createStallWatch(socket, deps.clock)
    const seat = deps.sweep.add(watched)
    socket.on('close', () => deps.sweep.remove(seat))
  })

  /** Answers on a connection that Node has no response for, and ends it. */
  function refuse(socket: Socket, fault: GatewayError): void {
    const id = deps.nextId()
    const answer = toErrorAnswer(fault, id, deps.scrub)
    deps.onFault({ id, status: answer.status, code: fault.code, address: socket.remoteAddress ?? '' })
    const lines = [
      `HTTP/1.1 ${answer.status} ${STATUS_TEXT[answer.status] ?? 'Bad Request'}`,
      `x-request-id: ${id}`,
    ]
    for (let i = 0; i < answer.headers.length; i += 2)
      lines.push(`${answer.headers[i]}: ${answer.headers[i + 1]}`)
    lines.push('connection: close', '', '')
    socket.on('error', () => {})
    socket.end(Buffer.concat([Buffer.from(lines.join('\r\n'), 'latin1'), answer.body]), () =>
      socket.destroy(),
    )
  }
  return server
}

/** A request under way, and what its reply asks of it: one object, for there is one with each request. */
class Call implements Active, AnswerKeeper, ReplyDeps {
  readonly req: Incoming
  readonly res: Outgoing
  readonly id: string
  readonly reply: OwnReply
  readonly deps: Inside
  head: Head | undefined = undefined
  /** What runs for it; undefined where nothing does. */
  arrived: Arrived | undefined = undefined
  readonly #line: Line
  readonly #seat: Seat<Active>
  #client: ClientSide | undefined = undefined

  constructor(req: Incoming, res: Outgoing, line: Line, deps: Inside) {
    this.req = req
    this.res = res
    this.id = deps.nextId()
    this.deps = deps
    this.reply = createReply(res, this)
    this.#line = line
    this.#seat = deps.active.add(this)
    line.answers.push(this)
    res.keeper = this
    res.on('close', onClose)
    res.on('error', ignore) // the caller's connection: its end is seen by 'close'
  }

  closed(): void {
    const { req, res } = this
    const { answers } = this.#line
    const at = answers.indexOf(this)
    if (at < 0) return
    answers.splice(at, 1)
    if (this.reply.isLast) this.#line.isOver = true
    this.deps.active.remove(this.#seat)
    this.reply.closed()
    if (!res.writableFinished) this.arrived?.gone()
    else if (!req.complete) {
      this.#line.answered = req
      endUnlessComplete(req)
    }
  }

  drained(): void {
    this.reply.onDrain?.()
  }

  check(nowMs: number): void {
    this.arrived?.body.check(nowMs)
  }

  cut(cause: Error): void {
    if (this.arrived === undefined) this.reply.fail(cause)
    else this.arrived.end(cause)
  }

  get requestId(): string {
    return this.id
  }

  get counts(): FrontDoorDeps['counts'] {
    return this.deps.counts
  }

  get departures(): Batch<OwnReply> {
    return this.deps.departures
  }

  get scrub(): Scrub {
    return this.deps.scrub
  }

  get bearer(): string | undefined {
    return this.head?.bearer
  }

  closing(): boolean {
    const { now } = this.deps.phase
    return now === 'draining' || now === 'closing'
  }

  /** Whoever is refused before his head is understood has called somewhere all the same. */
  get client(): ClientSide {
    this.#client ??= clientOf(findEndpoint(toRoutePath(this.req.url ?? '')))
    return this.#client
  }

  set client(client: ClientSide) {
    this.#client = client
  }

  bodyRead(): boolean {
    return this.req.complete
  }

  bodySoon(): boolean {
    return this.head !== undefined && comesSoon(this.head)
  }
}

function onClose(this: Outgoing): void {
  this.keeper?.closed()
}

function ignore(): void {}

/** A request for a model, as the gateway gets it. */
class Arrived implements Arrival {
  readonly id: string
  readonly endpoint: Endpoint
  readonly bearer: string | undefined
  readonly startedMs: number
  readonly timeoutMs: number | undefined
  readonly signal = new Ending()
  readonly address: string
  readonly traceparent: string | undefined
  readonly tracestate: string | undefined
  readonly contentType: string | undefined
  readonly forwarded: readonly string[]
  readonly body: Body

  constructor(
    { req, res, id, client, deps }: Call,
    head: Head,
    { endpoint, address }: Pick<Arrival, 'endpoint' | 'address'>,
  ) {
    const isForm = client.fields.isForm === true
    this.id = id
    this.endpoint = endpoint
    this.bearer = head.bearer
    this.startedMs = deps.clock.now()
    this.timeoutMs = head.timeoutMs
    this.address = address
    this.traceparent = head.traceparent
    this.tracestate = head.tracestate
    this.contentType = isForm ? head.contentType : undefined
    this.forwarded = toForwarded(head, client.forwards)
    this.body = new Body(req, res, { head, isForm }, deps)
  }

  end(cause: Error): void {
    this.signal.abort(cause)
    this.body.stop(cause)
  }

  /** The caller has gone. */
  gone(): void {
    this.signal.abort()
    this.body.gone()
  }
}

/** The format of whoever calls there: OpenAI's where there is no model endpoint. */
function clientOf(endpoint: Endpoint | undefined): ClientSide {
  return (endpoint && formats.get(endpoint.format)?.client) ?? openai.client
}

/** Names and versions, and nothing that another header could be made of. */
const FORWARDED_VALUE = /^[\x21-\x7e](?:[\x20-\x7e]{0,4094}[\x21-\x7e])?$/
/** Java's client offers `h2c` with every request over plain HTTP: nobody is refused for that. */
const WEBSOCKET = /\bwebsocket\b/i

/** Headers that some format passes on. */
const FORWARDABLE: ReadonlySet<string> = new Set(
  [...formats.values()].flatMap(({ client }) => client?.forwards ?? []),
)
const NOTHING_FORWARDED: readonly string[] = []

function toForwarded(head: Head, names: readonly string[] | undefined): readonly string[] {
  let forwarded: string[] | undefined
  for (const name of names ?? NOTHING_FORWARDED) {
    const value = head.forwardable(name)
    if (value !== undefined && FORWARDED_VALUE.test(value)) (forwarded ??= []).push(name, value)
  }
  return forwarded ?? NOTHING_FORWARDED
}

const STATUS_TEXT: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Content Too Large',
  431: 'Request Header Fields Too Large',
}

/**
 * Whether a body that nobody wants is worth waiting for. One announced with `Expect` is not: the caller may send it
 * or its next request, and what comes could be read as either.
 */
function comesSoon({ contentLength, expect }: Head): boolean {
  return expect === undefined && contentLength !== undefined && contentLength <= SMALL_BODY_BYTES
}

/** RFC 9112 §9.6: nothing that stands behind an answer with `connection: close` is processed. */
function isEnding({ answers, isOver }: Line): boolean {
  if (isOver) return true
  for (const { reply } of answers) if (reply.isLast) return true
  return false
}

/** Tells an answer that is queued behind another that its connection ends without it. */
function abandon(res: ServerResponse): void {
  if (res.socket !== null) return
  res.destroy()
  res.emit('close')
}

/**
 * Ends a connection whose request has been answered while its body was on its way, unless the rest comes soon. The
 * answer may have promised more; to a caller it is an idle connection that was closed, which can happen at any time
 * (RFC 9112 §9.5). Until the body is over nothing behind it has been read, so that nothing else ends with it.
 */
function endUnlessComplete(req: Incoming): void {
  const { socket } = req
  const timer = setTimeout(() => {
    if (!req.complete) socket.destroySoon()
  }, LINGER_MS)
  timer.unref()
}

/**
 * Ends a connection whose caller takes nothing of what has been written for it, whatever wrote it: a stream that is
 * paused, the rest of an answer that is complete for us, or answers to requests sent without reading any.
 */
function createStallWatch(socket: Socket, clock: Clock): Watched {
  let taken = 0
  let sinceMs = clock.now()
  return {
    check(nowMs) {
      const takenNow = socket.writableLength === 0 ? -1 : socket.bytesWritten - socket.writableLength
      if (takenNow === -1 || takenNow !== taken) sinceMs = nowMs
      else if (nowMs - sinceMs > STALL_MS) socket.destroy()
      taken = takenNow
    },
  }
}

/** What Node's parser found, in our words; undefined for a connection that simply broke. Its raw packet is never read. */
function toParserFault(error: NodeJS.ErrnoException): GatewayError | undefined {
  switch (error.code) {
    case 'ECONNRESET':
    case 'EPIPE':
      return undefined
    case 'HPE_HEADER_OVERFLOW':
      return new GatewayError(
        'headers_too_large',
        `The request head is larger than ${MAX_HEADER_BYTES} bytes or has more than ${MAX_HEADERS} lines.`,
      )
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new GatewayError('request_too_large', 'The chunk extensions of the request are too large.')
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new GatewayError('request_timeout', 'The request came too slowly.')
    default:
      return new GatewayError('invalid_request', 'The request is not valid HTTP/1.1.')
  }
}

/**
 * Who calls, behind the proxies that are trusted: the rightmost address of `x-forwarded-for` that is not one of them.
 * Only for the log: whoever connects from elsewhere can write anything into that header.
 */
export function callerAddress(peer: string, forwardedFor: string | undefined, trusted: BlockList): string {
  if (forwardedFor === undefined || !isTrusted(peer, trusted)) return peer
  const hops = forwardedFor.split(',').map((hop) => hop.trim())
  for (let i = hops.length - 1; i >= 0; i -= 1) {
    const hop = hops[i] as string
    if (isIP(hop) === 0) return peer
    if (!isTrusted(hop, trusted)) return hop
  }
  return peer
}

function isTrusted(address: string, trusted: BlockList): boolean {
  const plain = address.startsWith('::ffff:') ? address.slice(7) : address
  const version = isIP(plain)
  return version !== 0 && trusted.check(plain, version === 6 ? 'ipv6' : 'ipv4')
}

/** CIDR ranges and single addresses as a list to check against. */
export function toBlockList(ranges: readonly string[]): BlockList {
  const list = new BlockList()
  for (const range of ranges) {
    const [address = '', prefix] = range.split('/')
    const version = isIP(address)
    if (version === 0) continue
    const family = version === 6 ? 'ipv6' : 'ipv4'
    list.addSubnet(address, prefix === undefined ? (version === 6 ? 128 : 32) : Number(prefix), family)
  }
  return list
}

/** One timer for everything that must be looked at once a second. */
export function createSweep(clock: Clock, everyMs = 1000): Sweep & { stop(): void } {
  const watched = createBag<Watched>()
  const timer = setInterval(() => {
    const nowMs = clock.now()
    for (const one of watched.list()) one.check(nowMs)
  }, everyMs)
  timer.unref()
  return {
    add: watched.add,
    remove: watched.remove,
    stop: () => clearInterval(timer),
  }
}
