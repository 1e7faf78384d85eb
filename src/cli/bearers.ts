// `sluice bearer`: makes a bearer and its line for an agent's file, and lists those that the files hold. Writes no
// file; the bearer itself leaves by `stdoutSecret`, once.

import { bearerSha256, mintBearer } from '../config/bearer.ts'
import { NAME, parseDate } from '../config/schema.ts'
import type { Bearer } from '../types.ts'
import { DONE, type Hands, type Io, NOT_SO, WRONG_USAGE } from './io.ts'
import { findConfiguration, loadFound } from './source.ts'
import { problemLines, table } from './terminal.ts'

export interface NewBearerOptions {
  readonly id?: string
  readonly expires?: string
}

/**
 * Prints the bearer on the first line of standard output and its YAML line on the second, so that a script can part
 * them; words for a person go to standard error. Exit code 2 for a bad name or date.
 */
export async function newBearer(
  agent: string,
  options: NewBearerOptions,
  io: Io,
  hands: Hands,
): Promise<number> {
  if (!NAME.test(agent))
    return wrong(io, 'the name of an agent is 1 to 64 letters, digits, dots, underscores or hyphens')
  if (options.id !== undefined && !NAME.test(options.id)) {
    return wrong(io, '--id must be 1 to 64 letters, digits, dots, underscores or hyphens')
  }
  const expires = options.expires === undefined ? undefined : parseDate(options.expires)
  if (expires?.ok === false) return wrong(io, `--expires ${expires.message}`)
  if (expires && expires.value <= hands.now())
    return wrong(io, '--expires is past, so the bearer would never be valid')

  const bearer = mintBearer(hands.randomBytes)
  const sha256 = bearerSha256(bearer)
  const fields = [
    `id: ${JSON.stringify(options.id ?? sha256.slice(0, 8))}`,
    `sha256: "${sha256}"`,
    ...(options.expires === undefined ? [] : [`expires: "${options.expires}"`]),
  ]
  io.stderr(
    `A bearer for ${agent}. It is shown this once; the line goes under "bearers:" in the agent's file.\n`,
  )
  io.stdoutSecret(`${bearer}\n`)
  io.stdout(`- { ${fields.join(', ')} }\n`)
  return DONE
}

export interface ListBearersOptions {
  readonly config?: string
  readonly json?: boolean
}

/** Every bearer of every agent, by the first digits of its hash. Exit code 1 when the configuration is bad. */
export async function listBearers(options: ListBearersOptions, io: Io, hands: Hands): Promise<number> {
  const path = await findConfiguration(options.config, io)
  if (path === undefined) {
    io.stderr(
      'There is no configuration file, so no agent has a bearer: a start makes one for its own run.\n',
    )
    return NOT_SO
  }
  const loaded = await loadFound(path, io, hands)
  if (!loaded.ok) {
    io.stderr(problemLines(io, loaded.problems))
    return NOT_SO
  }
  const nowMs = hands.now()
  const bearers = [...loaded.snapshot.bearers.values()].map((bearer) => describe(bearer, nowMs))
  if (options.json) io.stdout(`${JSON.stringify(bearers, undefined, 2)}\n`)
  else {
    const rows = bearers.map(({ agent, id, sha256, expires, state }) => [
      agent,
      id,
      sha256,
      expires ?? 'never',
      state,
    ])
    io.stdout(table(['agent', 'id', 'sha256', 'expires', 'state'], rows))
  }
  return DONE
}

function describe({ agent, id, sha256, expiresMs }: Bearer, nowMs: number) {
  return {
    agent,
    id,
    sha256: sha256.slice(0, 8),
    expires: expiresMs === undefined ? null : new Date(expiresMs).toISOString().slice(0, 10),
    state: expiresMs !== undefined && expiresMs <= nowMs ? 'expired' : 'valid',
  }
}

function wrong(io: Io, message: string): number {
  io.stderr(`error: ${message}\n`)
  return WRONG_USAGE
}
