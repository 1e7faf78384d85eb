// A real Redis per test that needs one: loopback, nothing on disk, gone at the end. It can be killed, stopped in
// its tracks and asked anything over its own protocol, without the client library that sluice uses.

import { rmSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { type RedisServers, type TlsMaterial, toServers } from '../../src/config/redis-servers.ts'
import { type Binary, findBinary, REDIS } from './debian-binary.ts'
import { freePort } from './ports.ts'
import { exited, spawnTracked, temporaryFolder } from './run-folder.ts'

export interface RedisOptions {
  /** Fixed port, for a restart on the same one. */
  readonly port?: number
  /** Added to the command line, for example `['--maxmemory', '10mb']`. */
  readonly args?: readonly string[]
  /** Makes it a sentinel, with these lines in its configuration. */
  readonly sentinel?: readonly string[]
  readonly binary?: Binary
}

/** What Redis answers, as plain values; an error reply rejects. */
export type RedisValue = string | number | null | RedisValue[]

export interface TestRedis {
  readonly port: number
  readonly url: string
  readonly pid: number
  /** Ends it in good order and removes its folder; also when it was paused or is dead already. */
  stop(): Promise<void>
  /** SIGKILL; resolves when it is gone. Start again with the same `port`. */
  kill9(): Promise<void>
  /** SIGSTOP: connections stay open, nothing answers. */
  pause(): void
  resume(): void
  /** One command, for example `command('HGETALL', 'key')`. */
  command(...args: (string | number)[]): Promise<RedisValue>
  /** What it printed. */
  log(): string
}

/** Starts Redis and waits until it answers PING. */
export async function startRedis(options: RedisOptions = {}): Promise<TestRedis> {
  const binary = options.binary ?? findBinary(REDIS)
  if (!binary) throw new Error('no redis-server: run the tests through vitest, whose global setup brings one')
  const port = options.port ?? (await freePort())
  const folder = temporaryFolder('redis')
  const child = spawnTracked(
    binary.path,
    [
      // A sentinel writes what it learns into its configuration, so it must be a file.
      ...(options.sentinel === undefined ? [] : [sentinelFile(folder, options.sentinel), '--sentinel']),
      ...['--port', String(port), '--bind', '127.0.0.1', '--dir', folder],
      ...['--save', '', '--appendonly', 'no', '--daemonize', 'no'],
      ...(options.args ?? []),
    ],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...binary.env } },
  )
  let log = ''
  const keep = (chunk: Buffer): void => {
    log = (log + chunk.toString()).slice(-64 * 1024)
  }
  child.stdout?.on('data', keep)
  child.stderr?.on('data', keep)
  let failure: Error | undefined
  child.once('error', (error) => {
    failure = error
  })

  const connection = createRespConnection(port)
  const end = async (signal: 'SIGTERM' | 'SIGKILL'): Promise<void> => {
    connection.close()
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    child.kill(signal)
    child.kill('SIGCONT')
    const timer = setTimeout(() => child.kill('SIGKILL'), 3_000)
    await exited(child)
    clearTimeout(timer)
  }

  const giveUpAt = performance.now() + 15_000
  for (;;) {
    if (failure || child.exitCode !== null)
      throw new Error(`redis-server did not start: ${failure?.message ?? log}`)
    // One that asks for a password is up as well.
    const answer = await connection.command(['PING']).catch((error: unknown) => String(error))
    if (answer === 'PONG' || String(answer).includes('NOAUTH')) break
    if (performance.now() > giveUpAt) {
      await end('SIGKILL')
      throw new Error(`redis-server did not answer within 15 s: ${log}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 10))
  }

  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    pid: child.pid ?? 0,
    stop: async () => {
      await end('SIGTERM')
      rmSync(folder, { recursive: true, force: true })
    },
    kill9: () => end('SIGKILL'),
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
    command: (...args) => connection.command(args),
    log: () => log,
  }
}

function sentinelFile(folder: string, lines: readonly string[]): string {
  const path = join(folder, 'sentinel.conf')
  writeFileSync(path, `${lines.join('\n')}\n`)
  return path
}

/** A literal URL as the settings of a client. */
export function serversAt(url: string, tls?: TlsMaterial): RedisServers {
  const outcome = toServers({ kind: 'url', url }, tls, (text) => text)
  if (!outcome.ok) throw new TypeError(JSON.stringify(outcome.problems))
  return outcome.servers
}

interface Waiting {
  resolve(value: RedisValue): void
  reject(error: Error): void
}

/** RESP2 over one socket, opened when first needed and again after it broke; commands are answered in order. */
function createRespConnection(port: number) {
  let socket: Socket | undefined
  let waiting: Waiting[] = []
  let received: Buffer = Buffer.alloc(0)

  const broken = (error: Error): void => {
    const lost = waiting
    waiting = []
    received = Buffer.alloc(0)
    socket?.destroy()
    socket = undefined
    for (const one of lost) one.reject(error)
  }
  const take = (chunk: Buffer): void => {
    received = Buffer.concat([received, chunk])
    for (;;) {
      const parsed = parseResp(received, 0)
      if (!parsed) return
      received = received.subarray(parsed.end)
      const one = waiting.shift()
      if (parsed.value instanceof Error) one?.reject(parsed.value)
      else one?.resolve(parsed.value)
    }
  }
  const open = (): Socket => {
    const made = connect({ port, host: '127.0.0.1', noDelay: true })
    made.on('data', take)
    made.on('error', (error) => {
      if (socket === made) broken(error)
    })
    made.on('close', () => {
      if (socket === made) broken(new Error('redis closed the connection'))
    })
    made.unref()
    return made
  }

  return {
    command(args: readonly (string | number)[]): Promise<RedisValue> {
      return new Promise((resolve, reject) => {
        socket ??= open()
        const timer = setTimeout(
          () => broken(new Error(`redis did not answer ${args[0]} within 10 s`)),
          10_000,
        )
        const settle =
          <T>(next: (value: T) => void) =>
          (value: T): void => {
            clearTimeout(timer)
            next(value)
          }
        waiting.push({ resolve: settle(resolve), reject: settle(reject) })
        const parts = args.map((arg) => `$${Buffer.byteLength(String(arg))}\r\n${arg}\r\n`)
        socket.write(`*${args.length}\r\n${parts.join('')}`)
      })
    },
    close(): void {
      broken(new Error('closed'))
    },
  }
}

/** One RESP2 value at `at`, or undefined while it is not complete. */
export function parseResp(bytes: Buffer, at: number): { value: RedisValue | Error; end: number } | undefined {
  const lineEnd = bytes.indexOf('\r\n', at)
  if (lineEnd < 0) return undefined
  const line = bytes.toString('utf8', at + 1, lineEnd)
  const next = lineEnd + 2
  switch (bytes[at]) {
    case 0x2b: // +
      return { value: line, end: next }
    case 0x2d: // -
      return { value: new Error(line), end: next }
    case 0x3a: // :
      return { value: Number(line), end: next }
    case 0x24: {
      // $
      const length = Number(line)
      if (length < 0) return { value: null, end: next }
      if (bytes.length < next + length + 2) return undefined
      return { value: bytes.toString('utf8', next, next + length), end: next + length + 2 }
    }
    case 0x2a: {
      // *
      const count = Number(line)
      if (count < 0) return { value: null, end: next }
      const values: RedisValue[] = []
      let end = next
      for (let i = 0; i < count; i++) {
        const one = parseResp(bytes, end)
        if (!one) return undefined
        values.push(one.value instanceof Error ? `ERR ${one.value.message}` : one.value)
        end = one.end
      }
      return { value: values, end }
    }
    default:
      return { value: new Error(`not RESP2: ${line}`), end: bytes.length }
  }
}
