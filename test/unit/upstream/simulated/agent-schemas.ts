// Parameters of tools as coding agents and MCP servers send them: shapes, depth and keywords as seen in the wild.

type Schema = Readonly<Record<string, unknown>>

const object = (
  properties: Schema,
  required: readonly string[] = Object.keys(properties),
  extra: Schema = {},
) => ({
  type: 'object',
  properties,
  required,
  additionalProperties: false,
  ...extra,
})
const string = (extra: Schema = {}) => ({ type: 'string', ...extra })
const integer = (extra: Schema = {}) => ({ type: 'integer', ...extra })
const array = (items: unknown, extra: Schema = {}) => ({ type: 'array', items, ...extra })

const path = string({ description: 'Absolute path.', minLength: 1 })

export const AGENT_SCHEMAS: Readonly<Record<string, Schema>> = {
  shell: object(
    { command: array(string(), { minItems: 1 }), workdir: string(), timeout_ms: { type: 'number' } },
    ['command'],
  ),
  bash: object(
    {
      command: string(),
      timeout: integer({ minimum: 1, maximum: 600_000 }),
      description: string({ maxLength: 60 }),
      run_in_background: { type: 'boolean' },
    },
    ['command'],
    { $schema: 'http://json-schema.org/draft-07/schema#' },
  ),
  read: object(
    { file_path: path, offset: integer({ minimum: 0 }), limit: integer({ exclusiveMinimum: 0 }) },
    ['file_path'],
  ),
  write: object({ file_path: path, content: string() }),
  edit: object(
    {
      file_path: path,
      old_string: string(),
      new_string: string(),
      replace_all: { type: 'boolean', default: false },
    },
    ['file_path', 'old_string', 'new_string'],
  ),
  multiEdit: object({
    file_path: path,
    edits: array(
      object({ old_string: string(), new_string: string(), replace_all: { type: 'boolean' } }, [
        'old_string',
        'new_string',
      ]),
      {
        minItems: 1,
      },
    ),
  }),
  glob: object({ pattern: string(), path: string() }, ['pattern']),
  grep: object(
    {
      pattern: string(),
      output_mode: { type: 'string', enum: ['content', 'files_with_matches', 'count'] },
      '-B': { type: 'number' },
      '-i': { type: 'boolean' },
      head_limit: { type: 'number', minimum: 0, default: 250 },
    },
    ['pattern'],
  ),
  todoWrite: object({
    todos: array(
      object({
        content: string({ minLength: 1 }),
        status: { type: 'string', enum: ['pending', 'in_progress', 'completed'] },
        priority: { enum: ['high', 'medium', 'low'] },
        id: string(),
      }),
    ),
  }),
  updatePlan: object(
    {
      explanation: string(),
      plan: array(object({ step: string(), status: string({ enum: ['pending', 'done'] }) })),
    },
    ['plan'],
  ),
  applyPatch: object({ input: string({ pattern: '^\\*\\*\\* Begin Patch' }) }),
  webFetch: object({ url: string({ format: 'uri' }), prompt: string() }),
  webSearch: object(
    {
      query: string({ minLength: 2 }),
      allowed_domains: array(string()),
      blocked_domains: array(string({ format: 'hostname' })),
    },
    ['query'],
  ),
  askUser: object({
    questions: array(
      object({
        question: string(),
        header: string({ maxLength: 12 }),
        multiSelect: { type: 'boolean', default: false },
        options: array(object({ label: string(), description: string() }), { minItems: 2, maxItems: 4 }),
      }),
      { minItems: 1, maxItems: 4 },
    ),
    answers: { type: 'object', propertyNames: { type: 'string' }, additionalProperties: { type: 'string' } },
  }),
  spawnAgent: object({
    description: string(),
    prompt: string(),
    model: { anyOf: [{ enum: ['small', 'large'], type: 'string' }, { type: 'null' }] },
  }),
  strictNullable: object({
    path,
    limit: { type: ['integer', 'null'] },
    filter: { anyOf: [{ type: 'null' }, { type: 'string' }], default: null },
  }),
  pydantic: {
    $defs: {
      Address: {
        title: 'Address',
        type: 'object',
        properties: { city: string(), zip: string({ pattern: '^\\d{5}(-\\d{4})?$' }) },
        required: ['city', 'zip'],
      },
      Level: { enum: [1, 2, 3], type: 'integer' },
    },
    type: 'object',
    properties: {
      home: { $ref: '#/$defs/Address' },
      others: { type: 'array', items: { $ref: '#/$defs/Address' }, minItems: 2 },
      level: { allOf: [{ $ref: '#/$defs/Level' }], default: 2 },
    },
    required: ['home', 'others', 'level'],
  },
  tree: {
    $defs: {
      node: {
        type: 'object',
        properties: { name: string(), children: { type: 'array', items: { $ref: '#/$defs/node' } } },
        required: ['name', 'children'],
      },
    },
    type: 'object',
    properties: { root: { $ref: '#/$defs/node' } },
    required: ['root'],
  },
  filterRecursive: {
    type: 'object',
    properties: { where: { $ref: '#/definitions/expression' } },
    required: ['where'],
    definitions: {
      expression: {
        oneOf: [
          {
            type: 'object',
            properties: { and: { type: 'array', items: { $ref: '#/definitions/expression' }, minItems: 2 } },
            required: ['and'],
          },
          {
            type: 'object',
            properties: {
              field: string(),
              op: { enum: ['=', '<', '>'] },
              value: { type: ['string', 'number'] },
            },
            required: ['field', 'op', 'value'],
          },
        ],
      },
    },
  },
  discriminated: object({
    action: {
      oneOf: [
        object({
          kind: { const: 'click' },
          x: integer({ minimum: 0 }),
          y: integer({ minimum: 0 }),
          button: { enum: ['left', 'right'] },
        }),
        object({ kind: { const: 'type' }, text: string() }),
        object({ kind: { const: 'scroll' }, delta: array({ type: 'number' }, { minItems: 2, maxItems: 2 }) }),
      ],
    },
  }),
  eitherOr: {
    type: 'object',
    properties: { id: integer(), name: string() },
    oneOf: [{ required: ['id'] }, { required: ['name'] }],
  },
  calendar: object({
    title: string({ minLength: 3, maxLength: 80 }),
    start: string({ format: 'date-time' }),
    day: string({ format: 'date' }),
    at: string({ format: 'time' }),
    attendees: array(string({ format: 'email' }), { minItems: 3, uniqueItems: true }),
    uid: string({ format: 'uuid' }),
    reminderMinutes: integer({ multipleOf: 5, minimum: 7, maximum: 40 }),
  }),
  network: object({
    v4: string({ format: 'ipv4' }),
    v6: string({ format: 'ipv6' }),
    host: string({ format: 'hostname' }),
    port: integer({ minimum: 1024, maximum: 65_535 }),
  }),
  issue: object(
    {
      owner: string({ pattern: '^[a-z\\d](?:[a-z\\d]|-){0,38}$' }),
      repo: string({ pattern: '^[\\w.-]+$', minLength: 4 }),
      labels: array(string({ enum: ['bug', 'docs', 'help'] }), { uniqueItems: true, minItems: 2 }),
      state: { type: 'string', enum: ['open', 'closed'], default: 'closed' },
      sha: string({ pattern: '^[0-9a-f]{40}$' }),
    },
    ['owner', 'repo', 'labels', 'sha'],
  ),
  sql: object({
    query: string(),
    params: array({ anyOf: [string(), { type: 'number' }, { type: 'boolean' }, { type: 'null' }] }),
    confidence: { type: 'number', minimum: 0, exclusiveMaximum: 1, multipleOf: 0.01 },
  }),
  chart: object({
    points: array(
      {
        type: 'array',
        prefixItems: [{ type: 'number' }, { type: 'number' }, string()],
        items: false,
        minItems: 3,
      },
      { minItems: 2 },
    ),
    axes: {
      type: 'object',
      properties: {
        x: {
          type: 'object',
          properties: { min: { type: 'number' }, max: { type: 'number' } },
          required: ['min'],
        },
      },
      required: ['x'],
    },
  }),
  metadata: object({
    tags: { type: 'object', additionalProperties: string(), minProperties: 2 },
    counters: {
      type: 'object',
      patternProperties: { '^x-[a-z]{3}$': integer() },
      additionalProperties: false,
      minProperties: 1,
    },
  }),
  composed: {
    allOf: [
      { type: 'object', properties: { id: string({ minLength: 12 }) }, required: ['id'] },
      {
        type: 'object',
        properties: { id: string({ maxLength: 20 }), size: { type: 'number', minimum: 2 } },
        required: ['size'],
      },
      { properties: { size: { type: 'integer', maximum: 3 } } },
    ],
  },
  conditional: {
    type: 'object',
    properties: { mode: { enum: ['file', 'text'] }, path: string(), text: string() },
    required: ['mode'],
    if: { properties: { mode: { const: 'file' } } },
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
    then: { required: ['path'] },
    else: { required: ['text'] },
  },
  noArguments: { type: 'object', properties: {}, additionalProperties: false },
  hostNames: object({ constructor: string(), __proto__of: string(), toString: { type: 'boolean' } }),
  badDefault: object({ count: integer({ minimum: 1, default: null }), name: string({ default: 7 }) }),
}
