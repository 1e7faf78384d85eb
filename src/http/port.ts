// Where a server listens, of agents or of operators.

import type { Server } from 'node:http'
import { createServer } from 'node:net'

/**
 * Connections that wait in the kernel to be taken in, if it lets so many (`net.core.somaxconn`). Node takes in one in each
 * turn of its loop: of a crowd that comes at once its default of 511 turns some away unheard.
 */
const MOST_WAITING = 4096

/** Resolves when the server listens. @throws Error that names the port when somebody else has it; what Node says otherwise */
export function listen(server: Server, { host, port }: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        error.code === 'EADDRINUSE'
          ? new Error(`port ${port} on ${host} is in use by another program`)
          : error,
      )
    })
    server.listen({ host, port, backlog: MOST_WAITING }, () => resolve())
  })
}

/** The port a server really has: a configured 0 takes a free one. */
export function portOf(server: Server): number {
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

/** A port that nobody has at this moment. @throws what Node says where the host is none of this machine */
export function freePort(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, host, () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}
