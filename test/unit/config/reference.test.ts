import { copyFile, cp, mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { loadConfiguration } from '../../../src/config/load.ts'
import { jsonSchema, referenceFiles, referencePage } from '../../../src/config/reference.ts'
import { AGENT, at, GOOD, read, SHA, snapshotOf, VENDORS } from './configurations.ts'

const ROOT = resolve(import.meta.dirname, '../../..')

test.each(referenceFiles(VENDORS))(
  'deploy/reference/$name is what the schema says; `npm run -s reference` writes it',
  async ({ name, text }) => {
    expect(await readFile(join(ROOT, 'deploy/reference', name), 'utf8')).toBe(text)
  },
)

test('every key has a description', () => {
  const missing = referencePage(VENDORS)
    .split('\n')
    .filter((line) => /^\| `.*\| *\|$/.test(line))
  expect(missing).toEqual([])
})

test('a key that is to come stands in the reference with its mark', () => {
  const page = referencePage(VENDORS)
  expect(page).toMatch(/`logPrompts` \| – \| – \| \(not yet\)/)
})

test('the JSON Schema and the loader agree on what is right', () => {
  const ajv = new Ajv2020({ strict: true, allowUnionTypes: true })
  const accepts = ajv.compile(jsonSchema(VENDORS))
  const acceptsAgent = ajv.compile({ $ref: '#/$defs/Agent', $defs: jsonSchema(VENDORS).$defs })
  const configs = [
    GOOD,
    {},
    at(GOOD, ['tiers', 'execution', 'hedge'], {}),
    at(GOOD, ['tiers', 'execution', 'frist'], '1s'),
    at(GOOD, ['listen', 'port'], 70_000),
    at(GOOD, ['listen', 'workers'], 2),
    at(GOOD, ['limits', 'requests'], { capacity: 1, refill: '1/s' }),
    at(GOOD, ['limits', 'requests'], { capacity: 0, refill: '1/s' }),
    at(GOOD, ['providers', 'local', 'format'], 'azure'),
    at(GOOD, ['providers', 'local', 'format'], 'esperanto'),
    at(GOOD, ['providers', 'local', 'apiKey'], { from: ['env:A'] }),
    at(GOOD, ['failover', 'midStream'], 'resume'),
  ]
  for (const config of configs) expect(accepts(config), JSON.stringify(config)).toBe(read(config).ok)
  const agents = [
    AGENT,
    {},
    { ...AGENT, class: 'batch' },
    { ...AGENT, bearers: [{ id: 'a', sha256: SHA }] },
    { ...AGENT, x: 1 },
  ]
  for (const agent of agents) expect(acceptsAgent(agent), JSON.stringify(agent)).toBe(read(GOOD, [agent]).ok)
})

test('the example configuration is right, with the agents of policies/, and uses no key that is to come', async () => {
  // As its header says: copied to sluice.yaml beside policies/.
  const folder = await mkdtemp(join(tmpdir(), 'sluice-example-'))
  const path = join(folder, 'sluice.yaml')
  await copyFile(join(ROOT, 'deploy/sluice.example.yaml'), path)
  await cp(join(ROOT, 'policies'), join(folder, 'policies'), { recursive: true })
  const snapshot = snapshotOf(await loadConfiguration({ path, vendors: VENDORS }))
  expect([...snapshot.agents.keys()]).toEqual(
    expect.arrayContaining(['data-analyst', 'market-monitor', 'planner']),
  )
  expect(snapshot.warnings.filter((warning) => !warning.includes('is called at its'))).toEqual([
    expect.stringContaining('no agent has a bearer yet'),
  ])
  expect(
    new Ajv2020({ strict: true, allowUnionTypes: true }).validate(
      jsonSchema(VENDORS),
      parse(await readFile(path, 'utf8')),
    ),
  ).toBe(true)
})
