// `sluice reload`: asks the running gateway to read its configuration, or only its secrets, again.

import { z } from 'zod'
import { DONE, type Hands, type Io, NOT_SO } from './io.ts'
import { printable, problemLines } from './terminal.ts'

const DEFAULT_URL = 'http://127.0.0.1:7457'
const TIMEOUT_MS = 30_000

/** What the operators' port answers; whatever else it says is not shown. */
const answerSchema = z.object({
  applied: z.boolean().optional().catch(undefined),
  problems: z
    .array(
      z.object({
        file: z.string(),
        path: z.string(),
        message: z.string(),
        line: z.number().optional(),
        column: z.number().optional(),
      }),
    )
    .optional()
    .catch(undefined),
  error: z.object({ message: z.string() }).optional().catch(undefined),
})

export interface ReloadOptions {
  readonly secretsOnly?: boolean
}

/** POST `/reload` at `SLUICE_ADMIN_URL` with `SLUICE_ADMIN_TOKEN`. Exit code 1 when the gateway kept what it had. */
export async function reload(options: ReloadOptions, io: Io, hands: Hands): Promise<number> {
  const base = io.env.SLUICE_ADMIN_URL || DEFAULT_URL
  const token = io.env.SLUICE_ADMIN_TOKEN
  if (!token) return notSo(io, 'SLUICE_ADMIN_TOKEN is not set; a reload needs the token of admin.token')
  if (!URL.canParse(base)) return notSo(io, 'SLUICE_ADMIN_URL is not a URL')
  const url = new URL('/reload', base)
  if (options.secretsOnly) url.searchParams.set('secretsOnly', 'true')

  let response: Response
  let text: string
  try {
    response = await hands.fetch(url, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}` },
      // The token is for this address and for no other.
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
    text = await response.text()
  } catch {
    return notSo(io, `nobody answers at ${url.origin}; is the gateway running?`)
  }
  const { applied, problems = [], error } = answerSchema.catch({}).parse(parseJson(text))
  if (problems.length > 0) io.stderr(problemLines(io, problems.map(dropUndefined)))
  if (!response.ok && applied !== true) {
    const said = `the gateway answered ${response.status} and kept what it had`
    return notSo(io, error ? printable(error.message) : said)
  }
  io.stdout(options.secretsOnly ? 'secrets reloaded\n' : 'reloaded\n')
  return problems.length > 0 ? notSo(io, 'the secrets above kept their last good values') : DONE
}

function dropUndefined({
  line,
  column,
  ...rest
}: NonNullable<z.output<typeof answerSchema>['problems']>[number]) {
  return { ...rest, ...(line !== undefined && { line }), ...(column !== undefined && { column }) }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function notSo(io: Io, message: string): number {
  io.stderr(`error: ${message}\n`)
  return NOT_SO
}
