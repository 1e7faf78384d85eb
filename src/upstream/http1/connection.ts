// One connection to a provider, over TCP or TLS: sends one request at a time and hears its answer. Bytes are read into one
// buffer that all connections share, and leave it as the copies that the receiver gets.

import { connect as connectTcp, isIP, type Socket, type SocketConstructorOpts } from 'node:net'
import type { Readable } from 'node:stream'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import type { Seat } from '../../bytes/bag.ts'
import { type Batch, createBatch, throwApart } from '../../bytes/batch.ts'
import type { HeaderLookup } from '../../formats/format.ts'
import type { Receiver } from '../kind.ts'
import { AnswerReader, type Sink } from './answer.ts'

/** Where a server is. */
export interface Origin {
  readonly host: string
  readonly port: number
  readonly isTls: boolean
}

/** A request, ready to be sent. */
export interface Request {
  /** Request line and headers, with the empty line behind them; latin1. */
  readonly head: string
  readonly body: Buffer | Readable | undefined
  /** What its head says of its body: a source that comes to anything else ends the connection. */
  readonly bodyBytes: number
}

/** What a connection asks of its pool. */
export interface Keeper {
  readonly origin: Origin
  readonly commons: Commons
  /** The TLS session of the last handshake, with which the next one is shorter. */
  session: Buffer | undefined
  /** Takes a connection that can be used again. */
  keep(connection: Connection, seconds: number): void
  /** Sends a request that has not left on another connection, a new one. */
  again(request: Request, receiver: Receiver): Connection
  /** A connection is gone. */
  gone(connection: Connection): void
}

/** A connection that takes longer than this is given up, whatever a tier says. */
export const CONNECT_LIMIT_MS = 10_000
const TCP_KEEP_ALIVE_MS = 60_000
/** Up to this many bytes head and body leave as one piece: a copy costs less than a second one. */
const ONE_PIECE_BYTES = 8 * 1024

const READ_BYTES = 64 * 1024

/** What all connections have together. */
export interface Commons {
  /**
   * Read into by all of them: the kernel's bytes are taken out of it before the next read. A buffer for each read would be
   * 64 KiB of garbage for a chunk of two hundred bytes.
   */
  readonly buffer: Buffer
  /** Those that have something to send. */
  readonly writes: Batch<Connection>
}

export function createCommons(): Commons {
  return {
    buffer: Buffer.allocUnsafeSlow(READ_BYTES),
    writes: createBatch((connection: Connection) => connection.flush()),
  }
}

/** The server ended the connection before its answer was whole. */
export class ConnectionClosed extends Error {
  override readonly name = 'ConnectionClosed'
  readonly code = 'ECONNRESET'
}

class ConnectTimeout extends Error {
  override readonly name = 'ConnectTimeout'
  readonly code = 'ETIMEDOUT'
}

export class Connection implements Sink {
  /** While it is idle: until which second of its pool it may be used. */
  usableUntil = 0
  isOpen = true
  /** Its place among all of its pool. */
  seat: Seat<Connection> | undefined = undefined
  readonly #keeper: Keeper
  readonly #socket: Socket
  readonly #reader: AnswerReader
  #receiver: Receiver | undefined = undefined
  /** Has not left: it waits for the connection, or for the end of the turn. */
  #waiting: Request | undefined = undefined
  #isConnected = false
  #isPaused = false
  /** All of the request has been handed to the socket. */
  #isSent = true
  /** A body on its way. */
  #source: Readable | undefined = undefined
  #error: Error | undefined = undefined
  /** Where the request went that had not left when this one ended. */
  #moved: Connection | undefined = undefined
  #timer: NodeJS.Timeout | undefined

  constructor(keeper: Keeper) {
    this.#keeper = keeper
    this.#reader = new AnswerReader(this)
    const socket = openSocket(keeper, (bytes) => this.#read(bytes))
    this.#socket = socket
    this.#timer = setTimeout(() => {
      this.#error = new ConnectTimeout('no connection in time')
      socket.destroy()
    }, CONNECT_LIMIT_MS)
    socket.once(keeper.origin.isTls ? 'secureConnect' : 'connect', () => this.#connected())
    socket.on('end', () => this.#ended())
    socket.on('error', (error: Error) => {
      this.#error ??= error
    })
    socket.on('close', () => this.#closed())
  }

  /** Sends a request, at once or as soon as there is a connection. Nobody else may have one under way. */
  begin(request: Request, receiver: Receiver): void {
    this.#receiver = receiver
    this.#waiting = request
    if (this.#isConnected) this.#keeper.commons.writes.add(this)
  }

  /** The connection on which the call of this receiver is under way. */
  serving(receiver: Receiver): Connection | undefined {
    return this.#receiver === receiver ? this : this.#moved?.serving(receiver)
  }

  pause(): void {
    if (this.#isPaused) return
    this.#isPaused = true
    // Until its request has left, what comes is to be seen at once: it is not for whoever pauses.
    if (this.#waiting === undefined) this.#socket.pause()
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    if (this.#waiting === undefined) this.#socket.resume()
  }

  /** Ends it, and tells whoever waits for its answer. */
  cut(): void {
    const receiver = this.#receiver
    this.drop()
    receiver?.failed(new ConnectionClosed('closed by us'))
  }

  /** Ends it. Whoever waits for its answer hears nothing more. */
  drop(): void {
    this.#receiver = undefined
    this.#reader.stop()
    this.#socket.destroy()
    this.#leave()
  }

  // --- the answer ----------------------------------------------------------------------------------------------

  head(status: number, header: HeaderLookup): void {
    this.#receiver?.head(status, header)
  }

  data(chunk: Buffer): void {
    this.#receiver?.data(chunk)
  }

  complete(isReusable: boolean, keptSeconds: number): void {
    const receiver = this.#receiver
    this.#receiver = undefined
    // What is left of a request behind its answer would be read as the next one.
    if (isReusable && this.#isSent && this.#socket.writableLength === 0 && !this.#socket.destroyed) {
      this.resume()
      this.#keeper.keep(this, keptSeconds)
    } else this.drop()
    try {
      receiver?.end()
    } catch (error) {
      // It has had its end, and this connection may serve another by now: neither is to hear of it.
      throwApart(error)
    }
  }

  // --- the socket ----------------------------------------------------------------------------------------------

  #connected(): void {
    clearTimeout(this.#timer)
    this.#isConnected = true
    this.flush()
  }

  /** Sends what waits for it. */
  flush(): void {
    const request = this.#waiting
    // One that is broken is about to say so, and the request goes elsewhere then.
    if (request === undefined || this.#socket.destroyed) return
    this.#waiting = undefined
    this.#send(request)
  }

  #send(request: Request): void {
    const { head, body } = request
    // Not before: what came until now was said to nobody's request.
    this.#reader.expect()
    try {
      this.#receiver?.started()
    } catch (error) {
      this.#fail(toError(error))
    }
    // Who heard it may have hung up.
    if (!this.isOpen) return discard(body)
    const socket = this.#socket
    if (this.#isPaused) socket.pause()
    if (body === undefined) socket.write(head, 'latin1')
    else if (!Buffer.isBuffer(body)) this.#sendFrom(request, body)
    else if (body.length <= ONE_PIECE_BYTES) {
      const piece = Buffer.allocUnsafe(head.length + body.length)
      piece.write(head, 'latin1')
      body.copy(piece, head.length)
      socket.write(piece)
    } else {
      socket.cork()
      socket.write(head, 'latin1')
      socket.write(body)
      socket.uncork()
    }
  }

  /** Takes from the source what the socket takes, so that a large body is let go of as it leaves. */
  #sendFrom({ head, bodyBytes }: Request, source: Readable): void {
    const socket = this.#socket
    let left = bodyBytes
    this.#isSent = false
    this.#source = source
    socket.write(head, 'latin1')
    const failed = (error: Error): void => {
      this.#error ??= error
      socket.destroy()
    }
    source.on('data', (piece: Buffer) => {
      left -= piece.length
      // What is too much would be read as the next request, and the next one as what is missing.
      if (left < 0) failed(new Error('a body longer than its content-length'))
      else if (piece.length > 0 && !socket.destroyed && !socket.write(piece)) source.pause()
    })
    const goOn = (): void => void source.resume()
    socket.on('drain', goOn)
    source.on('end', () => {
      if (left > 0) return failed(new Error('a body shorter than its content-length'))
      this.#isSent = true
      this.#source = undefined
      socket.off('drain', goOn)
    })
    source.on('error', failed)
  }

  #read(bytes: Buffer): void {
    try {
      this.#reader.push(bytes)
    } catch (error) {
      this.#fail(toError(error))
    }
  }

  #ended(): void {
    if (!this.#reader.close()) this.#fail(this.#error ?? new ConnectionClosed('closed inside an answer'))
  }

  #closed(): void {
    clearTimeout(this.#timer)
    this.#fail(this.#error ?? new ConnectionClosed('closed before the end of an answer'))
  }

  /** Ends it; whoever waits for its answer is told. */
  #fail(error: Error): void {
    const receiver = this.#receiver
    const request = this.#isConnected ? this.#waiting : undefined
    if (request !== undefined) this.#waiting = undefined
    this.drop()
    if (receiver === undefined) return
    if (request === undefined) return receiver.failed(error)
    // It ended while it was idle, and we heard of it too late: the server has seen nothing of this request.
    this.#moved = this.#keeper.again(request, receiver)
    if (this.#isPaused) this.#moved.pause()
  }

  #leave(): void {
    if (!this.isOpen) return
    this.isOpen = false
    clearTimeout(this.#timer)
    discard(this.#waiting?.body)
    this.#waiting = undefined
    this.#source?.destroy()
    this.#source = undefined
    this.#keeper.gone(this)
  }
}

/** A body that nobody sends any more. */
function discard(body: Request['body']): void {
  if (body !== undefined && !Buffer.isBuffer(body)) body.destroy()
}

function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error('unreadable')
}

function openSocket(keeper: Keeper, read: (bytes: Buffer) => void): Socket {
  const { host, port, isTls } = keeper.origin
  const { buffer } = keeper.commons
  const onread = {
    buffer,
    callback(length: number): boolean {
      read(length === buffer.length ? buffer : buffer.subarray(0, length))
      return true
    },
  }
  if (!isTls) {
    return connectTcp({
      host,
      port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
      onread,
    })
  }
  const options: ConnectionOptions & Pick<SocketConstructorOpts, 'onread'> = {
    host,
    port,
    // An address is no name that a server could be asked for (RFC 6066 §3).
    servername: isIP(host) === 0 ? host : '',
    ALPNProtocols: ['http/1.1'],
    session: keeper.session,
    onread,
  }
  const socket = connectTls(options)
  socket.setNoDelay(true)
  socket.setKeepAlive(true, TCP_KEEP_ALIVE_MS)
  socket.on('session', (session: Buffer) => {
    keeper.session = session
  })
  return socket
}
