// What is known of vendors' accounts, as data: where they are, what format they speak, which variable holds a key.
// With prices.ts, which it takes its lists from, the only place outside formats/ that names one.

import { START_TIERS, type Start, type Vendors } from '../config/vendors.ts'
import { media } from '../formats/media.ts'
import { ANTHROPIC_PRICES, GEMINI_PRICES, OPENAI_PRICES } from './prices.ts'

/** Formats of OpenAI's besides chat completions. */
const OPENAI_FORMATS = ['responses', 'completions', ...Object.values(media).map(({ name }) => name)]
const OPENAI_QUIRKS = ['all-fields', 'max-completion-tokens', 'no-reasoning-content'] as const
const NO_REASONING = ['no-reasoning-content'] as const

export const VENDORS: Vendors = {
  openai: {
    baseUrl: 'https://api.openai.com/v1',
    wireFormat: 'openai',
    atHome: { alsoSpeaks: OPENAI_FORMATS, quirks: OPENAI_QUIRKS },
    servers: {
      'https://api.groq.com': NO_REASONING,
      'https://api.cerebras.ai': NO_REASONING,
      'https://api.mistral.ai': NO_REASONING,
    },
    kind: 'http',
    tracedAs: 'openai',
    environment: {
      variable: 'OPENAI_API_KEY',
      provider: 'openai',
      models: { sovereign: 'gpt-5.1', fast: 'gpt-5-mini' },
      catchAll: true,
    },
    prices: OPENAI_PRICES,
  },
  /** A deployment that is to be asked in Responses whatever its callers speak. */
  responses: {
    baseUrl: 'https://api.openai.com/v1',
    wireFormat: 'responses',
    kind: 'http',
    tracedAs: 'openai',
    prices: OPENAI_PRICES,
  },
  anthropic: {
    baseUrl: 'https://api.anthropic.com/v1',
    wireFormat: 'anthropic',
    alsoSpeaks: ['anthropic-count'],
    kind: 'http',
    tracedAs: 'anthropic',
    environment: {
      variable: 'ANTHROPIC_API_KEY',
      provider: 'anthropic',
      models: { sovereign: 'claude-opus-4-5' },
    },
    prices: ANTHROPIC_PRICES,
  },
  gemini: {
    baseUrl: 'https://generativelanguage.googleapis.com/v1beta',
    wireFormat: 'gemini',
    kind: 'http',
    tracedAs: 'gcp.gemini',
    environment: { variable: 'GEMINI_API_KEY', provider: 'google', models: { fast: 'gemini-3-flash' } },
    prices: GEMINI_PRICES,
  },
  azure: {
    baseUrl: undefined,
    wireFormat: 'azure',
    alsoSpeaks: OPENAI_FORMATS,
    settings: { apiVersion: 'optional' },
    kind: 'http',
    tracedAs: 'azure.ai.openai',
  },
  vertex: {
    baseUrl: 'https://{region}-aiplatform.googleapis.com/v1',
    globalUrl: 'https://aiplatform.googleapis.com/v1',
    wireFormat: 'vertex',
    settings: { project: 'optional', region: 'required' },
    kind: 'http',
    tracedAs: 'gcp.vertex_ai',
  },
  bedrock: {
    baseUrl: 'https://bedrock-runtime.{region}.amazonaws.com',
    wireFormat: 'bedrock',
    settings: { region: 'required' },
    kind: 'http',
    tracedAs: 'aws.bedrock',
  },
  simulated: { baseUrl: '', wireFormat: 'openai', kind: 'simulated', tracedAs: 'simulated' },
}

/** A start without a configuration file (design §3). */
export const START: Start = {
  routes: [
    ['claude-opus-4-5-thinking', ['sovereign', 'execution', 'fast']],
    ['gpt-oss-120b', ['execution', 'fast']],
    ['gemini-3-flash', ['fast', 'execution']],
    ['gemini-*', ['fast', 'execution']],
    ['auto', START_TIERS],
  ],
  models: { sovereign: 'claude-opus-4-5', execution: 'gpt-oss-120b', fast: 'gemini-3-flash' },
}
