// The operators' port: an HTTP server around admin/app.ts.

import { createServer, type Server } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import type { Hono } from 'hono'

/** A server that answers with the app; it does not listen yet. */
export function createAdminServer(app: Hono): Server {
  const answer = getRequestListener(app.fetch, { overrideGlobalObjects: false })
  return createServer({ requireHostHeader: false }, (req, res) => {
    // As on the agents' side: nothing depends on the name, and the adapter fails on one that no URL may have.
    req.headers.host = 'sluice'
    void answer(req, res)
  })
}
