// One connection to a provider, over TCP or TLS: sends one request at a time and hears its answer. Bytes are read into one
// buffer that all connections share, and leave it as the copies that the receiver gets.

import { connect as connectTcp, isIP, type Socket, type SocketConstructorOpts } from 'node:net'
import type { Readable } from 'node:stream'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import type { Seat } from '../../bytes/bag.ts'
import { type Batch, createBatch } from '../../bytes/batch.ts'
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
}

/** What a connection asks of its pool. */
export interface Keeper {
  readonly origin: Origin
  readonly commons: Commons
  /** The TLS session of the last handshake, with which the next one is shorter. */
  session: Buffer | undefined
  /** Takes a connection that can be used again. */
  keep(connection: Connection, seconds: number): void
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
  /** Waits for the connection to be there. */
  #waiting: Request | undefined = undefined
  #isConnected = false
  #isPaused = false
  /** All of the request has been handed to the socket. */
  #isSent = true
  /** A body on its way. */
  #source: Readable | undefined = undefined
  #error: Error | undefined = undefined
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
    this.#reader.expect()
    this.#waiting = request
    if (this.#isConnected) this.#keeper.commons.writes.add(this)
  }

  /** Whether the call of this receiver is the one under way. */
  serves(receiver: Receiver): boolean {
    return this.#receiver === receiver
  }

  pause(): void {
    if (this.#isPaused) return
    this.#isPaused = true
    this.#socket.pause()
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#socket.resume()
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
    receiver?.end()
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
    this.#waiting = undefined
    if (request !== undefined) this.#send(request)
  }

  #send({ head, body }: Request): void {
    this.#receiver?.started()
    const socket = this.#socket
    if (body === undefined) socket.write(head, 'latin1')
    else if (!Buffer.isBuffer(body)) this.#sendFrom(head, body)
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
  #sendFrom(head: string, source: Readable): void {
    const socket = this.#socket
    this.#isSent = false
    this.#source = source
    socket.write(head, 'latin1')
    source.on('data', (piece: Buffer) => {
      if (!socket.destroyed && !socket.write(piece)) source.pause()
    })
    const goOn = (): void => void source.resume()
    socket.on('drain', goOn)
    source.on('end', () => {
      this.#isSent = true
      this.#source = undefined
      socket.off('drain', goOn)
    })
    source.on('error', (error) => {
      this.#error ??= error
      socket.destroy()
    })
  }

  #read(bytes: Buffer): void {
    try {
      this.#reader.push(bytes)
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error('unreadable'))
    }
  }

  #ended(): void {
    if (!this.#reader.close()) this.#fail(this.#error ?? new ConnectionClosed('closed inside an answer'))
  }

  #closed(): void {
    clearTimeout(this.#timer)
    this.#fail(this.#error ?? new ConnectionClosed('closed before the end of an answer'))
  }

  #fail(error: Error): void {
    const receiver = this.#receiver
    this.drop()
    receiver?.failed(error)
  }

  #leave(): void {
    if (!this.isOpen) return
    this.isOpen = false
    clearTimeout(this.#timer)
    this.#waiting = undefined
    this.#source?.destroy()
    this.#source = undefined
    this.#keeper.gone(this)
  }
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
