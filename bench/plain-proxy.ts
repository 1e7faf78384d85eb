// The proxy that anybody would write in an afternoon: `http.request` and two pipes, without a single feature. What a
// gateway costs is told against it. Usage: node plain-proxy.ts PORT UPSTREAM_PORT

import { Agent, createServer, request } from 'node:http'

const [port, upstreamPort] = process.argv.slice(2).map(Number)
const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY, maxFreeSockets: 4096 })

createServer((req, res) => {
  const { method, url, headers } = req
  const upstream = request(
    { host: '127.0.0.1', port: upstreamPort, method, path: url, headers, agent },
    (answer) => {
      res.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(res)
    },
  )
  upstream.on('error', () => {
    if (res.headersSent) res.destroy()
    else res.writeHead(502).end()
  })
  res.on('close', () => {
    if (!res.writableFinished) upstream.destroy()
  })
  req.pipe(upstream)
}).listen(port, '127.0.0.1')
