// Everything on the agents' port that is no model endpoint: health, readiness, the list of models. Plain hono; it
// tells a stranger nothing but that the process lives.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { type Context, Hono } from 'hono'
import { GatewayError, toGatewayError } from '../errors.ts'
import { type Scrub, toErrorResponse } from './error-body.ts'
import type { EarlyFault, Phase, Visit } from './listen.ts'

export interface AppDeps {
  readonly phase: Phase
  readonly scrub: Scrub
  /** Model names that a bearer may use. @throws GatewayError invalid_api_key */
  readonly models: (bearer: string | undefined) => readonly string[]
  /** Whether a bearer may call a model by this name, a glob's included. @throws GatewayError invalid_api_key */
  readonly hasModel: (bearer: string | undefined, name: string) => boolean
  /** Unix seconds told as the creation time of every model: the start of the process. */
  readonly startedSeconds: number
  /** An error that is a defect of ours. */
  readonly onError: (error: unknown, requestId: string) => void
  readonly onFault: (fault: EarlyFault) => void
}

/** Handles a request that the front door has judged. */
export type Other = (req: IncomingMessage, res: ServerResponse, visit: Visit) => void

export function createApp(deps: AppDeps): Other {
  const visits = new WeakMap<IncomingMessage, Visit>()
  const app = new Hono<{ Bindings: { visit: Visit } }>()

  function fail(c: Context<{ Bindings: { visit: Visit } }>, error: unknown): Response {
    const { id, address } = c.env.visit
    const response = toErrorResponse(error, id, deps.scrub)
    if (!(error instanceof GatewayError)) deps.onError(error, id)
    deps.onFault({ id, status: response.status, code: toGatewayError(error).code, address })
    return response
  }

  app.use(async (c, next) => {
    c.header('x-request-id', c.env.visit.id)
    if (deps.phase.now === 'draining' || deps.phase.now === 'closing') c.header('connection', 'close')
    await next()
  })
  app.get('/health', (c) => c.json({ status: 'ok' }))
  app.get('/ready', (c) => {
    const ready = deps.phase.now === 'ready'
    return c.json({ status: deps.phase.now }, ready ? 200 : 503)
  })
  // Claude Code asks for this before its first call.
  app.get('/api/hello', (c) => c.body(null, 200))
  app.get('/models', (c) => {
    const data = deps.models(c.env.visit.bearer).map((id) => toModel(id, deps.startedSeconds))
    // The shape of OpenAI's list and of Anthropic's in one: both SDKs read it.
    const ends = { first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null }
    return c.json({ object: 'list', data, has_more: false, ...ends })
  })
  app.get('/models/:id{.+}', (c) => {
    const id = c.req.param('id')
    if (!deps.hasModel(c.env.visit.bearer, id)) {
      throw new GatewayError('model_not_found', `The model "${id}" does not exist here.`, { param: 'model' })
    }
    return c.json(toModel(id, deps.startedSeconds))
  })
  app.options('*', (c) => c.body(null, 204))
  for (const path of ['/health', '/ready', '/models/*']) {
    app.all(path, (c) => {
      const response = fail(c, new GatewayError('method_not_allowed', 'This endpoint takes GET.'))
      response.headers.set('allow', 'GET, HEAD')
      return response
    })
  }
  app.notFound((c) => {
    return fail(c, new GatewayError('not_found', 'There is no such endpoint here.'))
  })
  app.onError((error, c) => fail(c, error))

  const listener = getRequestListener(
    (request, env) => {
      const incoming = env.incoming as IncomingMessage
      return app.fetch(request, { visit: visits.get(incoming) })
    },
    {
      overrideGlobalObjects: false,
      errorHandler: (error) => {
        deps.onError(error, '')
        return new Response(null, { status: 500 })
      },
    },
  )
  return (req, res, visit) => {
    visits.set(req, visit)
    // The adapter builds a URL and fails where it cannot: without a Host (HTTP/1.0, as balancers send it) or with
    // one that no URL may have. Nothing here depends on the name, so that it is never the caller's.
    req.headers.host = 'sluice'
    listener(req, res).catch((error: unknown) => {
      deps.onError(error, visit.id)
      res.destroy()
    })
  }
}

function toModel(id: string, createdSeconds: number) {
  const created_at = new Date(createdSeconds * 1000).toISOString()
  return {
    id,
    object: 'model',
    created: createdSeconds,
    owned_by: 'sluice',
    type: 'model',
    display_name: id,
    created_at,
  }
}
