// Agents as people run them, unmodified, each with one task that needs its shell, through a real gateway: over tiers that
// speak each vendor's format, and with a first tier that fails in the middle of the task. `npm run test:agents`.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { exited, spawnTracked, temporaryFolder } from '../support/run-folder.ts'
import {
  answer,
  type Behaviour,
  createScriptedProvider,
  cutAfter,
  type ScriptedProvider,
  status,
  toolCall,
} from '../support/scripted-provider.ts'
import { installAgents } from './install.ts'
import { type AgentProgram, PROGRAMS, type Task } from './programs.ts'

/** What agents call the tool that runs a command, and how they want it. */
const SHELLS: Readonly<Record<string, (command: string) => Readonly<Record<string, unknown>>>> = {
  exec_command: (cmd) => ({ cmd }),
  Bash: (command) => ({ command, description: 'Says the word.' }),
  bash: (command) => ({ command, description: 'Says the word.' }),
  exec: (command) => ({ command }),
}
const WORD = 'forty-two'
const COMMAND = `echo ${WORD} > proof.txt; echo ${WORD}`

/** A model that has a command run, once, and then says what came of it. */
const model: Behaviour = {
  run(call) {
    const { messages, tools } = call.chat
    const result = messages.findLast(({ role }) => role === 'tool')
    if (result !== undefined) return answer({ text: `The shell said ${WORD}.` }).run(call)
    const shell = tools.find((name) => SHELLS[name] !== undefined)
    // Titles and the like are asked for without tools.
    if (shell === undefined) return answer({ text: 'A word from the shell' }).run(call)
    return toolCall(shell, SHELLS[shell]?.(COMMAND)).run(call)
  },
}

/** The same, until the tool has run: then it says half a sentence, or nothing any more. */
function failsInTheMiddle(how: Behaviour): Behaviour {
  return {
    run(call) {
      const hasResult = call.chat.messages.some(({ role }) => role === 'tool')
      return (hasResult ? how : model).run(call)
    },
  }
}

/** Tiers by the wire format that they speak, and the path below a provider's origin where that is. */
const FORMATS: Readonly<Record<string, string>> = { openai: '/v1', anthropic: '/v1', gemini: '/v1beta' }

let bin: string
let providers: readonly ScriptedProvider[]
beforeAll(async () => {
  bin = await installAgents((line) => process.stderr.write(`${line}\n`))
  providers = await Promise.all([createScriptedProvider(), createScriptedProvider()])
}, 600_000)
afterAll(() => Promise.all((providers ?? []).map((one) => one.close())))

let gateway: TestGateway | undefined
beforeEach(() => {
  for (const one of providers) one.reset()
})
afterEach(async () => {
  await gateway?.stop()
  gateway = undefined
})

/** A gateway whose model goes over tiers of these formats, one scripted provider each. */
async function startOver(...formats: readonly string[]): Promise<TestGateway> {
  const names = formats.map((format, i) => ({ format, name: `p${i + 1}`, url: providers[i]?.url ?? '' }))
  gateway = await startGateway({
    env: { PROVIDER_KEY: 'provider-key-that-no-agent-ever-sees' },
    config: {
      providers: Object.fromEntries(
        names.map(({ name, format, url }) => [
          name,
          { format, baseUrl: `${url}${FORMATS[format]}`, apiKey: 'env:PROVIDER_KEY' },
        ]),
      ),
      tiers: Object.fromEntries(
        names.map(({ name }) => [`t-${name}`, { deployments: [`${name}/m1`], retries: 0 }]),
      ),
      routes: { 'house-model': names.map(({ name }) => `t-${name}`) },
    },
  })
  return gateway
}

interface Ran {
  readonly code: number | null
  readonly said: string
  /** What its shell wrote. */
  readonly proof: string | undefined
}

async function run(program: AgentProgram, at: TestGateway): Promise<Ran> {
  const folder = temporaryFolder('agent')
  const task: Task = {
    folder,
    url: at.url,
    bearer: at.bearer,
    model: 'house-model',
    prompt: `Say ${WORD} with your shell, and tell me what it said.`,
  }
  mkdirSync(join(folder, 'home'), { recursive: true })
  for (const [path, text] of Object.entries(program.files(task))) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
  const child = spawnTracked(join(bin, program.bin), program.args(task), {
    cwd: folder,
    // Nothing of ours but the way to Node: no key of this machine's owner, and no setting.
    env: {
      PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
      HOME: `${folder}/home`,
      ...program.env(task),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (bytes: Buffer) => {
      said = (said + bytes.toString()).slice(-100_000)
    })
  const timer = setTimeout(() => child.kill('SIGKILL'), 170_000)
  const code = await exited(child)
  clearTimeout(timer)
  const path = join(folder, 'proof.txt')
  return { code, said, proof: existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined }
}

function expectDone({ code, said, proof }: Ran, how: string): void {
  expect(proof, `${how}: the shell ran\n${said.slice(-3_000)}`).toBe(WORD)
  expect(said, how).toContain(`The shell said ${WORD}.`)
  expect(code, how).toBe(0)
}

/** Evidence that the task went where it should: counted at the providers. */
function pathsOf(provider: ScriptedProvider | undefined): readonly string[] {
  return [...new Set(provider?.requests.map(({ path }) => path.replace(/[?].*$/, '')))]
}

describe.each(PROGRAMS)('$name', (program) => {
  it.each(Object.keys(FORMATS))('does its task over a tier that speaks %s', async (format) => {
    const at = await startOver(format)
    providers[0]?.script(model)
    const ran = await run(program, at)
    expectDone(ran, format)
    expect(providers[0]?.calls).toBeGreaterThanOrEqual(2)
    process.stderr.write(`  ${program.name} over ${format}: ${pathsOf(providers[0]).join(', ')}\n`)
  })

  it('does not notice that its first tier is gone in the middle of the task', async () => {
    const at = await startOver('openai', 'anthropic')
    providers[0]?.script(failsInTheMiddle(status(503)))
    providers[1]?.script(model)
    const ran = await run(program, at)
    expectDone(ran, '503')
    // The first had the task to begin with, and the second to end.
    expect(providers[0]?.calls).toBeGreaterThanOrEqual(2)
    expect(providers[1]?.calls).toBeGreaterThanOrEqual(1)
  })

  it('comes again when an answer breaks off, and takes no half one for whole', async () => {
    const at = await startOver('openai', 'anthropic')
    let cuts = 0
    const cut: Behaviour = {
      run(call) {
        cuts += 1
        return (cuts === 1 ? cutAfter({ frames: 3, text: 'The shell said something else.' }) : model).run(
          call,
        )
      },
    }
    providers[0]?.script(failsInTheMiddle(cut))
    providers[1]?.script(model)
    const ran = await run(program, at)
    expectDone(ran, 'cut')
    expect(cuts).toBeGreaterThanOrEqual(1)
  })
})
