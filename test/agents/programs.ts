// The agents that people run, as a person runs them: what is installed, what is written into their folder, and the
// command for one task. What each needs is said in deploy/agents/ too; the two must agree.

/** Where an agent is to go, and for what. */
export interface Task {
  /** Its own folder and home, empty. */
  readonly folder: string
  /** Origin of the gateway, without `/v1`. */
  readonly url: string
  readonly bearer: string
  /** Public name of the model. */
  readonly model: string
  readonly prompt: string
}

export interface AgentProgram {
  readonly name: string
  /** Package and exact version, from npm. */
  readonly package: string
  /** Of the package; in `node_modules/.bin`. */
  readonly bin: string
  /** Endpoint of the gateway that it calls, below `/v1`. */
  readonly calls: string
  /** Files in its folder, by path. */
  files(task: Task): Readonly<Record<string, string>>
  args(task: Task): readonly string[]
  env(task: Task): Readonly<Record<string, string>>
}

/** One model as OpenClaw and OpenCode want it described. */
const WINDOW = { context: 200_000, output: 8_192 }

function openCode(api: { readonly npm: string; readonly calls: string }): AgentProgram {
  return {
    name: `OpenCode by ${api.calls}`,
    package: 'opencode-ai@1.18.33',
    bin: 'opencode',
    calls: api.calls,
    files: ({ url, model }) => ({
      'opencode.json': JSON.stringify({
        share: 'disabled',
        autoupdate: false,
        provider: {
          sluice: {
            npm: api.npm,
            name: 'Sluice',
            options: { baseURL: `${url}/v1`, apiKey: '{env:SLUICE_API_KEY}' },
            models: { [model]: { limit: WINDOW } },
          },
        },
      }),
    }),
    args: ({ model, prompt }) => ['run', '-m', `sluice/${model}`, '--auto', prompt],
    env: ({ bearer }) => ({ SLUICE_API_KEY: bearer, OPENCODE_DISABLE_MODELS_FETCH: '1' }),
  }
}

function openClaw(api: {
  readonly api: string
  readonly calls: string
  readonly base: string
}): AgentProgram {
  return {
    name: `OpenClaw by ${api.calls}`,
    package: 'openclaw@2026.9.6',
    bin: 'openclaw',
    calls: api.calls,
    files: ({ url, bearer, model }) => ({
      'openclaw.json': JSON.stringify({
        models: {
          mode: 'replace',
          providers: {
            sluice: {
              baseUrl: `${url}${api.base}`,
              apiKey: bearer,
              api: api.api,
              models: [
                {
                  id: model,
                  name: model,
                  reasoning: false,
                  input: ['text'],
                  cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
                  contextWindow: WINDOW.context,
                  maxTokens: WINDOW.output,
                },
              ],
            },
          },
        },
        agents: { defaults: { model: { primary: `sluice/${model}` } } },
      }),
    }),
    args: ({ folder, model, prompt }) => [
      ...['agent', 'exec', prompt, '--config', `${folder}/openclaw.json`],
      ...['--model', `sluice/${model}`, '--json', '--timeout', '90'],
    ],
    env: () => ({}),
  }
}

export const PROGRAMS: readonly AgentProgram[] = [
  {
    name: 'Codex',
    package: '@openai/codex@0.169.0',
    bin: 'codex',
    calls: 'responses',
    files: ({ url, model }) => ({
      'home/.codex/config.toml': [
        `model = "${model}"`,
        'model_provider = "sluice"',
        '[model_providers.sluice]',
        'name = "Sluice"',
        `base_url = "${url}/v1"`,
        'env_key = "SLUICE_API_KEY"',
        'wire_api = "responses"',
        '',
      ].join('\n'),
    }),
    args: ({ prompt }) => [
      ...['exec', '--skip-git-repo-check', '--ephemeral', '--json'],
      ...['--dangerously-bypass-approvals-and-sandbox', prompt],
    ],
    env: ({ bearer, folder }) => ({ SLUICE_API_KEY: bearer, CODEX_HOME: `${folder}/home/.codex` }),
  },
  {
    name: 'Claude Code',
    package: '@anthropic-ai/claude-code@2.1.332',
    bin: 'claude',
    calls: 'messages',
    files: () => ({}),
    args: ({ model, prompt }) => [
      ...['-p', prompt, '--model', model, '--output-format', 'json', '--allowedTools', 'Bash'],
    ],
    env: ({ url, bearer }) => ({
      ANTHROPIC_BASE_URL: url,
      ANTHROPIC_AUTH_TOKEN: bearer,
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
    }),
  },
  openCode({ npm: '@ai-sdk/openai-compatible', calls: 'chat/completions' }),
  openCode({ npm: '@ai-sdk/openai', calls: 'responses' }),
  openCode({ npm: '@ai-sdk/anthropic', calls: 'messages' }),
  openClaw({ api: 'openai-completions', calls: 'chat/completions', base: '/v1' }),
  openClaw({ api: 'openai-responses', calls: 'responses', base: '/v1' }),
  openClaw({ api: 'anthropic-messages', calls: 'messages', base: '' }),
]
