// `sluice check`: everything that is wrong with a configuration, or what it means. Only reads.

import { jsonSchema } from '../config/reference.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { DONE, type Hands, type Io, NOT_SO } from './io.ts'
import { findConfiguration, loadFound } from './source.ts'
import { coloured, printable, problemLines, shortPath, table } from './terminal.ts'

export interface CheckOptions {
  readonly config?: string
  readonly schema?: boolean
  readonly json?: boolean
}

/** Exit code 0 when a server could start with this configuration, else 1. */
export async function check(options: CheckOptions, io: Io, hands: Hands): Promise<number> {
  if (options.schema) {
    io.stdout(`${JSON.stringify(jsonSchema(hands.vendors), undefined, 2)}\n`)
    return DONE
  }

  const path = await findConfiguration(options.config, io)
  const loaded = await loadFound(path, io, hands)
  const secrets = loaded.ok
    ? await hands.verifySecrets(loaded.snapshot)
    : { problems: loaded.problems, warnings: [] }
  const { problems } = secrets
  const warnings = [...(loaded.ok ? loaded.snapshot.warnings : []), ...secrets.warnings]
  const ok = problems.length === 0

  if (options.json) {
    io.stdout(`${JSON.stringify({ ok, problems, warnings }, undefined, 2)}\n`)
    return ok ? DONE : NOT_SO
  }
  if (!ok) io.stdout(problemLines(io, problems))
  if (loaded.ok && ok) io.stdout(`${summary(io, loaded.snapshot)}${warnings.length > 0 ? '\n' : ''}`)
  for (const warning of warnings) io.stdout(`${coloured(io, 'yellow', 'note')} ${printable(warning)}\n`)
  return ok ? DONE : NOT_SO
}

function summary(io: Io, snapshot: Snapshot): string {
  const routes = [...snapshot.routes.values()].flatMap((route) =>
    route.tiers.map((tier, place) => [
      place === 0 ? route.name : '',
      tier.name,
      tier.deployments.map((deployment) => deployment.name).join(', '),
    ]),
  )
  const agents = [...snapshot.agents.values()].map((agent) => [
    agent.name,
    String([...snapshot.bearers.values()].filter((bearer) => bearer.agent === agent.name).length),
    agent.scopes.map((scope) => `${scope.operation}:${scope.models}`).join(' ') || '(none)',
  ])
  return [
    `${coloured(io, 'green', 'good')} ${shortPath(io, snapshot.source)}\n`,
    ...(routes.length > 0 ? ['\n', table(['route', 'tier', 'deployments'], routes)] : []),
    ...(agents.length > 0 ? ['\n', table(['agent', 'bearers', 'scopes'], agents)] : []),
  ].join('')
}
