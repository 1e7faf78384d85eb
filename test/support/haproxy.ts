// A real HAProxy before gateways, with the settings that deploy/load-balancer.md tells operators to use: they are read
// from the page.

import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { ensureBinary, HAPROXY } from './debian-binary.ts'
import { freePort } from './ports.ts'
import { exited, spawnTracked, temporaryFolder } from './run-folder.ts'

export interface Haproxy {
  /** `http://127.0.0.1:port` */
  readonly url: string
  /** How each server stands, as HAProxy itself says: UP, DOWN and so on. */
  states(): Promise<readonly string[]>
  stop(): Promise<void>
}

/** Starts it before gateways on these ports, and waits until it takes connections. */
export async function startHaproxy(ports: readonly number[]): Promise<Haproxy> {
  const binary = ensureBinary(HAPROXY, (line) => process.stderr.write(`${line}\n`))
  const [port, statsPort] = [await freePort(), await freePort()]
  const page = readFileSync(resolve(import.meta.dirname, '../../deploy/load-balancer.md'), 'utf8')
  const block = /^```haproxy\n([^`]*)```$/m.exec(page)?.[1]
  if (block === undefined) throw new Error('deploy/load-balancer.md has no block haproxy')
  const settings = block
    .replace(/^ +server .*\n/gm, '')
    .replace('bind :80', `bind 127.0.0.1:${port}`)
    .concat(ports.map((one, i) => `  server sluice${i + 1} 127.0.0.1:${one}\n`).join(''))
    .concat(`\nlisten stats\n  bind 127.0.0.1:${statsPort}\n  stats enable\n  stats uri /stats\n`)
  const path = join(temporaryFolder('haproxy'), 'haproxy.cfg')
  writeFileSync(path, settings)
  const child = spawnTracked(binary.path, ['-db', '-f', path], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...binary.env },
  })
  let said = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (text: Buffer) => {
      said = (said + text.toString()).slice(-16_384)
    })
  const states = async (): Promise<readonly string[]> => {
    const text = await (await fetch(`http://127.0.0.1:${statsPort}/stats;csv`)).text()
    const [heading = '', ...lines] = text.split('\n')
    const at = heading.split(',').indexOf('status')
    return lines
      .map((line) => line.split(','))
      .filter(([, server]) => server?.startsWith('sluice'))
      .map((cells) => cells[at] ?? '')
  }
  for (const giveUpAt = performance.now() + 10_000; ; ) {
    if (child.exitCode !== null) throw new Error(`haproxy did not start: ${said}`)
    if ((await states().catch(() => [])).length === ports.length) break
    if (performance.now() > giveUpAt) throw new Error(`haproxy says nothing: ${said}`)
    await new Promise((done) => setTimeout(done, 50))
  }
  return {
    url: `http://127.0.0.1:${port}`,
    states,
    async stop() {
      child.kill('SIGKILL')
      await exited(child)
    },
  }
}
