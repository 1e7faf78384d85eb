// Makes `dist/`, which the package and the image run: one file of all that is imported, as resolving and linking six
// hundred takes longer than everything else of a start. What is loaded only when it is needed stays in `node_modules`.
// Usage: npm run build

import { copyFileSync, globSync, rmSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { basename, join } from 'node:path'
import { build, type Plugin } from 'rolldown'

const ROOT = join(import.meta.dirname, '..')
const DIST = join(ROOT, 'dist')
/**
 * Modules of Node, as they are. An ES import of one reads each of its exports, and some of those are getters that load
 * more: WebSocket of node:http all of Node's own undici, webcrypto of node:crypto all of that. Here a getter is no export;
 * where one is needed the build says that it is missing, and it stands here.
 */
const NEEDED_GETTERS: ReadonlySet<string> = new Set(['BlockList', 'promises'])

function toBuiltin(name: string): string {
  const module: object = process.getBuiltinModule(name) ?? {}
  const own = Object.entries(Object.getOwnPropertyDescriptors(module))
  const names = own
    .filter(([key, { get }]) => key !== 'default' && (get === undefined || NEEDED_GETTERS.has(key)))
    .map(([key]) => key)
  return [
    `const module = process.getBuiltinModule('${name}')`,
    'export default module',
    ...names.map((key) => `export const ${key} = module.${key}`),
  ].join('\n')
}

/**
 * What is loaded and never used. The package undici brings fetch, sockets, caches and mocks, where a pool and an agent for
 * proxies are all that we call; HTTP/2 is not spoken here, and asked after by name alone.
 */
const LEAN: Readonly<Record<string, string>> = {
  http2: 'export class Http2ServerRequest {}\nexport const constants = {}',
  undici: [
    `export { default as Pool } from 'undici/lib/dispatcher/pool.js'`,
    `export { default as ProxyAgent } from 'undici/lib/dispatcher/proxy-agent.js'`,
  ].join('\n'),
}

/**
 * ioredis puts seven hundred commands on a prototype, one by one, and V8 copies all that are there for each of them: 6 MB
 * and as many ms, and a collection of them in the middle of the start. A prototype from which something was taken away is a
 * dictionary, into which they go without that.
 */
const COMMANDS = 'commands.forEach(function (commandName) {\n    Commander.prototype[commandName] ='
const TO_DICTIONARY = `Commander.prototype.one = Commander.prototype.two = undefined
delete Commander.prototype.one
delete Commander.prototype.two
`

const MARK = '\0'

const lean: Plugin = {
  name: 'lean',
  resolveId(source, importer, { kind }) {
    const name = source.replace(/^node:/, '')
    // Undici asks for HTTP/2 itself, when a proxy speaks it.
    if (name === 'http2' && importer?.includes('undici')) return undefined
    if (LEAN[name] !== undefined) return `${MARK}${name}`
    if (!isBuiltin(source)) return undefined
    return kind === 'require-call' ? `${MARK}cjs:node:${name}` : `${MARK}node:${name}`
  },
  load(id) {
    if (!id.startsWith(MARK)) return undefined
    const name = id.slice(MARK.length)
    if (LEAN[name] !== undefined) return LEAN[name]
    if (!name.startsWith('cjs:')) return toBuiltin(name)
    return `module.exports = process.getBuiltinModule('${name.slice('cjs:'.length)}')`
  },
  transform(code, id) {
    if (!id.endsWith('/ioredis/built/utils/Commander.js')) return undefined
    if (!code.includes(COMMANDS)) throw new Error('ioredis makes its commands in another way now')
    return code.replace(COMMANDS, `${TO_DICTIONARY}${COMMANDS}`)
  },
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
