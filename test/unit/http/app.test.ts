import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { createApp } from '../../../src/http/app.ts'
import type { EarlyFault, Visit } from '../../../src/http/listen.ts'

const SECRET = 'sk-a-key-that-must-not-be-seen-0123456789'

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.close().closeAllConnections()
})

async function open(visitOf: (req: IncomingMessage) => Visit) {
  const errors: unknown[] = []
  const faults: EarlyFault[] = []
  const other = createApp({
    phase: { now: 'ready' },
    scrub: (text) => text.replaceAll(SECRET, '[redacted]'),
    models: () => {
      throw new Error(`refused ${SECRET}`)
    },
    hasModel: () => false,
    startedSeconds: 0,
    onError: (error) => errors.push(error),
    onFault: (fault) => faults.push(fault),
  })
  const server = createServer((req, res) => other(req, res, visitOf(req)))
  servers.push(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  return { errors, faults, get: (path: string) => fetch(`http://127.0.0.1:${port}${path}`) }
}

const visit = (req: IncomingMessage): Visit => ({
  id: 'req_1',
  bearer: undefined,
  path: req.url ?? '',
  address: '::1',
})

describe('a defect on the side of the app', () => {
  it("goes through hono's error path as a 500 that says nothing", async () => {
    const { get, errors, faults } = await open(visit)
    const answer = await get('/models')
    expect([answer.status, answer.headers.get('x-request-id')]).toEqual([500, 'req_1'])
    expect(await answer.json()).toMatchObject({
      error: { code: 'internal', message: 'Internal error. Request id: req_1.' },
    })
    expect(String(errors[0])).toContain(SECRET)
    expect(faults).toEqual([{ id: 'req_1', status: 500, code: 'internal', address: '::1' }])
  })

  it("goes through the adapter's own error path, when hono's fails, without a word", async () => {
    const { get, errors } = await open((req) => ({
      ...visit(req),
      get id(): string {
        throw new Error(`broken ${SECRET}`)
      },
    }))
    const answer = await get('/models').catch((error: unknown) => error)
    if (answer instanceof Response) {
      expect(answer.status).toBe(500)
      expect(`${await answer.text()}${[...answer.headers].join()}`).not.toContain(SECRET)
    }
    expect(errors.length).toBeGreaterThan(0)
  })
})
