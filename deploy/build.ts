// Makes `dist/`, which the package and the image run: one file of all that is imported, as resolving and linking six
// hundred takes longer than everything else of a start. What is loaded only when it is needed stays in `node_modules`.
// Usage: npm run build

import { copyFileSync, globSync, rmSync } from 'node:fs'
import http from 'node:http'
import { basename, join } from 'node:path'
import { build, type Plugin } from 'rolldown'

const ROOT = join(import.meta.dirname, '..')
const DIST = join(ROOT, 'dist')
const LOADS_UNDICI: ReadonlySet<string> = new Set(['WebSocket', 'CloseEvent', 'MessageEvent'])

/**
 * What is loaded and never used. An ES import of node:http reads each of its exports, and some of them (WebSocket) load
 * Node's own copy of undici; the package of that name brings fetch, sockets, caches and mocks, where an agent for proxies is all
 * that we call; HTTP/2 is not spoken here, and asked after by name alone.
 */
const LEAN: Readonly<Record<string, () => string>> = {
  http: () => {
    const names = Object.keys(http).filter((name) => !LOADS_UNDICI.has(name))
    const exported = names.map((name) => `export const ${name} = http.${name}`)
    return [`const http = process.getBuiltinModule('node:http')`, 'export default http', ...exported].join(
      '\n',
    )
  },
  http2: () => 'export class Http2ServerRequest {}\nexport const constants = {}',
  undici: () => `export { default as ProxyAgent } from 'undici/lib/dispatcher/proxy-agent.js'`,
}

const lean: Plugin = {
  name: 'lean',
  resolveId(source, importer) {
    const name = source.replace(/^node:/, '')
    // Undici asks for HTTP/2 itself, when a provider speaks it.
    if (LEAN[name] === undefined || (name === 'http2' && importer?.includes('undici'))) return undefined
    return `\0${name}`
  },
  load: (id) => (id.startsWith('\0') ? LEAN[id.slice(1)]?.() : undefined),
}

rmSync(DIST, { recursive: true, force: true })
await build({
  cwd: ROOT,
  input: 'src/main.ts',
  platform: 'node',
  plugins: [lean],
  output: {
    dir: DIST,
    format: 'esm',
    entryFileNames: '[name].js',
    chunkFileNames: '[name].js',
    minify: false,
  },
  logLevel: 'warn',
})
// They are read beside the program.
for (const script of globSync('src/**/*.lua', { cwd: ROOT }))
  copyFileSync(join(ROOT, script), join(DIST, basename(script)))
