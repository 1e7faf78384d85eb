// The reader of a start without a file. It asks a local server which model it has, so that nobody has to write it
// down; what the variables mean is environment.ts's.

import { bearerSha256 } from './bearer.ts'
import { type Environment, fromEnvironment } from './environment.ts'
import type { Reader } from './reader.ts'
import type { Loaded } from './validate.ts'
import type { Start, Vendors } from './vendors.ts'

export interface EnvironmentReaderOptions {
  readonly environment: Environment
  readonly vendors: Vendors
  readonly start: Start
  /** The bearer of this run. */
  readonly bearer: string
  /** For the question to `LOCAL_LLM_URL`. */
  readonly fetch: typeof fetch
}

/** Reads the environment, which does not change under a running process. */
export function createEnvironmentReader(options: EnvironmentReaderOptions): Reader {
  const { environment, vendors, start, bearer } = options
  async function read(): Promise<Loaded> {
    return fromEnvironment(environment, {
      vendors,
      start,
      bearerSha256: bearerSha256(bearer),
      localModel: await askLocalModel(options),
    })
  }
  return { read, readAround: read, sourcesOf: () => undefined }
}

/** The first model that a local server lists; undefined when it does not answer soon. */
async function askLocalModel({ environment, fetch }: EnvironmentReaderOptions): Promise<string | undefined> {
  const url = environment.LOCAL_LLM_URL
  if (url === undefined || url === '' || environment.SLUICE_LOCAL_MODEL !== undefined) return undefined
  const base = url.replace(/\/+$/, '')
  try {
    const answer = await fetch(`${base.endsWith('/v1') ? base : `${base}/v1`}/models`, {
      signal: AbortSignal.timeout(1000),
      redirect: 'error',
    })
    const body: unknown = await answer.json()
    const list =
      typeof body === 'object' && body !== null && 'data' in body && Array.isArray(body.data) ? body.data : []
    const id: unknown = list[0]?.id
    return typeof id === 'string' ? id : undefined
  } catch {
    return undefined
  }
}
