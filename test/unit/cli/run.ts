// One command as main.ts runs it, with everything it says and without a network.

import { randomBytes } from 'node:crypto'
import { tmpdir } from 'node:os'
import { type Hands, runCommand } from '../../../src/cli/commands.ts'
import { START, VENDORS } from '../config/configurations.ts'

export interface Setting {
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly isTty?: boolean
  readonly rows?: number
  readonly hands?: Partial<Hands>
}

/** Runs a command and gives what it printed and its exit code. */
export async function runCli(
  args: readonly string[],
  { env = {}, cwd = tmpdir(), isTty = false, rows = 24, hands = {} }: Setting = {},
) {
  const said = { out: '', err: '', secret: '', served: '' }
  const code = await runCommand(
    args,
    {
      stdout: (text) => {
        said.out += text
      },
      stderr: (text) => {
        said.err += text
      },
      stdoutSecret: (text) => {
        said.secret += text
      },
      env,
      cwd,
      isTty,
      rows,
    },
    {
      vendors: VENDORS,
      start: START,
      version: '1.2.3',
      serve: async ({ configPath }) => {
        said.served = configPath ?? 'environment'
        return 0
      },
      verifySecrets: async () => ({ problems: [], warnings: [] }),
      randomBytes,
      now: () => Date.UTC(2027, 0, 1),
      fetch: () => Promise.reject(new Error('no network in this test')),
      wait: () => Promise.reject(new Error('no time passes in this test')),
      ...hands,
    },
  )
  return { ...said, code }
}
