// The way to a provider over real sockets: what a receiver may do from inside its own callbacks.

import { afterEach, describe, expect, it } from 'vitest'
import type { Control, Receiver } from '../../src/upstream/kind.ts'
import { createTransport } from '../../src/upstream/transport.ts'
import { createScriptedProvider } from '../support/scripted-provider.ts'
import { makeDeployment, makeExchange } from '../unit/upstream/stage.ts'

const PIECE = Buffer.alloc(64 * 1024, 'x')
/** 64 MiB: more than the kernel takes on its way, which is up to 36 MiB where its limits are raised. */
const PIECES = 1_024

const ends: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
})

async function setUp() {
  const provider = await createScriptedProvider()
  const transport = createTransport()
  ends.push(transport.close, provider.close)
  provider.script({
    async run(call) {
      call.head(200, { 'content-type': 'text/event-stream' })
      for (let i = 0; i < PIECES; i += 1) if (!(await call.write(PIECE))) return
      call.end()
    },
  })
  const deployment = makeDeployment('p/m', {}, { baseUrl: provider.url })
  const headers = ['content-type', 'application/json']
  const exchange = makeExchange(deployment, { path: '/chat/completions', headers })
  return { start: (receiver: Receiver) => transport.call(exchange, receiver), provider }
}

/** Counts what comes; `onData` runs inside the callback. */
function createReceiver(onData: (bytes: number) => void = () => {}) {
  let bytes = 0
  const over = Promise.withResolvers<number>()
  const receiver: Receiver = {
    started() {},
    head() {},
    data(chunk) {
      bytes += chunk.length
      onData(bytes)
    },
    end: () => over.resolve(bytes),
    failed: over.reject,
  }
  return { receiver, over: over.promise, bytes: () => bytes }
}

describe('a call to a provider', () => {
  it('goes on when it is told to from inside the data of another one', async () => {
    const { start } = await setUp()
    const full = Promise.withResolvers<void>()
    const first = createReceiver(() => {
      firstControl.pause()
      full.resolve()
    })
    const firstControl: Control = start(first.receiver)
    await full.promise
    const second = createReceiver(() => firstControl.resume())
    start(second.receiver)
    expect(await second.over).toBe(PIECE.length * PIECES)
    expect(first.bytes()).toBeLessThan(PIECE.length * PIECES)
    // Paused again by its next piece, and let go from outside.
    const letGo = setInterval(() => firstControl.resume(), 1)
    expect(await first.over.finally(() => clearInterval(letGo))).toBe(PIECE.length * PIECES)
  })

  it('goes on when it is paused and let go inside its own data', async () => {
    const { start } = await setUp()
    const { receiver, over } = createReceiver(() => {
      control.pause()
      control.resume()
    })
    const control: Control = start(receiver)
    expect(await over).toBe(PIECE.length * PIECES)
  })

  it('stays paused when it is let go and paused again at once', async () => {
    const { start, provider } = await setUp()
    const full = Promise.withResolvers<void>()
    const { receiver, bytes } = createReceiver(() => {
      control.pause()
      control.resume()
      control.pause()
      full.resolve()
    })
    const control: Control = start(receiver)
    await full.promise
    const held = bytes()
    // Another whole call goes by meanwhile.
    const other = createReceiver()
    start(other.receiver)
    await other.over
    expect(bytes()).toBe(held)
    expect(provider.active).toBe(1)
    control.abort()
  })
})
