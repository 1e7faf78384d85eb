// A provider that says byte by byte what it is told to, over TCP or TLS: for answers that no HTTP server would give.

import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TlsOptions } from 'node:tls'

export interface RawProvider {
  readonly port: number
  /** Connections that were made, in all. */
  readonly made: number
  /** Those that are there now. */
  readonly peers: ReadonlySet<Peer>
  /** Resolves once no more than so many are. */
  left(most: number): Promise<void>
  close(): Promise<void>
}

/** The provider's end of a connection. */
export interface Peer {
  readonly socket: Socket
  /** The next whole request; undefined where the connection ends before. */
  next(): Promise<Asked | undefined>
  say(text: string): void
  /** Resolves when the connection has ended. */
  readonly gone: Promise<void>
}

export interface Asked {
  readonly head: string
  readonly body: Buffer
}

export interface RawOptions {
  readonly tls?: TlsOptions
  readonly host?: string
}

/** `serve` has each connection to itself; what it throws at the end of one is nobody's. */
export async function createRawProvider(
  serve: (peer: Peer) => unknown,
  { tls, host = '127.0.0.1' }: RawOptions = {},
): Promise<RawProvider> {
  const peers = new Set<Peer>()
  const sockets = new Set<Socket>()
  const watchers = new Set<() => void>()
  let made = 0
  const server: Server = tls === undefined ? createServer() : createTlsServer(tls)
  // Also those that never come to their handshake.
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
  })
  server.on(tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => {
    made += 1
    const peer = createPeer(socket)
    peers.add(peer)
    socket.on('close', () => {
      peers.delete(peer)
      for (const look of [...watchers]) look()
    })
    void (async () => serve(peer))().catch(() => undefined)
  })
  server.listen(0, host)
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const { port } = address
  return {
    port,
    get made() {
      return made
    },
    peers,
    left: (most) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (peers.size > most) return
          watchers.delete(look)
          resolve()
        }
        watchers.add(look)
        look()
      }),
    async close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

function createPeer(socket: Socket): Peer {
  socket.on('error', () => undefined)
  socket.setNoDelay(true)
  const gone = new Promise<void>((resolve) => socket.on('close', () => resolve()))
  const chunks: Buffer[] = []
  let bytes = 0
  /** How many bytes the next look is worth. */
  let wanted = 1
  let wake = (): void => undefined
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes >= wanted) wake()
  })
  socket.on('end', () => socket.end())
  socket.on('close', () => wake())
  const all = (): Buffer => {
    const joined = Buffer.concat(chunks.splice(0))
    chunks.push(joined)
    return joined
  }
  return {
    socket,
    gone,
    say: (text) => void socket.write(text, 'latin1'),
    async next() {
      for (;;) {
        const held = all()
        const end = held.indexOf('\r\n\r\n')
        wanted = held.length + 1
        if (end >= 0) {
          const head = held.toString('latin1', 0, end)
          const from = end + 4
          const to = from + Number(/^content-length: (\d+)$/m.exec(head)?.[1] ?? 0)
          if (held.length >= to) {
            chunks.splice(0, chunks.length, held.subarray(to))
            bytes = held.length - to
            return { head, body: held.subarray(from, to) }
          }
          wanted = to
        }
        if (socket.destroyed) return undefined
        const { promise, resolve } = Promise.withResolvers<void>()
        wake = resolve
        await promise
      }
    },
  }
}

/** An answer of this text. */
export function ok(text: string, ...lines: string[]): string {
  const more = lines.map((line) => `${line}\r\n`).join('')
  return `HTTP/1.1 200 OK\r\n${more}content-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`
}
