// A scripted provider in a process of its own, which can be killed without a word of farewell as a machine dies.

import { join } from 'node:path'
import { exited, spawnTracked } from './run-folder.ts'
import { answer, createScriptedProvider } from './scripted-provider.ts'

export interface ProviderProcess {
  /** Origin with `/v1`. */
  readonly baseUrl: string
  readonly port: number
  /** SIGKILL; resolves when it is gone. */
  kill9(): Promise<void>
}

/** Starts one that streams `pieces` pieces of text, `everyMs` apart. On `port`, or any free one. */
export async function startProviderProcess({
  pieces = 5,
  everyMs = 0,
  port = 0,
} = {}): Promise<ProviderProcess> {
  const node = join(import.meta.dirname, '../../node_modules/.bin/node')
  const child = spawnTracked(node, [import.meta.filename, String(pieces), String(everyMs), String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const listening = await new Promise<number>((resolve, reject) => {
    child.stdout?.once('data', (text: Buffer) => resolve(Number(text.toString())))
    child.once('exit', (code) => reject(new Error(`the provider's process ended with ${code}`)))
  })
  return {
    baseUrl: `http://127.0.0.1:${listening}/v1`,
    port: listening,
    kill9: async () => {
      child.kill('SIGKILL')
      await exited(child)
    },
  }
}

if (import.meta.main) {
  const [pieces = 5, everyMs = 0, port = 0] = process.argv.slice(2).map(Number)
  const text = Array.from({ length: pieces }, (_, i) => `piece-${i} `)
  const provider = await createScriptedProvider({ port, script: answer({ pieces: text, everyMs }) })
  process.stdout.write(`${provider.port}\n`)
}
