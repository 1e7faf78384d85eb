// A provider that does what a test says, request by request: a real HTTP server that speaks the dialect of the path
// it is asked at (dialects/) and can break it at any byte. It knows nothing of sluice. What it does is in provider-script.ts; here it listens and records.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { dialectOf } from './dialects/index.ts'
import { answer, type Behaviour, type Call, type ChatBody } from './provider-script.ts'

export * from './provider-script.ts'

/** One request as it came, and what became of its answer. */
export interface RecordedRequest {
  readonly index: number
  readonly method: string
  /** Path and query. */
  readonly path: string
  /** In the order and spelling of the wire, repeated names included. */
  readonly headers: readonly (readonly [name: string, value: string])[]
  /** The first header of that name, in any case. */
  header(name: string): string | undefined
  /** The bytes received; empty while they are still coming. */
  readonly body: Buffer
  json(): unknown
  /** Monotonic ms at which the head was complete. */
  readonly startedMs: number
  /** Monotonic ms at which the answer or the connection ended. */
  readonly endedMs: number | undefined
  /** Bytes of the answer's body handed to the connection. */
  readonly bytesSent: number
  /** The client closed the connection before the answer was complete (and the script had not cut it). */
  readonly aborted: boolean
  /** The answer has left completely, or the script cut it as it should. */
  readonly complete: boolean
  /** Which connection it came on, counted from 0. */
  readonly connection: number
}

export type Script = Behaviour | readonly Behaviour[] | ((request: RecordedRequest) => Behaviour)

export interface ScriptedProvider {
  /** Origin, without a path. */
  readonly url: string
  /** Origin with `/v1`. */
  readonly baseUrl: string
  readonly port: number
  /** The POSTs, in order of arrival. Empty with `record: 'count'`. */
  readonly requests: RecordedRequest[]
  /** POSTs since the last reset. */
  readonly calls: number
  /** Everything that is no POST: model lists and health checks. Not scripted. */
  readonly probes: RecordedRequest[]
  /** What came and was no HTTP. */
  readonly faults: string[]
  /** Connections open now. */
  readonly connections: number
  /** Connections accepted since the start. */
  readonly connectionsEver: number
  /** Requests whose answer is under way now. */
  readonly active: number
  /** Behaviours in order (the last one repeats), or a function of the request. Starts a new count of steps. */
  script(script: Script): void
  /** Forgets requests and script; connections stay. */
  reset(): void
  /** Resolves when that many POSTs have come. */
  waitForRequests(count: number, timeoutMs?: number): Promise<void>
  /** Resolves when the client has gone before the answer of that POST was complete; rejects when it did complete. */
  waitForAbort(index: number, timeoutMs?: number): Promise<RecordedRequest>
  /** Resets every open connection; new ones are accepted. */
  killConnections(): void
  /** Stops listening and drops every connection: from now on, connection refused. */
  close(): Promise<void>
}

export interface ScriptedProviderOptions {
  /** 0 (default): any free one. */
  readonly port?: number
  readonly host?: string
  /** What `GET …/models` lists. */
  readonly models?: readonly string[]
  readonly script?: Script
  /** `count`: keeps no requests, for load. */
  readonly record?: 'all' | 'count'
}

interface Recording {
  readonly index: number
  readonly method: string
  readonly path: string
  readonly headers: readonly (readonly [string, string])[]
  header(name: string): string | undefined
  body: Buffer
  json(): unknown
  readonly startedMs: number
  endedMs: number | undefined
  bytesSent: number
  aborted: boolean
  complete: boolean
  readonly connection: number
}

interface Waiter {
  /** True when it has been resolved or rejected. */
  check(): boolean
}

/** Starts a provider on a loopback port. */
export async function createScriptedProvider(
  options: ScriptedProviderOptions = {},
): Promise<ScriptedProvider> {
  const host = options.host ?? '127.0.0.1'
  const models = options.models ?? ['scripted-model']
  const keep = options.record !== 'count'
  const sockets = new Map<Socket, number>()
  const waiters = new Set<Waiter>()
  const requests: RecordedRequest[] = []
  const probes: RecordedRequest[] = []
  const faults: string[] = []
  let script: Script = options.script ?? answer()
  let step = 0
  let calls = 0
  let active = 0
  let connectionsEver = 0

  const changed = (): void => {
    for (const waiter of waiters) if (waiter.check()) waiters.delete(waiter)
  }

  const server = createServer({ keepAliveTimeout: 0, requestTimeout: 0, maxHeaderSize: 256 * 1024 })
  server.headersTimeout = 0
  server.maxRequestsPerSocket = 0
  server.on('connection', (socket) => {
    sockets.set(socket, connectionsEver++)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => sockets.delete(socket))
  })
  server.on('clientError', (error: Error, socket) => {
    // A client that resets its connection is told here too; only broken HTTP is a fault.
    if ('code' in error && String(error.code).startsWith('HPE_')) faults.push(`${error.message}`)
    socket.destroy()
  })
  server.on('request', (message, response) => {
    const recording = record(
      message,
      sockets.get(message.socket) ?? -1,
      message.method === 'POST' ? calls : -1,
    )
    if (recording.method !== 'POST') {
      probes.push(recording)
      message.resume()
      listModels(models, recording.path, response)
      return
    }
    calls++
    active++
    if (keep) requests.push(recording)
    const chosen = typeof script === 'function' ? undefined : nextStep(script, step++)
    const chooser = typeof script === 'function' ? script : undefined
    const call = createCall(recording, message, response)
    response.once('close', () => {
      active--
      recording.endedMs = performance.now()
      recording.complete = response.writableFinished || call.isCut()
      recording.aborted = !recording.complete
      call.gone()
      changed()
    })
    changed()
    const run = (behaviour: Behaviour): void => {
      // A script that throws is a defect of the test: the client sees a cut, the reason goes to `faults`.
      Promise.resolve()
        .then(() => behaviour.run(call.hand))
        .catch((error: unknown) => {
          faults.push(`the script failed: ${error instanceof Error ? error.stack : String(error)}`)
          response.destroy()
        })
    }
    if (chosen?.withoutReading) {
      message.pause()
      run(chosen)
      return
    }
    const chunks: Buffer[] = []
    message.on('data', (chunk: Buffer) => chunks.push(chunk))
    message.on('error', () => undefined)
    message.on('end', () => {
      recording.body = chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)
      if (chosen) run(chosen)
      else if (chooser) run(chooser(recording))
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port: options.port ?? 0, host, backlog: 4096 }, resolve)
  })
  const address = server.address()
  const port = isAddress(address) ? address.port : 0

  const wait = <T>(timeoutMs: number, what: () => string, look: () => T | Error | undefined): Promise<T> =>
    new Promise((resolve, reject) => {
      const waiter: Waiter = {
        check: () => {
          const seen = look()
          if (seen === undefined) return false
          clearTimeout(timer)
          if (seen instanceof Error) reject(seen)
          else resolve(seen)
          return true
        },
      }
      const timer = setTimeout(() => {
        waiters.delete(waiter)
        reject(new Error(`${what()} (waited ${timeoutMs} ms)`))
      }, timeoutMs)
      waiters.add(waiter)
      changed()
    })
  const killConnections = (): void => {
    for (const socket of sockets.keys()) socket.resetAndDestroy()
  }

  return {
    url: `http://${host}:${port}`,
    baseUrl: `http://${host}:${port}/v1`,
    port,
    requests,
    probes,
    faults,
    get calls() {
      return calls
    },
    get active() {
      return active
    },
    get connections() {
      return sockets.size
    },
    get connectionsEver() {
      return connectionsEver
    },
    script(next) {
      script = next
      step = 0
    },
    reset() {
      requests.length = 0
      probes.length = 0
      faults.length = 0
      calls = 0
      step = 0
      script = options.script ?? answer()
    },
    waitForRequests: (count, timeoutMs = 5_000) =>
      wait(
        timeoutMs,
        () => `${calls} requests came, ${count} were expected`,
        () => (calls >= count ? true : undefined),
      ).then(() => undefined),
    waitForAbort: (index, timeoutMs = 5_000) =>
      wait(
        timeoutMs,
        () => `request ${index} ${requests[index] ? 'is still under way' : 'never came'}`,
        () => {
          const request = requests[index]
          if (request?.complete) return new Error(`request ${index} was answered completely, not aborted`)
          return request?.aborted ? request : undefined
        },
      ),
    killConnections,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        killConnections()
      }),
  }
}

function nextStep(script: Behaviour | readonly Behaviour[], step: number): Behaviour {
  if ('run' in script) return script
  const chosen = script[Math.min(step, script.length - 1)]
  if (!chosen) throw new Error('an empty script')
  return chosen
}

function record(message: IncomingMessage, connection: number, index: number): Recording {
  const headers: [string, string][] = []
  for (let i = 0; i + 1 < message.rawHeaders.length; i += 2) {
    headers.push([message.rawHeaders[i] ?? '', message.rawHeaders[i + 1] ?? ''])
  }
  return {
    index,
    method: message.method ?? '',
    path: message.url ?? '',
    headers,
    header: (name) => headers.find((one) => one[0].toLowerCase() === name.toLowerCase())?.[1],
    body: Buffer.alloc(0),
    json(): unknown {
      return JSON.parse(this.body.toString('utf8'))
    },
    startedMs: performance.now(),
    endedMs: undefined,
    bytesSent: 0,
    aborted: false,
    complete: false,
    connection,
  }
}

/** The script's hand on one answer, and the recorder's view of it. */
function createCall(recording: Recording, message: IncomingMessage, response: ServerResponse) {
  let cut = false
  let isGone = false
  let leave: () => void = () => undefined
  const closed = new Promise<void>((resolve) => {
    leave = resolve
  })
  const flush = (): Promise<void> =>
    new Promise((resolve) => {
      if (isGone || message.socket.destroyed) resolve()
      else message.socket.write('', () => resolve())
    })
  const dialect = dialectOf(recording.path)
  let chat: ChatBody | undefined

  const hand: Call = {
    request: recording,
    dialect,
    response,
    socket: message.socket,
    closed,
    get chat() {
      chat ??= dialect.read(recording)
      return chat
    },
    head(status, headers) {
      if (!isGone) response.writeHead(status, headers)
    },
    async write(bytes) {
      if (isGone) return false
      recording.bytesSent += bytes.length
      if (response.write(bytes)) return true
      await Promise.race([new Promise((resolve) => response.once('drain', resolve)), closed])
      return !isGone
    },
    end(bytes) {
      if (isGone) return
      recording.bytesSent += bytes?.length ?? 0
      response.end(bytes)
    },
    async sleep(ms) {
      if (ms <= 0 || isGone) return !isGone
      let timer: NodeJS.Timeout | undefined
      await Promise.race([
        new Promise((resolve) => {
          timer = setTimeout(resolve, ms)
        }),
        closed,
      ])
      clearTimeout(timer)
      return !isGone
    },
    async cut(how) {
      if (isGone) return
      cut = true
      await flush()
      if (how === 'fin') {
        message.socket.end()
        // Half a connection is all the client has now; it must not keep it for ever.
        setTimeout(() => message.socket.destroy(), 1_000).unref()
        return
      }
      // A reset overtakes data that the client has not read yet: give it the time to read.
      if (response.headersSent) await new Promise((resolve) => setTimeout(resolve, 20))
      message.socket.resetAndDestroy()
    },
  }
  return {
    hand,
    isCut: () => cut,
    gone(): void {
      isGone = true
      leave()
    },
  }
}

function listModels(models: readonly string[], path: string, response: ServerResponse): void {
  const isList = /\/models(\?|$)/.test(path)
  const listed = models.map((id) => ({ id, object: 'model', created: 1_760_000_000, owned_by: 'scripted' }))
  const body = Buffer.from(JSON.stringify(isList ? { object: 'list', data: listed } : { ok: true }))
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length })
  response.end(body)
}

function isAddress(address: AddressInfo | string | null): address is AddressInfo {
  return address !== null && typeof address === 'object'
}
