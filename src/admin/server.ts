// The operators' port: an HTTP server. What answers on it is admin/app.ts's.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'

/** A server that answers with `answer`; it does not listen yet. */
export function createAdminServer(answer: (req: IncomingMessage, res: ServerResponse) => void): Server {
  return createServer({ requireHostHeader: false }, answer)
}
