// Starts ids-process.ts, and asks Redis what so many keys take.

import type { IdsFigures, IdsJob } from './ids-process.ts'
import type { TestRedis } from './redis.ts'
import { exited, spawnTracked } from './run-folder.ts'

/** Runs a job to its end in a process of its own. */
export async function runIds(job: IdsJob): Promise<IdsFigures> {
  const entry = new URL('./ids-process.ts', import.meta.url).pathname
  const child = spawnTracked(process.execPath, ['--expose-gc', entry], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  child.send(job)
  const figures = await new Promise<IdsFigures>((resolve, reject) => {
    child.once('message', (told) => resolve(told as IdsFigures))
    void exited(child).then((code) => setTimeout(() => reject(new Error(`it ended with ${code}`)), 50))
  })
  await exited(child)
  return figures
}

/** What Redis uses for data, bytes. */
export async function usedMemory(redis: TestRedis): Promise<number> {
  const text = String(await redis.command('INFO', 'memory'))
  return Number(/used_memory_dataset:(\d+)/.exec(text)?.[1])
}

/** MEMORY USAGE of keys taken at random, each in the mean of the sample. */
export async function bytesPerKey(redis: TestRedis, sample = 500): Promise<number> {
  let bytes = 0
  for (let i = 0; i < sample; i += 1) {
    const key = String(await redis.command('RANDOMKEY'))
    bytes += Number(await redis.command('MEMORY', 'USAGE', key, 'SAMPLES', 0))
  }
  return bytes / sample
}
