// Reading HTTP by hand, on made-up answers.

import { createServer, type Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import {
  parseResponses,
  type RawOptions,
  type RawPart,
  type RawResult,
  rawRequest,
} from '../../support/raw-http.ts'

const closers: (() => void)[] = []
afterEach(() => {
  for (const close of closers.splice(0)) close()
})

/** Talks to a server that does `act` at the first bytes of a connection. */
async function against(
  act: (socket: Socket, seen: Buffer) => void,
  bytes: string | readonly RawPart[],
  options: RawOptions = {},
): Promise<RawResult> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', (seen) => act(socket, seen))
  })
  closers.push(() => server.close())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = address !== null && typeof address === 'object' ? address.port : 0
  return rawRequest(port, bytes, options)
}

test('reads an answer by length and sees that the connection stays open', async () => {
  const got = await against(
    (socket) => socket.write('HTTP/1.1 200 Fine thing\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok'),
    'x',
  )
  expect(got).toMatchObject({ status: 200, closed: false, how: 'open', timedOut: false })
  expect(got.body.toString()).toBe('ok')
  expect(got.header('x-a')).toBe('1')
  expect(got.surplus.length).toBe(0)
})

test('reads an answer by chunks, torn anywhere, and sees the end of the connection', async () => {
  const answer = 'HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n'
  const got = await against((socket) => {
    socket.write(answer.slice(0, 55))
    setTimeout(() => socket.end(answer.slice(55)), 10)
  }, 'x')
  expect(got).toMatchObject({ status: 400, closed: true, how: 'fin' })
  expect(got.body.toString()).toBe('abc')
  expect(got.responses[0]?.complete).toBe(true)
  for (let length = 0; length < answer.length; length++) {
    expect(parseResponses(Buffer.from(answer.slice(0, length))).responses[0]?.complete ?? false).toBe(false)
  }
})

test('counts several answers and interim ones, and keeps surplus bytes', async () => {
  const one = 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1'
  const got = await against((socket) => socket.write(`HTTP/1.1 100 Continue\r\n\r\n${one}${one}???`), 'x', {
    responses: 2,
  })
  expect(got.interim).toEqual([100])
  expect(got.responses.map((response) => response.body.toString())).toEqual(['1', '1'])
  expect(got.surplus.toString()).toBe('???')
})

test('knows that an answer to HEAD has no body', async () => {
  const got = await against(
    (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n'),
    'HEAD / HTTP/1.1\r\nHost: h\r\n\r\n',
  )
  expect(got.responses[0]).toMatchObject({ complete: true })
})

test('tells reset, garbage and silence apart', async () => {
  const reset = await against((socket) => socket.resetAndDestroy(), 'x')
  expect(reset).toMatchObject({ status: 0, how: 'reset', closed: true, timedOut: false })
  const garbage = await against((socket) => socket.end('SSH-2.0-OpenSSH\r\n'), 'x')
  expect(garbage).toMatchObject({ status: 0, how: 'fin' })
  expect(garbage.surplus.toString()).toContain('SSH')
  const silence = await against(() => undefined, 'x', { timeoutMs: 50 })
  expect(silence).toMatchObject({ status: 0, how: 'open', closed: false, timedOut: true })
})

test('sends parts with pauses and ends its half when told', async () => {
  const got = await against(
    (socket, seen) => {
      let all = seen.toString()
      socket.on('data', (more) => {
        all += more
      })
      socket.on('end', () => socket.end(`HTTP/1.1 200 OK\r\nContent-Length: ${all.length}\r\n\r\n${all}`))
    },
    ['ab', { delayMs: 20 }, Buffer.from('cd'), { fin: true }],
  )
  expect(got.body.toString()).toBe('abcd')
})

test('rejects when nobody listens', async () => {
  await expect(rawRequest(1, 'x')).rejects.toThrow('ECONNREFUSED')
})
