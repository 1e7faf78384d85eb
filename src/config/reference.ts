// The reference of the configuration, generated from the schema so that it cannot say anything else: a JSON Schema
// for editors and a page for people. Pure: who writes the files is the caller's business.

import { z } from 'zod'
import { isObject } from '../bytes/json-value.ts'
import { agentSchema, configSchema, NOT_YET } from './schema.ts'
import type { Vendors } from './vendors.ts'

type JsonSchema = z.core.JSONSchema.BaseSchema

/** A generated file: its name below `deploy/reference`, and its text. */
export interface ReferenceFile {
  readonly name: string
  readonly text: string
}

/** Everything that is generated, for writing and for the test that nothing has drifted. */
export function referenceFiles(vendors: Vendors): readonly ReferenceFile[] {
  return [
    { name: 'sluice.schema.json', text: `${JSON.stringify(jsonSchema(vendors), undefined, 2)}\n` },
    { name: 'configuration.md', text: referencePage(vendors) },
  ]
}

/** JSON Schema (2020-12) of the configuration file; that of an agent's file is its `$defs.Agent`. */
export function jsonSchema(vendors: Vendors): JsonSchema {
  const { $schema, ...config } = toJson(configSchema(vendors))
  const { $schema: _, ...agent } = toJson(agentSchema)
  return {
    $schema,
    title: 'Sluice configuration',
    description: 'The configuration file of sluice. An agent, one file in `policies`, is #/$defs/Agent.',
    ...config,
    $defs: { Agent: { title: 'Sluice agent', ...agent } },
  }
}

/** The page `configuration.md`: every key with its path, type, default and meaning. */
export function referencePage(vendors: Vendors): string {
  return [
    '# Configuration reference',
    '',
    '<!-- Generated from src/config/schema.ts by `npm run -s reference`; changes here are lost. -->',
    '',
    'Durations are written `250ms`, `10s`, `5m`, `1h`, `30d`; sizes `32MiB` (or the decimal `32MB`); rates `30/min`,',
    '`50/s`, `1000/h`, `5000/d`, where the number is the capacity too, or `{ capacity: 100, refill: 50/s }`. Secrets are',
    'references, `env:NAME` or `file:/path`. Unknown keys are errors. `<name>` is a name of your choice, `[]` an item of',
    `a list. What is marked ${NOT_YET} is known and refused until a later version brings it.`,
    '',
    '## The configuration file',
    '',
    ...table(toJson(configSchema(vendors))),
    '',
    '## An agent: one file in `policies`',
    '',
    ...table(toJson(agentSchema)),
    '',
  ].join('\n')
}

function toJson(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, {
    io: 'input',
    // zod leaves out the examples of what it transforms, because they could be of the output; ours are of the input.
    override: ({ zodSchema, jsonSchema: made }) => {
      const examples = z.globalRegistry.get(zodSchema)?.examples
      if (Array.isArray(examples)) made.examples = examples
    },
  })
}

interface Row {
  readonly path: string
  readonly schema: JsonSchema
  readonly required: boolean
}

function table(root: JsonSchema): string[] {
  const lines = keysOf(root, '').map(({ path, schema, required }) =>
    [`\`${path}\``, typeOf(schema), required ? 'required' : defaultOf(schema), schema.description ?? '']
      .map((cell) => cell.replaceAll('|', '\\|'))
      .join(' | '),
  )
  return ['| key | type | default | meaning |', '|---|---|---|---|', ...lines.map((line) => `| ${line} |`)]
}

/** Every key below a schema, depth first, in the order of the schema. */
function keysOf(schema: JsonSchema, path: string): Row[] {
  const properties = Object.entries(schema.properties ?? {}).flatMap(([key, value]): Row[] => {
    const inner = asSchema(value) ?? {}
    const below = path === '' ? key : `${path}.${key}`
    return [
      { path: below, schema: inner, required: schema.required?.includes(key) ?? false },
      ...keysOf(inner, below),
    ]
  })
  const names = asSchema(schema.additionalProperties)
  const items = asSchema(schema.items)
  return [
    ...properties,
    ...(names ? keysOf(names, `${path}.<name>`) : []),
    ...(items ? keysOf(items, `${path}[]`) : []),
    ...(schema.anyOf ?? []).flatMap((form) => keysOf(asSchema(form) ?? {}, path)),
  ]
}

function typeOf(schema: JsonSchema): string {
  if (schema.not !== undefined) return '–'
  if (schema.anyOf) return [...new Set(schema.anyOf.map((form) => typeOf(asSchema(form) ?? {})))].join(' or ')
  if (schema.title !== undefined) return schema.title
  if (schema.enum) return schema.enum.map((word) => `\`${String(word)}\``).join(', ')
  if (schema.const !== undefined) return `\`${String(schema.const)}\``
  if (schema.type === 'array') return listOf(asSchema(schema.items))
  if (schema.type === 'integer') return 'whole number'
  if (schema.type === 'string') return 'text'
  if (schema.type === 'object') return schema.propertyNames === undefined ? 'mapping' : 'mapping of names'
  return String(schema.type ?? 'any')
}

function listOf(item: JsonSchema | undefined): string {
  return item === undefined || Object.keys(item).length === 0 ? 'list' : `list of ${typeOf(item)}`
}

function defaultOf(schema: JsonSchema): string {
  const value = schema.default
  if (value === undefined || isEmptyObject(value)) return '–'
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``
}

function isEmptyObject(value: unknown): boolean {
  return isObject(value) && Object.keys(value).length === 0
}

function asSchema(value: JsonSchema['items'] | boolean): JsonSchema | undefined {
  return typeof value === 'object' && !Array.isArray(value) ? value : undefined
}
