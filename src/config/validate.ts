// The one way from raw documents to a Snapshot, whether they come from files or from the environment: schema,
// relations, compile. Pure.

import { isObject } from '../bytes/json-value.ts'
import { compile } from './compile.ts'
import type { Finding, Problem, RawDocument } from './problems.ts'
import { explain, toFindings, toProblems } from './problems.ts'
import { agentRelations, configRelations } from './relations.ts'
import { type AgentFile, agentSchema, configSchema } from './schema.ts'
import type { Snapshot } from './snapshot.ts'
import type { Vendors } from './vendors.ts'

/** A configuration, or everything that is wrong with it (never empty). */
export type Loaded =
  | { readonly ok: true; readonly snapshot: Snapshot }
  | { readonly ok: false; readonly problems: readonly Problem[] }

export interface Documents {
  readonly config: RawDocument
  readonly agents: readonly RawDocument[]
  readonly vendors: Vendors
  /** Folder of the agents' files, absolute, or undefined when there is none. */
  readonly policiesPath: string | undefined
  readonly warnings: readonly string[]
}

/** Validates and compiles. Gives all problems of all documents at once; never throws for what was written. */
export function validate({ config, agents, vendors, policiesPath, warnings }: Documents): Loaded {
  const parsed = configSchema(vendors).safeParse(config.value, { error: explain })
  const problems = toProblems(
    config,
    distinct([...toFindings(parsed.error?.issues ?? []), ...configRelations(config.value, vendors)]),
  )

  const between = agentRelations(agents)
  const files: AgentFile[] = []
  for (const document of agents) {
    const agent = agentSchema.safeParse(withEmptyLists(document.value), { error: explain })
    if (agent.success) files.push(agent.data)
    const relations = between.filter((one) => one.document === document).map((one) => one.finding)
    problems.push(...toProblems(document, distinct([...toFindings(agent.error?.issues ?? []), ...relations])))
  }

  if (!parsed.success || problems.length > 0) return { ok: false, problems }
  return {
    ok: true,
    snapshot: compile({
      source: config.file,
      policiesPath,
      config: parsed.data,
      agents: files,
      vendors,
      warnings,
    }),
  }
}

/** Lists of an agent that are empty when nothing stands behind their key: as they are when the last line was deleted. */
const LISTS = ['bearers', 'scopes', 'deny'] as const

function withEmptyLists(agent: unknown): unknown {
  if (!isObject(agent)) return agent
  const lists = LISTS.filter((key) =>
    Object.entries(agent).some(([name, value]) => name === key && value === null),
  )
  return lists.length === 0 ? agent : { ...agent, ...Object.fromEntries(lists.map((key) => [key, []])) }
}

/** One problem for one place: what the schema says of it comes first, and a relation of a bad value adds nothing. */
function distinct(findings: readonly Finding[]): Finding[] {
  const seen = new Set<string>()
  return findings.filter(({ path, message }) => {
    const id = `${JSON.stringify(path.map(String))} ${message}`
    return seen.has(id) ? false : seen.add(id)
  })
}
