// `sluice explain`: what the running gateway would do with a request, and why, without doing it.

import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { askAdmin } from './admin.ts'
import { DONE, type Hands, type Io, NOT_SO, notSo, WRONG_USAGE } from './io.ts'
import { type Colour, coloured, printable, shortPath, table } from './terminal.ts'

export interface ExplainOptions {
  readonly operation: string
  readonly bearer?: string
  /** A file with the body of the request; else the least request there is. */
  readonly body?: string
  readonly json?: boolean
}

const explainedSchema = z.object({
  allow: z.boolean(),
  status: z.number(),
  code: z.string(),
  matched: z.string(),
  message: z.string().optional(),
  route: z.string().optional(),
  limits: z.array(z.looseObject({ kind: z.string(), id: z.string() })),
  plan: z.array(
    z.object({ tier: z.string(), deployment: z.string(), state: z.string(), reason: z.string() }),
  ),
})

type Explained = z.output<typeof explainedSchema>

/** Exit code 1 when the request would be refused, or the gateway cannot be asked. */
export async function explain(
  agent: string,
  model: string,
  { operation, bearer, body: file, json }: ExplainOptions,
  io: Io,
  hands: Hands,
): Promise<number> {
  const body = await readBody(file, { model, operation }, io)
  if (typeof body === 'string') {
    io.stderr(`error: ${body}\n`)
    return WRONG_USAGE
  }
  const answer = await askAdmin(
    { method: 'POST', path: '/explain', body: { agent, bearer, operation, body } },
    io,
    hands,
  )
  if (!answer.ok) return notSo(io, answer.message)
  if (!answer.done) return notSo(io, answer.message ?? `the gateway answered ${answer.status}`)
  const { data: told } = explainedSchema.safeParse(answer.body)
  if (told === undefined) return notSo(io, 'the gateway says it in a way that this version cannot read')
  io.stdout(json ? `${JSON.stringify(told, undefined, 2)}\n` : page(io, told))
  return told.status < 300 ? DONE : NOT_SO
}

/** The body that is asked about; a text says what is wrong with the file. */
async function readBody(
  file: string | undefined,
  { model, operation }: { readonly model: string; readonly operation: string },
  io: Io,
): Promise<Readonly<Record<string, unknown>> | string> {
  if (file === undefined) return { model, ...leastOf(operation) }
  const path = shortPath(io, file)
  try {
    const parsed: unknown = JSON.parse(
      await readFile(file.startsWith('/') ? file : `${io.cwd}/${file}`, 'utf8'),
    )
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
      return `${path} holds no JSON object`
    return { ...parsed, model }
  } catch (error) {
    return error instanceof SyntaxError ? `${path} is no JSON` : `${path} cannot be read`
  }
}

/** The least request of an operation, or of an endpoint by its path. */
function leastOf(operation: string): Readonly<Record<string, unknown>> {
  const messages = [{ role: 'user', content: 'Hello.' }]
  const name = operation.replace(/^(?:\/v1)?\//, '')
  if (name === 'chat' || name === 'chat/completions') return { messages }
  if (name.startsWith('messages')) return { messages, max_tokens: 1024 }
  return name === 'completions' || name.startsWith('images') ? { prompt: 'Hello.' } : { input: 'Hello.' }
}

const COLOURS: Readonly<Record<string, Colour>> = {
  available: 'green',
  slow: 'yellow',
  low_quota: 'yellow',
  unavailable: 'red',
}

function page(io: Io, { allow, status, code, matched, message, route, limits, plan }: Explained): string {
  const verdict =
    status < 300 ? coloured(io, 'green', 'would be answered') : coloured(io, 'red', `${status} ${code}`)
  const lines = [
    verdict,
    matched === '' ? '' : `${allow ? 'allowed by' : 'refused for want of'} ${printable(matched)}`,
    route === undefined ? '' : `route ${printable(route)}`,
  ].filter((line) => line !== '')
  return [
    `${lines.join(', ')}\n`,
    message === undefined ? '' : `${printable(message)}\n`,
    limits.length === 0
      ? ''
      : `takes from ${limits.map(({ kind, id }) => printable(`${kind} ${id}`)).join(', ')}\n`,
    plan.length === 0
      ? ''
      : `\n${table(
          ['', 'tier', 'deployment', 'state', 'why'],
          plan.map(({ tier, deployment, state, reason }, at) => [
            String(at + 1),
            printable(tier),
            printable(deployment),
            coloured(io, COLOURS[state] ?? 'dim', printable(state)),
            printable(reason),
          ]),
        )}`,
  ].join('')
}
