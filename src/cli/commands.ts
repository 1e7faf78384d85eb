// The command line: words to functions, and what went wrong to exit codes. Never touches `process`; main.ts hands in
// everything and ends with the code that comes back.

import { Command, CommanderError } from 'commander'
import { listBearers, newBearer } from './bearers.ts'
import { check } from './check.ts'
import { explain } from './explain.ts'
import { DONE, type Hands, type Io, WRONG_USAGE } from './io.ts'
import { showLimits } from './limits.ts'
import { reload } from './reload.ts'
import { findConfiguration } from './source.ts'
import { showStatus } from './status.ts'

export type { Hands, Io } from './io.ts'

const HELP_WIDTH = 100
const CONFIG_OPTION = [
  '-c, --config <file>',
  'configuration file (else SLUICE_CONFIG, else ./sluice.yaml)',
] as const

/**
 * Runs one command. `args` are the words after the program's name. Gives the exit code: 0 done, 1 the thing asked is
 * not so, 2 wrong usage. Throws only what a command did not expect.
 */
export async function runCommand(args: readonly string[], io: Io, hands: Hands): Promise<number> {
  let code = DONE
  const program = createProgram(io, hands, (ended) => {
    code = ended
  })
  try {
    await program.parseAsync([...args], { from: 'user' })
    return code
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    return error.exitCode === 0 ? DONE : WRONG_USAGE
  }
}

function createProgram(io: Io, hands: Hands, ended: (code: number) => void): Command {
  const program = new Command('sluice')
    .description('OpenAI-compatible reverse proxy for fleets of AI agents')
    .version(hands.version)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout(text),
      writeErr: (text) => io.stderr(text),
      getOutHelpWidth: () => HELP_WIDTH,
      getErrHelpWidth: () => HELP_WIDTH,
      getOutHasColors: () => io.isTty,
      getErrHasColors: () => false,
    })
    .showSuggestionAfterError()

  program
    .command('serve')
    .description('run the gateway; without a file, on what the environment tells')
    .option(...CONFIG_OPTION)
    .action(async ({ config }: { config?: string }) => {
      ended(await hands.serve({ configPath: await findConfiguration(config, io) }))
    })

  program
    .command('check')
    .description('say everything that is wrong with a configuration, or what it means')
    .option(...CONFIG_OPTION)
    .option('--json', 'for a program: { ok, problems, warnings }')
    .option('--schema', 'print the JSON Schema of the file instead')
    .action(async (options) => ended(await check(options, io, hands)))

  const bearer = program.command('bearer').description("agents' credentials")
  bearer
    .command('new')
    .description("make a bearer, shown once, and its line for the agent's file")
    .argument('<agent>', 'name of the agent')
    .option('--id <name>', 'what the log calls it (else the start of its hash)')
    .option('--expires <date>', 'refused from 00:00 UTC of that day, YYYY-MM-DD')
    .action(async (agent, options) => ended(await newBearer(agent, options, io, hands)))
  bearer
    .command('list')
    .description("list the bearers in the agents' files; shows nothing secret")
    .option(...CONFIG_OPTION)
    .option('--json', 'for a program')
    .action(async (options) => ended(await listBearers(options, io, hands)))

  program
    .command('status')
    .description(
      'show tiers and deployments of the running gateway, agents near a limit, and secrets (SLUICE_ADMIN_URL, SLUICE_ADMIN_TOKEN)',
    )
    .option('--all', 'all agents, not only those near a limit')
    .option('--agents', 'only the agents')
    .option('--secrets', 'only the secrets')
    .option('--json', 'for a program')
    .option('--watch', 'again every second, until it is interrupted')
    .action(async (options) => ended(await showStatus(options, io, hands)))

  program
    .command('limits')
    .description(
      'show what is left of all limits of the running gateway (SLUICE_ADMIN_URL, SLUICE_ADMIN_TOKEN)',
    )
    .argument('[agent]', 'only those of this agent and its bearers')
    .option('--json', 'for a program')
    .option('--watch', 'again every second, until it is interrupted')
    .action(async (agent, options) => ended(await showLimits(agent, options, io, hands)))

  program
    .command('explain')
    .description(
      'say what the running gateway would do with a request, and why, without doing it (SLUICE_ADMIN_URL, SLUICE_ADMIN_TOKEN)',
    )
    .argument('<agent>', 'whose request')
    .argument('<model>', 'model name as it would be sent')
    .option('--operation <name>', 'what is asked of it: an operation, or the path of an endpoint', 'chat')
    .option('--bearer <id>', 'by which of its bearers (else the first)')
    .option('--body <file>', 'the body of the request, JSON')
    .option('--json', 'for a program')
    .action(async (agent, model, options) => ended(await explain(agent, model, options, io, hands)))

  program
    .command('reload')
    .description(
      'let the running gateway read its configuration again (SLUICE_ADMIN_URL, SLUICE_ADMIN_TOKEN)',
    )
    .option('--secrets-only', 'only the secrets')
    .action(async (options) => ended(await reload(options, io, hands)))

  program
    .command('version')
    .description('print the version')
    .action(() => io.stdout(`${hands.version}\n`))

  return program
}
