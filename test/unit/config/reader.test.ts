import { describe, expect, it } from 'vitest'
import type { Files } from '../../../src/config/load.ts'
import { createReader, heldFiles } from '../../../src/config/reader.ts'
import { SHA, VENDORS } from './configurations.ts'

const MAIN = '/etc/sluice/sluice.yaml'
const POLICIES = '/etc/sluice/policies'
const CONFIG = `
providers: { local: { format: openai, baseUrl: "http://127.0.0.1:8080/v1" } }
tiers: { t: { deployments: ["local/m"] } }
routes: { m: [t] }
policies: ./policies
`
const agent = (name: string, bearers: string) => `agent: ${name}\nbearers: ${bearers}\nscopes: ["chat:*"]\n`

function world(texts: Record<string, string>) {
  const files: Files = {
    read: async (path) => {
      const text = texts[path]
      if (text === undefined) throw Object.assign(new Error('gone'), { code: 'ENOENT' })
      return Buffer.from(text)
    },
    list: async (folder) =>
      Object.keys(texts)
        .filter((path) => path.startsWith(`${folder}/`))
        .map((path) => path.slice(folder.length + 1)),
  }
  return { texts, reader: createReader({ path: MAIN, vendors: VENDORS, files }) }
}

describe('a file with a mistake', () => {
  it('does not keep the bearer of another alive', async () => {
    const { texts, reader } = world({
      [MAIN]: CONFIG,
      [`${POLICIES}/a.yaml`]: agent('a', `[{ id: x, sha256: "${SHA}" }]`),
      [`${POLICIES}/b.yaml`]: agent('b', '[]'),
    })
    expect(await reader.read()).toMatchObject({ ok: true })
    texts[MAIN] = 'routes: ['
    texts[`${POLICIES}/a.yaml`] = agent('a', '[]')
    texts[`${POLICIES}/b.yaml`] = 'agent: [broken'
    texts[`${POLICIES}/new.yaml`] = 'agent: 5'
    const read = await reader.read()
    if (read.ok) throw new Error('it has mistakes')
    const all = new Set([
      ...read.problems.map(({ file }) => file),
      `${POLICIES}/b.yaml`,
      `${POLICIES}/new.yaml`,
    ])
    const around = await reader.readAround(all)
    if (!around.ok) throw new Error('the rest is good')
    expect([...around.snapshot.agents.keys()]).toEqual(['a', 'b'])
    expect(around.snapshot.bearers.size).toBe(0)
  })

  it('is no configuration when it was never good', async () => {
    const { reader } = world({ [MAIN]: 'routes: [' })
    expect(await reader.readAround(new Set([MAIN]))).toMatchObject({ ok: false })
  })
})

describe('a configuration that was read', () => {
  it('is the same again from what it was read from, whatever became of the files', async () => {
    const { texts, reader } = world({
      [MAIN]: CONFIG,
      [`${POLICIES}/a.yaml`]: agent('a', `[{ id: x, sha256: "${SHA}" }]`),
    })
    const loaded = await reader.read()
    if (!loaded.ok) throw new Error('it is good')
    for (const path of Object.keys(texts)) delete texts[path]
    expect(await reader.read()).toMatchObject({ ok: false })
    const sources = JSON.parse(JSON.stringify(reader.sourcesOf(loaded.snapshot)))
    const other = createReader({ path: MAIN, vendors: VENDORS, files: heldFiles(sources) })
    expect(await other.read()).toEqual(loaded)
  })

  it('is so without a folder of agents', async () => {
    const { reader } = world({ [MAIN]: CONFIG.replace('policies: ./policies', '') })
    // A folder that is not there cannot be listed.
    const loaded = await reader.read()
    if (!loaded.ok) throw new Error('it is good')
    const sources = reader.sourcesOf(loaded.snapshot)
    if (sources === undefined) throw new Error('they are known')
    const other = createReader({ path: MAIN, vendors: VENDORS, files: heldFiles(sources) })
    expect(await other.read()).toEqual(loaded)
  })
})
