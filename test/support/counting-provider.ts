// A provider in a process of its own that answers and counts: for each request of load-process.ts, when the caller
// sent it and when it was here, µs of CLOCK_MONOTONIC, into a file for each label.

import { closeSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { readPairs } from './limiters.ts'
import { exited, spawnTracked, temporaryFolder } from './run-folder.ts'
import { answer, createScriptedProvider } from './scripted-provider.ts'

export interface CountingProvider {
  readonly url: string
  /** What came with a label so far. */
  admissions(label: string): Float64Array
  stop(): Promise<void>
}

/** Starts one. */
export async function startCountingProvider(): Promise<CountingProvider> {
  const folder = temporaryFolder('admissions')
  const child = spawnTracked(process.execPath, [import.meta.filename, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout?.once('data', (text: Buffer) => resolve(text.toString().trim()))
    child.once('exit', (code) => reject(new Error(`the provider's process ended with ${code}`)))
  })
  return {
    url,
    admissions: (label) => readPairs(join(folder, `${label}.f64`)),
    stop: async () => {
      child.kill('SIGKILL')
      await exited(child)
    },
  }
}

if (import.meta.main) {
  const folder = process.argv[2] ?? '.'
  const files = new Map<string, number>()
  const pair = new Float64Array(2)
  const good = answer({ text: 'ok' })
  const provider = await createScriptedProvider({
    record: 'count',
    script: ({ body }) => {
      const [, sentUs, label = ''] = /@(\d+)@(\w+)/.exec(body.toString()) ?? []
      pair[0] = Number(sentUs)
      pair[1] = Number(process.hrtime.bigint()) / 1000
      let file = files.get(label)
      if (file === undefined) files.set(label, (file = openSync(join(folder, `${label}.f64`), 'a')))
      writeSync(file, pair)
      return good
    },
  })
  process.once('exit', () => {
    for (const file of files.values()) closeSync(file)
  })
  process.stdout.write(`${provider.url}\n`)
}
