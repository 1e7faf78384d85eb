// A TCP proxy that misbehaves on command: it stands between sluice and Redis or a provider, and loses, delays, resets
// or refuses. Loopback only. A connection attempt that is never accepted cannot be made here: the kernel accepts.

import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

export interface TcpProxy {
  readonly port: number
  /** `127.0.0.1:port` */
  readonly address: string
  /** Connections of clients open now. */
  readonly connections: number
  readonly connectionsEver: number
  /** Bytes that went on to the target, and back to clients. */
  readonly bytesUp: number
  readonly bytesDown: number
  /** Back to plain forwarding; also listens again after `refuse`. Bytes swallowed meanwhile stay lost. */
  forward(): Promise<void>
  /** Requests reach the target, replies are lost; connections stay open. */
  dropReplies(): void
  /** Nothing gets through in either direction; connections stay open, new ones are accepted. */
  blackHole(): void
  /** Every piece is this late, in each direction, in order. */
  delay(ms: number): void
  /** Resets open connections now and new ones at once. */
  reset(): void
  /** Resets open connections and listens no more: connection refused. */
  refuse(): Promise<void>
  /** Lets so many bytes of replies through over all connections, then resets them. */
  cutRepliesAfter(bytes: number): void
  /** Resets what is open; the mode stays. */
  killConnections(): void
  close(): Promise<void>
}

export interface TcpProxyOptions {
  readonly target: { readonly port: number; readonly host?: string }
  /** 0 (default): any free one. */
  readonly port?: number
}

type Mode =
  | { readonly kind: 'forward' | 'dropReplies' | 'blackHole' | 'reset' }
  | { readonly kind: 'delay'; readonly ms: number }
  | { readonly kind: 'cutReplies'; left: number }

/** Starts a proxy that forwards. */
export async function createTcpProxy({ target, port = 0 }: TcpProxyOptions): Promise<TcpProxy> {
  const pairs = new Set<{ readonly client: Socket; readonly upstream: Socket }>()
  let mode: Mode = { kind: 'forward' }
  let server: Server | undefined
  let connectionsEver = 0
  let bytesUp = 0
  let bytesDown = 0

  const killConnections = (): void => {
    for (const { client, upstream } of pairs) {
      client.resetAndDestroy()
      upstream.resetAndDestroy()
    }
  }
  /** Passes bytes and the end from one side to the other; `pass` says whether and when. */
  const pump = (from: Socket, to: Socket, direction: 'up' | 'down'): void => {
    // Behind delayed pieces later ones must wait, even when the delay has been taken back.
    let behind: Promise<void> = Promise.resolve()
    let queued = 0
    const later = (act: () => void): void => {
      const ms = mode.kind === 'delay' ? mode.ms : 0
      if (ms === 0 && queued === 0) {
        act()
        return
      }
      queued++
      const due = new Promise((resolve) => setTimeout(resolve, ms))
      behind = Promise.all([behind, due]).then(() => {
        queued--
        act()
      })
    }
    const write = (chunk: Buffer): void => {
      if (direction === 'up') bytesUp += chunk.length
      else bytesDown += chunk.length
      if (!to.destroyed && !to.write(chunk)) {
        from.pause()
        to.once('drain', () => from.resume())
      }
    }
    from.on('data', (chunk) => {
      if (mode.kind === 'blackHole' || (mode.kind === 'dropReplies' && direction === 'down')) return
      if (mode.kind === 'cutReplies' && direction === 'down') {
        const part = chunk.subarray(0, mode.left)
        mode.left -= part.length
        if (part.length > 0) write(part)
        // The reset must not overtake what was let through.
        if (mode.left === 0) setTimeout(killConnections, 10)
        return
      }
      later(() => write(chunk))
    })
    from.on('end', () => {
      if (mode.kind === 'blackHole' || (mode.kind === 'dropReplies' && direction === 'down')) return
      later(() => to.end())
    })
  }
  const accept = (client: Socket): void => {
    connectionsEver++
    client.on('error', () => undefined)
    if (mode.kind === 'reset') {
      client.resetAndDestroy()
      return
    }
    const upstream = connect({
      port: target.port,
      host: target.host ?? '127.0.0.1',
      noDelay: true,
      allowHalfOpen: true,
    })
    client.setNoDelay(true)
    const pair = { client, upstream }
    pairs.add(pair)
    const drop = (): void => {
      pairs.delete(pair)
      client.destroy()
      upstream.destroy()
    }
    // A break on one side is a break on the other, unless nothing is to get through.
    upstream.on('error', () => {
      if (mode.kind !== 'blackHole') client.resetAndDestroy()
    })
    upstream.on('close', () => {
      if (mode.kind !== 'blackHole' && mode.kind !== 'dropReplies') client.end()
    })
    client.on('close', drop)
    pump(client, upstream, 'up')
    pump(upstream, client, 'down')
  }
  const listen = async (): Promise<void> => {
    const made = createServer({ allowHalfOpen: true, noDelay: true }, accept)
    await new Promise<void>((resolve, reject) => {
      made.once('error', reject)
      made.listen({ port, host: '127.0.0.1', backlog: 1024 }, resolve)
    })
    const address = made.address()
    if (isAddress(address)) port = address.port
    server = made
  }
  const unlisten = (): Promise<void> =>
    new Promise((resolve) => {
      const open = server
      server = undefined
      if (open) open.close(() => resolve())
      else resolve()
      killConnections()
    })

  await listen()
  return {
    port,
    address: `127.0.0.1:${port}`,
    get connections() {
      return pairs.size
    },
    get connectionsEver() {
      return connectionsEver
    },
    get bytesUp() {
      return bytesUp
    },
    get bytesDown() {
      return bytesDown
    },
    async forward() {
      mode = { kind: 'forward' }
      if (!server) await listen()
    },
    dropReplies() {
      mode = { kind: 'dropReplies' }
    },
    blackHole() {
      mode = { kind: 'blackHole' }
    },
    delay(ms) {
      mode = { kind: 'delay', ms }
    },
    reset() {
      mode = { kind: 'reset' }
      killConnections()
    },
    refuse: unlisten,
    cutRepliesAfter(bytes) {
      mode = { kind: 'cutReplies', left: bytes }
    },
    killConnections,
    close: unlisten,
  }
}

function isAddress(address: AddressInfo | string | null): address is AddressInfo {
  return address !== null && typeof address === 'object'
}
