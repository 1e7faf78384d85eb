// The operators' side, on a port of its own: reads what the rooms publish and steers only by reload. Deny by default:
// whatever changes state or shows agents needs the admin token, and without one set nobody has it.

import { hash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { z } from 'zod'
import type { Problem } from '../config/problems.ts'
import { GatewayError } from '../errors.ts'
import type { Question } from '../types.ts'

export interface AdminDeps {
  readonly phase: { readonly now: string }
  /** The admin token as it is now; undefined when none is set. */
  readonly token: () => string | undefined
  readonly metrics: MetricsPage
  /** What `/ready` tells an operator besides yes and no. */
  readonly readiness: () => Told | Promise<Told>
  /** Of everything, or with the limits of one agent; undefined when there is no such agent. */
  readonly status: (what: { agent: string | undefined }) => Promise<Told | undefined>
  /** What would become of a request; undefined when there is no such agent. */
  readonly explain: (question: Question) => Promise<object | undefined>
  readonly reload: (what: { secretsOnly: boolean }) => Promise<ReloadAnswer>
  /** An error as an answer, in the shape of the agents' side. */
  readonly fail: (error: unknown) => Response
}

/** The metrics as text, in the format that the header `accept` asks for. */
type MetricsPage = (accept: string | undefined) => Promise<{ readonly type: string; readonly text: string }>

type Told = Readonly<Record<string, unknown>>

export interface ReloadAnswer {
  /** Nothing was wrong. */
  readonly ok: boolean
  /** What is new is in use; with problems beside it where a secret kept its last good value. */
  readonly applied: boolean
  readonly problems: readonly Problem[]
}

/** The app as what a server calls. */
export function createAdminListener(deps: AdminDeps): (req: IncomingMessage, res: ServerResponse) => void {
  const answer = getRequestListener(createAdmin(deps).fetch, { overrideGlobalObjects: false })
  return (req, res) => {
    // As on the agents' side: nothing depends on the name, and the adapter fails on one that no URL may have.
    req.headers.host = 'sluice'
    void answer(req, res)
  }
}

export function createAdmin(deps: AdminDeps): Hono {
  const app = new Hono()
  app.get('/metrics', async (c) => {
    const { type, text } = await deps.metrics(c.req.header('accept'))
    return c.text(text, 200, { 'content-type': type, vary: 'accept' })
  })
  app.get('/health', (c) => c.json({ status: 'ok' }))
  app.get('/ready', async (c) => {
    const more = await deps.readiness()
    const ready = deps.phase.now === 'ready'
    return c.json({ status: deps.phase.now, ...more }, ready ? 200 : 503)
  })
  app.get('/status', async (c) => {
    const refused = guard(c.req.header('authorization'))
    if (refused !== undefined) return refused
    const status = await deps.status({ agent: c.req.query('agent') })
    return status === undefined
      ? deps.fail(new GatewayError('not_found', 'There is no agent of that name.'))
      : c.json(status)
  })
  app.post('/reload', async (c) => {
    const refused = guard(c.req.header('authorization'))
    if (refused !== undefined) return refused
    const answer = await deps.reload({ secretsOnly: c.req.query('secretsOnly') === 'true' })
    return c.json(answer, answer.ok ? 200 : 422)
  })
  app.post(
    '/explain',
    bodyLimit({ maxSize: MAX_QUESTION_BYTES, onError: () => deps.fail(tooLarge()) }),
    async (c) => {
      const refused = guard(c.req.header('authorization'))
      if (refused !== undefined) return refused
      const { data: question } = questionSchema.safeParse(await c.req.json().catch(() => undefined))
      if (question === undefined) {
        return deps.fail(
          new GatewayError(
            'invalid_request',
            'The question must be JSON: { agent, operation, body }, the body as it would be sent.',
          ),
        )
      }
      const { agent, bearer, operation, body } = question
      const told = await deps.explain({ agent, bearer, operation, body: Buffer.from(JSON.stringify(body)) })
      return told === undefined
        ? deps.fail(new GatewayError('not_found', 'There is no agent of that name with such a bearer.'))
        : c.json(told)
    },
  )
  for (const [path, method] of METHODS) {
    app.all(path, () => {
      const response = deps.fail(new GatewayError('method_not_allowed', `This endpoint takes ${method}.`))
      response.headers.set('allow', method)
      return response
    })
  }
  app.notFound(() => deps.fail(new GatewayError('not_found', 'There is no such endpoint here.')))
  app.onError((error) => deps.fail(error))
  return app

  /** The answer to somebody who may not; undefined for one who may. */
  function guard(authorization: string | undefined): Response | undefined {
    const token = deps.token()
    if (token === undefined || token === '') {
      return deps.fail(
        new GatewayError('scope_denied', 'No admin token is set (admin.token), so nobody may do this.'),
      )
    }
    const presented = /^bearer[ \t]+(.+)$/i.exec(authorization ?? '')?.[1]
    if (presented === undefined || !same(presented, token)) {
      return deps.fail(new GatewayError('invalid_api_key', 'The admin token is missing or not valid.'))
    }
    return undefined
  }
}

const MAX_QUESTION_BYTES = 4 * 1024 * 1024

const questionSchema = z.object({
  agent: z.string(),
  bearer: z.string().optional(),
  operation: z.string().default('chat'),
  body: z.record(z.string(), z.unknown()),
})

function tooLarge(): GatewayError {
  return new GatewayError('request_too_large', `The question is larger than ${MAX_QUESTION_BYTES} bytes.`)
}

const METHODS = [
  ['/metrics', 'GET'],
  ['/health', 'GET'],
  ['/ready', 'GET'],
  ['/status', 'GET'],
  ['/reload', 'POST'],
  ['/explain', 'POST'],
] as const

/** Equal in constant time, whatever their lengths. */
function same(a: string, b: string): boolean {
  return timingSafeEqual(hash('sha256', a, 'buffer'), hash('sha256', b, 'buffer'))
}
