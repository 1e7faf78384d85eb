import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import type { Hands } from '../../../src/cli/commands.ts'
import { bearerSha256, checksumIsRight } from '../../../src/config/bearer.ts'
import { AGENT, at, GOOD, SHA, type Value } from '../config/configurations.ts'
import { runCli, type Setting } from './run.ts'

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sluice-cli-'))
})
afterAll(() => rm(folder, { recursive: true }))

/** In an empty folder, unless another is named. */
const run = (args: readonly string[], setting: Setting = {}) => runCli(args, { cwd: folder, ...setting })

/** A folder of its own with a configuration and one agent. */
async function place(config: Value, agent: Value = AGENT): Promise<string> {
  const cwd = await mkdtemp(join(folder, 'at-'))
  await mkdir(join(cwd, 'policies'))
  await writeFile(join(cwd, 'sluice.yaml'), JSON.stringify(config, undefined, 1))
  await writeFile(join(cwd, 'policies', 'tester.yaml'), JSON.stringify(agent))
  return cwd
}

// --- usage -----------------------------------------------------------------------------------------------

test.each([
  [['--help']],
  [['help']],
  ...['serve', 'check', 'bearer', 'reload', 'version', 'status', 'limits', 'explain'].map((name) => [
    [name, '--help'],
  ]),
])('%j prints help and is done', async (args) => {
  const { code, out, err } = await run(args)
  expect([code, err]).toEqual([0, ''])
  expect(out).toContain('Usage: sluice')
})

test.each([[['bearer', 'new', '--help']], [['bearer', 'list', '--help']]])(
  '%j prints help and is done',
  async (args) => {
    expect(await run(args)).toMatchObject({ code: 0, out: expect.stringContaining('Usage: sluice bearer') })
  },
)

test.each([
  [[]],
  [['chekc']],
  [['check', '--nope']],
  [['check', 'extra']],
  [['bearer']],
  [['bearer', 'new']],
  [['serve', '--config']],
])('%j is wrong usage', async (args) => {
  const { code, out, err } = await run(args)
  expect([code, out]).toEqual([2, ''])
  expect(err).not.toBe('')
})

test('a misspelt command is told the one that was meant', async () => {
  expect((await run(['chekc'])).err).toContain('Did you mean check?')
  expect((await run(['bearer', 'lsit'])).err).toContain('Did you mean list?')
})

test('version prints the version', async () => {
  expect(await run(['version'])).toMatchObject({ code: 0, out: '1.2.3\n' })
  expect(await run(['--version'])).toMatchObject({ code: 0, out: '1.2.3\n' })
})

// --- which configuration ---------------------------------------------------------------------------------

test('takes the file that was named, else that of SLUICE_CONFIG, else ./sluice.yaml, else the environment', async () => {
  const cwd = await place(GOOD)
  const empty = await mkdtemp(join(folder, 'empty-'))
  expect((await run(['serve', '--config', 'a/b.yaml'], { cwd, env: { SLUICE_CONFIG: '/x' } })).served).toBe(
    join(cwd, 'a/b.yaml'),
  )
  expect((await run(['serve'], { cwd, env: { SLUICE_CONFIG: '/x/y.json' } })).served).toBe('/x/y.json')
  expect((await run(['serve'], { cwd })).served).toBe(join(cwd, 'sluice.yaml'))
  expect((await run(['serve'], { cwd: empty })).served).toBe('environment')
  await writeFile(join(empty, 'sluice.json'), '{}')
  expect((await run(['serve'], { cwd: empty })).served).toBe(join(empty, 'sluice.json'))
})

test('serve ends with the code of the server', async () => {
  expect((await run(['serve'], { hands: { serve: async () => 1 } })).code).toBe(1)
})

// --- check -----------------------------------------------------------------------------------------------

test('check shows what a good configuration means', async () => {
  const cwd = await place(GOOD)
  const { code, out, err } = await run(['check'], { cwd })
  expect([code, err]).toEqual([0, ''])
  expect(out).toBe(
    [
      'good sluice.yaml',
      '',
      'route         tier       deployments',
      'gpt-oss-120b  execution  local/gpt-oss-120b',
      '',
      'agent   bearers  scopes',
      'tester  1        chat:*',
      '',
    ].join('\n'),
  )
})

test('check prints every problem at once, plain when piped and in colour at a terminal', async () => {
  const cwd = await place(
    { ...at(GOOD, ['listen', 'prt'], 1), routes: { r: ['exection'] } },
    { agent: 'a', scopes: ['x:*'] },
  )
  const { code, out } = await run(['check'], { cwd })
  expect(code).toBe(1)
  expect(out).toMatch(/^error sluice\.yaml:\d+:\d+ listen\.prt: unknown key "prt"; did you mean "port"\?$/m)
  expect(out).toMatch(
    /^error sluice\.yaml:\d+:\d+ routes\.r\[0\]: unknown tier "exection"; did you mean "execution"\?$/m,
  )
  expect(out).toMatch(/^error policies\/tester\.yaml:\d+:\d+ scopes\[0\]: names an unknown operation/m)
  expect(out).toMatch(/^3 problems$/m)
  expect(out).not.toContain('\u001b')
  expect((await run(['check'], { cwd, isTty: true })).out).toContain('\u001b[31merror\u001b[0m')
  expect((await run(['check'], { cwd, isTty: true, env: { NO_COLOR: '1' } })).out).not.toContain('\u001b')
})

test('check tells of secrets that cannot be read', async () => {
  const cwd = await place(at(GOOD, ['providers', 'local', 'apiKey'], 'env:NOT_THERE'))
  const problem = {
    file: join(cwd, 'sluice.yaml'),
    path: 'providers.local.apiKey',
    message: 'NOT_THERE is not set',
  }
  const verified: string[] = []
  const hands: Partial<Hands> = {
    verifySecrets: async (snapshot) => {
      verified.push(...[...snapshot.providers.values()].flatMap((provider) => provider.keys))
      return { problems: [problem], warnings: [] }
    },
  }
  expect(await run(['check'], { cwd, hands })).toMatchObject({
    code: 1,
    out: 'error sluice.yaml providers.local.apiKey: NOT_THERE is not set\n1 problem\n',
  })
  expect(verified).toEqual(['env:NOT_THERE'])
})

test('check --json is for a program', async () => {
  const cwd = await place(at(GOOD, ['listen', 'prt'], 1))
  const bad = await run(['check', '--json'], { cwd })
  expect(bad.code).toBe(1)
  expect(JSON.parse(bad.out)).toEqual({
    ok: false,
    problems: [
      {
        file: join(cwd, 'sluice.yaml'),
        path: 'listen.prt',
        message: 'unknown key "prt"; did you mean "port"?',
        nearest: 'port',
        line: expect.any(Number),
        column: expect.any(Number),
      },
    ],
    warnings: [],
  })
  const fine = await run(['check', '--json'], { cwd: await place(GOOD) })
  expect(fine.code).toBe(0)
  expect(JSON.parse(fine.out)).toEqual({ ok: true, problems: [], warnings: [] })
})

test('check judges the environment when there is no file', async () => {
  const cwd = await mkdtemp(join(folder, 'none-'))
  expect(await run(['check'], { cwd })).toMatchObject({
    code: 0,
    out: expect.stringContaining('simulated/gpt-oss-120b'),
  })
  const { code, out } = await run(['check'], { cwd, env: { LOCAL_LLM_URL: 'http://me:hunter2@host' } })
  expect(code).toBe(1)
  expect(out).toContain('LOCAL_LLM_URL: must hold no credentials')
  expect(out).not.toContain('hunter2')
})

test('check never prints a key that was written out', async () => {
  const cwd = await place({
    ...at(GOOD, ['providers', 'local', 'apiKey'], 'sk-verysecret'),
    admin: { token: 'verysecret' },
    redis: { url: 'http://verysecret' },
  })
  for (const args of [['check'], ['check', '--json']]) {
    const { code, out, err } = await run(args, { cwd })
    expect(code).toBe(1)
    expect(out + err).not.toContain('verysecret')
    expect(out).toContain('must be a reference')
  }
})

test('check --schema prints the JSON Schema', async () => {
  const { code, out } = await run(['check', '--schema'])
  expect(code).toBe(0)
  expect(JSON.parse(out)).toMatchObject({
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
  })
})

test('names out of a file do not steer the terminal', async () => {
  const cwd = await place(at(GOOD, ['\u001b[2J'], 1))
  expect((await run(['check'], { cwd })).out).not.toContain('\u001b')
})

// --- bearers ---------------------------------------------------------------------------------------------

test('bearer new shows the bearer once, past the scrubber, and the line for the file', async () => {
  const { code, out, err, secret } = await run([
    'bearer',
    'new',
    'planner',
    '--id',
    'laptop',
    '--expires',
    '2027-02-19',
  ])
  expect(code).toBe(0)
  const bearer = secret.trimEnd()
  expect(checksumIsRight(bearer)).toBe(true)
  expect(out + err).not.toContain(bearer)
  expect(parse(out)).toEqual([{ id: 'laptop', sha256: bearerSha256(bearer), expires: '2027-02-19' }])

  const cwd = await place(GOOD, { ...AGENT, bearers: parse(out) })
  expect((await run(['check'], { cwd })).code).toBe(0)
})

test('bearer new names a bearer by its hash unless told', async () => {
  const { out, secret } = await run(['bearer', 'new', 'planner'])
  expect(parse(out)).toEqual([
    { id: bearerSha256(secret.trimEnd()).slice(0, 8), sha256: bearerSha256(secret.trimEnd()) },
  ])
})

test.each([
  [['bearer', 'new', 'two words']],
  [['bearer', 'new', '']],
  [['bearer', 'new', 'a', '--id', 'x y']],
  [['bearer', 'new', 'a', '--expires', 'tomorrow']],
  [['bearer', 'new', 'a', '--expires', '2027-02-30']],
  [['bearer', 'new', 'a', '--expires', '2026-12-31']],
])('%j is wrong usage and makes nothing', async (args) => {
  expect(await run(args)).toMatchObject({
    code: 2,
    out: '',
    secret: '',
    err: expect.stringMatching(/^error: /),
  })
})

test('bearer list shows who, until when, and nothing secret', async () => {
  const bearers = [
    { id: 'old', sha256: 'cd'.repeat(32), expires: '2027-01-01' },
    { id: 'new', sha256: SHA, expires: '2027-01-02' },
    { id: 'ever', sha256: 'ef'.repeat(32) },
  ]
  const cwd = await place(GOOD, { ...AGENT, bearers })
  const { code, out } = await run(['bearer', 'list'], { cwd })
  expect(code).toBe(0)
  expect(out).toBe(
    [
      'agent   id    sha256    expires     state',
      'tester  old   cdcdcdcd  2027-01-01  expired',
      'tester  new   abababab  2027-01-02  valid',
      'tester  ever  efefefef  never       valid',
      '',
    ].join('\n'),
  )
  const listed = JSON.parse((await run(['bearer', 'list', '--json'], { cwd })).out)
  expect(listed[0]).toEqual({
    agent: 'tester',
    id: 'old',
    sha256: 'cdcdcdcd',
    expires: '2027-01-01',
    state: 'expired',
  })
  expect((await run(['bearer', 'list'], { cwd: await mkdtemp(join(folder, 'none-')) })).code).toBe(1)
  expect((await run(['bearer', 'list'], { cwd: await place({ x: 1 }) })).code).toBe(1)
})

// --- reload ----------------------------------------------------------------------------------------------

interface Call {
  readonly url: string
  readonly authorization: string | null
  readonly method: string
}

function answering(status: number, body: string, calls: Call[] = []): Partial<Hands> {
  return {
    fetch: async (input, init) => {
      const request = new Request(input, init)
      calls.push({
        url: request.url,
        authorization: request.headers.get('authorization'),
        method: request.method,
      })
      return new Response(body, { status })
    },
  }
}

test('reload asks the running gateway', async () => {
  const calls: Call[] = []
  const env = { SLUICE_ADMIN_TOKEN: 'operator-token' }
  expect(await run(['reload'], { env, hands: answering(200, '{}', calls) })).toMatchObject({
    code: 0,
    out: 'reloaded\n',
  })
  const elsewhere = { ...env, SLUICE_ADMIN_URL: 'http://10.0.0.1:9000/' }
  expect(
    (await run(['reload', '--secrets-only'], { env: elsewhere, hands: answering(200, '', calls) })).code,
  ).toBe(0)
  expect(calls).toEqual([
    { url: 'http://127.0.0.1:7457/reload', authorization: 'Bearer operator-token', method: 'POST' },
    {
      url: 'http://10.0.0.1:9000/reload?secretsOnly=true',
      authorization: 'Bearer operator-token',
      method: 'POST',
    },
  ])
})

test('reload tells why the gateway kept what it had', async () => {
  const env = { SLUICE_ADMIN_TOKEN: 'operator-token' }
  const problems = [{ file: 'sluice.yaml', path: 'listen.prt', message: 'unknown key', line: 2, column: 3 }]
  const refused = await run(['reload'], { env, hands: answering(422, JSON.stringify({ problems })) })
  expect(refused.code).toBe(1)
  expect(refused.err).toContain('error sluice.yaml:2:3 listen.prt: unknown key')
  const forbidden = answering(403, JSON.stringify({ error: { message: 'The token is wrong.' } }))
  expect(await run(['reload'], { env, hands: forbidden })).toMatchObject({
    code: 1,
    err: 'error: The token is wrong.\n',
  })
  expect((await run(['reload'], { env, hands: answering(500, '<html>') })).err).toContain('answered 500')
  expect((await run(['reload'], { env })).err).toContain('nobody answers at http://127.0.0.1:7457')
})

test('reload without a token or with an address that is none says so', async () => {
  expect(await run(['reload'])).toMatchObject({
    code: 1,
    err: expect.stringContaining('SLUICE_ADMIN_TOKEN is not set'),
  })
  const env = { SLUICE_ADMIN_TOKEN: 't', SLUICE_ADMIN_URL: 'nowhere' }
  expect(await run(['reload'], { env })).toMatchObject({
    code: 1,
    err: expect.stringContaining('SLUICE_ADMIN_URL'),
  })
})
