// What a caller is given of a provider that speaks another format: its answers through the wire, the relay and the
// translators as they stand, without sockets and time.

import { formats } from '../../src/formats/index.ts'
import { ENDPOINTS } from '../../src/http/operations.ts'
import { readRequest } from '../../src/http/request.ts'
import type { Deployment, ModelRequest, Usage } from '../../src/types.ts'
import { createRelay, type End } from '../../src/upstream/relay.ts'
import { createWires, Untranslatable } from '../../src/upstream/wire.ts'
import { parseSse } from './sse.ts'
import { type Heard, SURFACES, type Surface } from './surfaces.ts'

export interface Asking {
  readonly surface: Surface
  readonly deployment: Deployment
  /** Members of the request beside those that every one has. */
  readonly members?: Readonly<Record<string, unknown>>
}

export interface Given {
  readonly end: End | undefined
  /** Nobody else can be asked any more. */
  readonly isCommitted: boolean
  /** The bytes, with the end of a whole answer. */
  readonly text: string
  readonly heard: Heard
  readonly usage: Usage | undefined
}

export function surfaceOf(name: string): Surface {
  const surface = SURFACES.find((one) => one.name === name)
  if (surface === undefined) throw new Error(`no surface ${name}`)
  return surface
}

function toRequest({ surface, members }: Asking, stream: boolean): ModelRequest {
  const endpoint = ENDPOINTS.find(({ path }) => path === surface.path)
  if (endpoint === undefined) throw new Error(`no endpoint ${surface.path}`)
  const body = { ...surface.body({ model: 'm', stream, tool: 'f' }), ...members }
  return readRequest(endpoint, Buffer.from(JSON.stringify(body)), new Set())
}

function wireOf(asking: Asking, stream: boolean) {
  let ids = 0
  const nextId = (prefix: string): string => {
    ids += 1
    return `${prefix}${ids}`
  }
  const request = toRequest(asking, stream)
  return createWires({ formats, request, nowSeconds: () => 5, nextId }).of(asking.deployment, undefined)
}

/** Chunks of a stream, cut as they are here; behind the last one the provider closes in good order. */
export function playStream(asking: Asking, chunks: readonly Buffer[]): Given {
  const { side, translation } = wireOf(asking, true)
  const translator = translation?.begin()
  const watch = side.watch()
  const relay = createRelay({
    watch,
    glance: side.watch,
    stages: [],
    choices: 1,
    splitter: side.splitter?.(),
    translator,
  })
  const out: Buffer[] = []
  let end: End | undefined
  for (const chunk of chunks) {
    if (end !== undefined) break
    const relayed = relay.push(chunk)
    out.push(...relayed.out)
    end = relayed.ended
  }
  if (end === undefined) {
    const relayed = relay.end()
    out.push(...relayed.out)
    end = relayed.ended
  }
  const isCommitted = out.length > 0
  const rest = end?.kind === 'complete' ? translator?.end() : undefined
  if (rest !== undefined) out.push(rest)
  const text = Buffer.concat(out).toString()
  return { end, isCommitted, text, heard: asking.surface.streamed(parseSse(text)), usage: watch.usage }
}

/** A whole reply: what the caller reads, or why it is none. */
export function playWhole(
  asking: Asking,
  body: string,
): { readonly json: unknown; readonly text: string } | { readonly failure: string } {
  const { side, translation } = wireOf(asking, false)
  const bytes = Buffer.from(body)
  const { failure } = side.whole('chat', bytes)
  if (failure !== undefined) return { failure }
  try {
    const given = translation?.begin().whole(bytes) ?? bytes
    const text = given.toString()
    return { json: JSON.parse(text), text }
  } catch (error) {
    if (error instanceof Untranslatable) return { failure: 'untranslatable' }
    throw error
  }
}

/** Events as most providers frame them. */
export function toSse(...events: readonly unknown[]): Buffer[] {
  return events.map((event) =>
    Buffer.from(`data: ${typeof event === 'string' ? event : JSON.stringify(event)}\n\n`),
  )
}
