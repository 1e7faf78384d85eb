// Asks the running gateway at its operators' port. The token goes to that address and to no other, and what comes back
// is unknown until its reader has parsed it.

import { z } from 'zod'
import type { Hands, Io } from './io.ts'
import { printable } from './terminal.ts'

const DEFAULT_URL = 'http://127.0.0.1:7457'
const TIMEOUT_MS = 30_000

export interface AdminQuestion {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly query?: Readonly<Record<string, string | undefined>>
  /** Sent as JSON. */
  readonly body?: unknown
}

export type AdminAnswer =
  | {
      readonly ok: true
      /** The status was a good one. */
      readonly done: boolean
      readonly status: number
      readonly body: unknown
      /** Its own words where it refused. */
      readonly message: string | undefined
    }
  /** It could not be asked; `message` says why. */
  | { readonly ok: false; readonly message: string }

const refusalSchema = z.object({ error: z.object({ message: z.string() }) })

/** At `SLUICE_ADMIN_URL` (else 127.0.0.1:7457) with `SLUICE_ADMIN_TOKEN`. Never rejects. */
export async function askAdmin(question: AdminQuestion, io: Io, hands: Hands): Promise<AdminAnswer> {
  const base = io.env.SLUICE_ADMIN_URL || DEFAULT_URL
  const token = io.env.SLUICE_ADMIN_TOKEN
  if (!token) return { ok: false, message: 'SLUICE_ADMIN_TOKEN is not set; it is the token of admin.token' }
  if (!/^https?:\/\//i.test(base) || !URL.canParse(base))
    return { ok: false, message: `SLUICE_ADMIN_URL is no http address, such as ${DEFAULT_URL}` }
  const url = new URL(question.path, base)
  for (const [name, value] of Object.entries(question.query ?? {}))
    if (value !== undefined) url.searchParams.set(name, value)
  try {
    const response = await hands.fetch(url, {
      method: question.method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(question.body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(question.body !== undefined && { body: JSON.stringify(question.body) }),
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
    const body = parseJson(await response.text())
    const { data } = refusalSchema.safeParse(body)
    const message = data && printable(data.error.message)
    return { ok: true, done: response.ok, status: response.status, body, message }
  } catch {
    return { ok: false, message: `nobody answers at ${url.origin}; is the gateway running?` }
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
