import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type Files, isAgentFile, loadConfiguration } from '../../../src/config/load.ts'
import { formatProblem } from '../../../src/config/problems.ts'
import { AGENT, GOOD, memoryFiles, problemsOf, snapshotOf, type Value, VENDORS } from './configurations.ts'

const load = (texts: Readonly<Record<string, string | Value>>) =>
  loadConfiguration({ path: '/etc/sluice/sluice.yaml', vendors: VENDORS, files: memoryFiles(texts) })

async function lines(texts: Readonly<Record<string, string | Value>>): Promise<string[]> {
  return problemsOf(await load(texts)).map(formatProblem)
}

const PLANNER = { '/etc/sluice/policies/planner.yaml': AGENT }

test('reads the file and the agents beside it', async () => {
  const snapshot = snapshotOf(
    await load({
      '/etc/sluice/sluice.yaml': GOOD,
      '/etc/sluice/policies/planner.yaml': 'agent: planner\nscopes: ["chat:*"]\n',
      '/etc/sluice/policies/two.yml': 'agent: two',
      '/etc/sluice/policies/three.json': '{"agent": "three"}',
      '/etc/sluice/policies/.hidden.yaml': 'not: an agent',
      '/etc/sluice/policies/readme.md': '# no agent',
    }),
  )
  expect(snapshot.source).toBe('/etc/sluice/sluice.yaml')
  expect(snapshot.policiesPath).toBe('/etc/sluice/policies')
  expect([...snapshot.agents.keys()]).toEqual(['planner', 'three', 'two'])
})

test('reads JSON', async () => {
  const snapshot = snapshotOf(await load({ '/etc/sluice/sluice.yaml': JSON.stringify(GOOD), ...PLANNER }))
  expect([...snapshot.routes.keys()]).toEqual(['gpt-oss-120b'])
})

test('a folder of agents that was named must be there; the default one need not', async () => {
  expect(await lines({ '/etc/sluice/sluice.yaml': { ...GOOD, policies: '../agents' } })).toEqual([
    '/etc/sluice/sluice.yaml:12:1 policies: /etc/agents is not there',
  ])
  const { warnings, policiesPath } = snapshotOf(await load({ '/etc/sluice/sluice.yaml': GOOD }))
  expect(policiesPath).toBeUndefined()
  expect(warnings).toEqual([
    'there is no folder "policies" beside the configuration',
    'no agent is known, so every call is answered 401',
  ])
})

test('problems name their file, line and column, in all files at once', async () => {
  expect(
    await lines({
      '/etc/sluice/sluice.yaml': 'listen:\n  prt: 1\nroutes:\n  gpt-5.1: [nobody]\n',
      '/etc/sluice/policies/a.yaml': 'agent: a\nscopes:\n  - "chat:*"\n  - "image:*"\n',
      '/etc/sluice/policies/b.yaml': 'agent: "b\n',
      '/etc/sluice/policies/c.yaml': 'agent: a\n',
    }),
  ).toEqual([
    '/etc/sluice/sluice.yaml:2:3 listen.prt: unknown key "prt"; did you mean "port"?',
    '/etc/sluice/sluice.yaml:4:13 routes["gpt-5.1"][0]: unknown tier "nobody"',
    '/etc/sluice/policies/a.yaml:4:5 scopes[1]: names an unknown operation; operations are chat, embeddings, images, audio, moderations',
    '/etc/sluice/policies/c.yaml:1:1 agent: is the name of an agent in /etc/sluice/policies/a.yaml too',
    '/etc/sluice/policies/b.yaml:2:1: something is missing: a closing quote or bracket, a comma, a colon or a space after one',
  ])
})

test.each([
  ['a key that stands twice', 'log: {}\nlog: {}\n', ':2:1: the key stands twice'],
  ['a key that stands twice in JSON', '{"log": {}, "log": {}}', ':1:13: the key stands twice'],
  ['bad indentation', 'log:\n  level: info\n level: x\n', ':3:'],
  ['a tab', 'log:\n\tlevel: info\n', ':2:'],
  ['two documents', 'log: {}\n---\nlog: {}\n', 'more than one document'],
  ['a tag', 'policies: !env FOO\n', ':1:11: a tag (!name) is not known'],
  ['an alias of nothing', 'policies: *nobody\n', 'an alias (*name) of nothing'],
  ['a key that is no text', '[a, b]: c\n', 'a key must be text'],
  ['a list instead of a mapping', '- a\n', 'must be a mapping'],
])('says of %s where and what it is', async (_, text, expected) => {
  expect((await lines({ '/etc/sluice/sluice.yaml': text, ...PLANNER })).join('\n')).toContain(expected)
})

test('a bomb of aliases and nesting without end are problems', async () => {
  const bomb = ['a: &a [x, x, x, x, x, x, x, x, x]']
  for (let step = 1; step < 12; step++) {
    const before = String.fromCharCode(96 + step)
    bomb.push(
      `${String.fromCharCode(97 + step)}: &${String.fromCharCode(97 + step)} [${Array(9).fill(`*${before}`).join(', ')}]`,
    )
  }
  for (const text of [bomb.join('\n'), 'a: &a [*a]', '['.repeat(100_000), `${'- '.repeat(50_000)}a`]) {
    const found = await lines({ '/etc/sluice/sluice.yaml': text, ...PLANNER })
    expect(found.length).toBeGreaterThan(0)
    expect(found.length).toBeLessThan(30)
  }
})

test('no syntax error repeats the text', async () => {
  const secret = 'sk-verysecret1234567890'
  const broken = [
    `apiKey: "${secret}`,
    `apiKey: '${secret}`,
    `apiKey: *${secret}`,
    `apiKey: !${secret} x`,
    `apiKey: @${secret}`,
    `apiKey: ${secret}: x`,
    `apiKey: {${secret}`,
    `apiKey: [${secret}}`,
    `apiKey: "\\${secret}"`,
    `apiKey: |${secret}\n x`,
    `%${secret}\n---\na: b`,
    `apiKey: &${secret} &b c`,
  ]
  for (const text of broken) {
    const found = await lines({
      '/etc/sluice/sluice.yaml': `providers:\n  a:\n    format: openai\n    ${text}\n`,
      ...PLANNER,
    })
    expect(found.join('\n'), text).not.toContain('verysecret1234567890')
  }
})

test('numbers as names stay as they were written', async () => {
  const snapshot = snapshotOf(
    await load({
      '/etc/sluice/sluice.yaml':
        'providers: { 007: { format: simulated } }\ntiers: { 1.10: { deployments: [007/m] } }\nroutes: { 4.10: ["1.10"] }\n',
      ...PLANNER,
    }),
  )
  expect([...snapshot.providers.keys(), ...snapshot.tiers.keys(), ...snapshot.routes.keys()]).toEqual([
    '007',
    '1.10',
    '4.10',
  ])
})

test('a file that cannot be used says why', async () => {
  const failing = (code: string): Files => ({
    read: () => Promise.reject(Object.assign(new Error('x'), { code })),
    list: () => Promise.resolve([]),
  })
  const why = async (code: string) =>
    problemsOf(await loadConfiguration({ path: '/s.yaml', vendors: VENDORS, files: failing(code) })).map(
      formatProblem,
    )
  expect(await why('ENOENT')).toEqual(['/s.yaml: is not there'])
  expect(await why('EACCES')).toEqual(['/s.yaml: may not be read by this user'])
  expect(await why('EISDIR')).toEqual(['/s.yaml: is a folder, not a file'])
  expect(await why('EIO')).toEqual(['/s.yaml: cannot be read (EIO)'])
  expect(await lines({ '/etc/sluice/sluice.yaml': `# ${'x'.repeat(4 * 1024 * 1024)}` })).toEqual([
    '/etc/sluice/sluice.yaml: is larger than 4MiB',
  ])
})

test('more agents than can be held is a problem', async () => {
  const files: Files = {
    ...memoryFiles({ '/etc/sluice/sluice.yaml': GOOD }),
    list: () => Promise.resolve(Array.from({ length: 10_001 }, (_, index) => `${index}.yaml`)),
  }
  const loaded = await loadConfiguration({ path: '/etc/sluice/sluice.yaml', vendors: VENDORS, files })
  expect(problemsOf(loaded).map((problem) => problem.message)).toEqual([
    '/etc/sluice/policies holds more than 10000 files',
  ])
})

test('an empty file is a configuration without anything', async () => {
  const { warnings } = snapshotOf(await load({ '/etc/sluice/sluice.yaml': '', ...PLANNER }))
  expect(warnings).toEqual(['there are no routes, so no model can be called'])
})

test('reads real files, through links as Kubernetes mounts them', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-load-'))
  try {
    await mkdir(join(folder, 'policies', '..data'), { recursive: true })
    await writeFile(join(folder, 'policies', '..data', 'planner.yaml'), 'agent: planner\n')
    await symlink(join('..data', 'planner.yaml'), join(folder, 'policies', 'planner.yaml'))
    await writeFile(join(folder, 'sluice.yaml'), JSON.stringify(GOOD))
    const path = join(folder, 'sluice.yaml')
    expect([...snapshotOf(await loadConfiguration({ path, vendors: VENDORS })).agents.keys()]).toEqual([
      'planner',
    ])

    await mkdir(join(folder, 'policies', 'folder.yaml'))
    await writeFile(join(folder, 'policies', 'latin.yaml'), Buffer.from([0x61, 0x3a, 0x20, 0xe9]))
    expect(
      problemsOf(await loadConfiguration({ path, vendors: VENDORS })).map((problem) => problem.message),
    ).toEqual(['is a folder, not a file', 'is not UTF-8 text'])
  } finally {
    await rm(folder, { recursive: true })
  }
})

test('knows the file of an agent by its name', () => {
  expect(['a.yaml', 'a.yml', 'a.json', 'a.b.yaml'].every(isAgentFile)).toBe(true)
  expect(['.a.yaml', '..data', 'a.yaml~', 'a.md', 'yaml', '.yaml', '#a.yaml#'].some(isAgentFile)).toBe(false)
})
