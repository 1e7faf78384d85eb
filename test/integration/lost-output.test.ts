// Whoever reads what is printed goes away: `serve | tee` whose tee was killed, `status --watch | head`.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join, resolve } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { createCaller, eventually } from '../support/caller.ts'
import { simpleConfig, startGateway, type TestGateway } from '../support/gateway.ts'
import { statusOf } from '../support/operator.ts'
import { createScriptedProvider } from '../support/scripted-provider.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const open: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

async function start(workers: number): Promise<TestGateway> {
  const provider = await createScriptedProvider()
  open.push(() => provider.close())
  const gateway = await startGateway({
    config: simpleConfig({ provider: provider.url, over: { listen: { workers } } }),
  })
  open.push(() => gateway.kill9())
  return gateway
}

it.each([1, 2])(
  'a gateway of %d goes on without its log, and says so once on standard error',
  async (workers) => {
    const gateway = await start(workers)
    const caller = createCaller(gateway.baseUrl, gateway.bearer)
    expect((await caller.chat()).status).toBe(200)
    gateway.closeOutput()
    for (let i = 0; i < 20; i += 1) expect((await caller.chat()).status).toBe(200)
    expect((await gateway.reload()).status).toBe(200)
    await eventually(() => gateway.stderr() !== '', 'it says so')
    if (workers > 1) expect((await statusOf(gateway)).workers).toEqual({ live: workers, of: workers })
    expect(await gateway.stop()).toBe(0)
    expect(gateway.stderr()).toBe(
      'sluice: standard output is gone, and what the log says from now on is lost\n',
    )
  },
)

it('`status --watch` ends when nobody reads it any more, and without a word', async () => {
  const gateway = await start(1)
  const child = spawn(
    join(ROOT, 'node_modules/.bin/node'),
    [join(ROOT, 'src/main.ts'), 'status', '--watch'],
    {
      env: {
        PATH: process.env.PATH,
        SLUICE_ADMIN_URL: gateway.adminUrl,
        SLUICE_ADMIN_TOKEN: gateway.adminToken,
      },
    },
  )
  let said = ''
  child.stderr.on('data', (text: Buffer) => {
    said += text
  })
  await once(child.stdout, 'data')
  child.stdout.destroy()
  const [code] = await once(child, 'exit')
  expect([code, said]).toEqual([0, ''])
})
