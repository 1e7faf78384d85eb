// The headers of a request as Node and the app see them: made into an object for nobody who does not read it.

import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import { connect } from 'node:net'
import { expect, it } from 'vitest'
import { Incoming, Outgoing } from '../../../src/http/message.ts'

/** What is heard of a request: by which event, and its headers before the front door has it and after. */
async function hear(lines: readonly string[], version = '1.1') {
  const heard: { event: string; before: IncomingHttpHeaders; after: IncomingHttpHeaders }[] = []
  const server = createServer({
    IncomingMessage: Incoming,
    ServerResponse: Outgoing,
    requireHostHeader: false,
  })
  for (const event of ['request', 'checkContinue', 'checkExpectation'] as const) {
    server.on(event, (req: Incoming, res: Outgoing) => {
      const before = req.headers
      req.isTaken = true
      heard.push({ event, before, after: req.headers })
      res.end()
    })
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const socket = connect({ port: typeof address === 'object' && address !== null ? address.port : 0 })
  socket.write([`GET / HTTP/${version}`, ...lines, '', ''].join('\r\n'))
  await once(socket, 'data')
  socket.destroy()
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  return heard
}

it('a request that expects nothing has no object of headers before the front door has it, and all of them after', async () => {
  expect(await hear(['Host: a', 'Accept: b', 'X-C: d'])).toEqual([
    { event: 'request', before: {}, after: { host: 'a', accept: 'b', 'x-c': 'd' } },
  ])
})

it.each([
  ['Expect: 100-continue', '100-continue', 'checkContinue'],
  ['eXPECT: 100-continue', '100-continue', 'checkContinue'],
  ['expect: tea', 'tea', 'checkExpectation'],
])('Node hears of "%s"', async (line, expected, event) => {
  const headers = { host: 'a', expect: expected }
  expect(await hear(['Host: a', line])).toEqual([{ event, before: headers, after: headers }])
})

it('one of HTTP/1.0 has its headers from the start, as Node asks what it takes', async () => {
  expect(await hear(['te: chunked'], '1.0')).toMatchObject([{ before: { te: 'chunked' } }])
})
