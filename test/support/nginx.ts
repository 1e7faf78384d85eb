// A real nginx before some gateways, with the settings that deploy/nginx/nginx.conf hands out: what is tested is the file.

import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { ensureBinary, NGINX } from './debian-binary.ts'
import { freePort } from './ports.ts'
import { exited, spawnTracked, temporaryFolder } from './run-folder.ts'

const FILE = resolve(import.meta.dirname, '../../deploy/nginx/nginx.conf')

export interface Nginx {
  /** `http://127.0.0.1:port` */
  readonly url: string
  /** What it wrote to its error log. */
  log(): string
  stop(): Promise<void>
}

export interface NginxOptions {
  /** Ports of the gateways, instead of the servers in the file. */
  readonly ports: readonly number[]
  /** Settings to have another value than in the file, for example `{ keepalive_timeout: ['4s', '500ms'] }`. */
  readonly instead?: Readonly<Record<string, readonly [from: string, to: string]>>
}

/** Starts it, and waits until it takes connections. */
export async function startNginx({ ports, instead = {} }: NginxOptions): Promise<Nginx> {
  const binary = ensureBinary(NGINX, (line) => process.stderr.write(`${line}\n`))
  const port = await freePort()
  const folder = temporaryFolder('nginx')
  let settings = readFileSync(FILE, 'utf8')
  const replace = (from: string | RegExp, to: string): void => {
    const replaced = settings.replace(from, to)
    if (replaced === settings) throw new Error(`deploy/nginx/nginx.conf has no ${from}`)
    settings = replaced
  }
  const server = /^ +server sluice1:7456(.*);\n/m.exec(settings)?.[1]
  replace(
    /(^ +server sluice\d:7456.*\n)+/m,
    ports.map((one) => `server 127.0.0.1:${one}${server};\n`).join(''),
  )
  replace('listen 8080;', `listen 127.0.0.1:${port};`)
  // In the file it is /tmp of a container of its own.
  settings = settings.replaceAll(' /tmp/', ` ${folder}/`)
  for (const [name, [from, to]] of Object.entries(instead)) replace(`${name} ${from}`, `${name} ${to}`)
  const path = join(folder, 'nginx.conf')
  writeFileSync(path, settings)
  // Started by root it would give its workers to a user who may not write into this folder.
  const global = `daemon off;${process.getuid?.() === 0 ? ' user root;' : ''}`
  const child = spawnTracked(binary.path, ['-c', path, '-e', 'stderr', '-p', folder, '-g', global], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...binary.env },
  })
  let said = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (text: Buffer) => {
      said = (said + text.toString()).slice(-64 * 1024)
    })
  const url = `http://127.0.0.1:${port}`
  for (const giveUpAt = performance.now() + 10_000; ; ) {
    if (child.exitCode !== null) throw new Error(`nginx did not start: ${said}`)
    if (await fetch(`${url}/health`).catch(() => undefined)) break
    if (performance.now() > giveUpAt) throw new Error(`nginx says nothing: ${said}`)
    await new Promise((done) => setTimeout(done, 50))
  }
  return {
    url,
    log: () => said,
    async stop() {
      // Its workers go with it only when it is asked; SIGTERM is at once, whatever is under way.
      child.kill('SIGTERM')
      await exited(child)
    },
  }
}
