import { describe, expect, it } from 'vitest'
import { RESTRICTED_FIELDS } from '../../../src/config/schema.ts'
import { GatewayError } from '../../../src/errors.ts'
import { ENDPOINTS } from '../../../src/http/operations.ts'
import { readRequest } from '../../../src/http/request.ts'
import type { ModelRequest } from '../../../src/types.ts'
import { mutate, objectText } from '../bytes/json-corpus.ts'
import { createRandom, fuzzSeed } from '../bytes/random.ts'

const seed = fuzzSeed()
const INPUTS = 200_000
const NONE: ReadonlySet<string> = new Set()
const CODES: ReadonlySet<string> = new Set(['invalid_json', 'ambiguous_field', 'invalid_request'])

/** Every name that steers, as a reader without regard to case would match it: with Unicode's simple folding, as Go's. */
const STEERING = new RegExp(
  `^(?:model|stream|stream_options|n|max_tokens|max_completion_tokens|previous_response_id|conversation|${RESTRICTED_FIELDS.join('|')})$`,
  'iu',
)
const NESTED = /^include_usage$/iu

type Fields = Readonly<Record<string, unknown>>

/** What any parser makes of an accepted body is what the gateway made of it. Undefined when that holds. */
function breach(body: Buffer, request: ModelRequest): string | undefined {
  const parsed = fieldsOf(JSON.parse(body.toString('utf8')))
  if (parsed === undefined) return 'accepts what is no object'
  if (parsed.model !== request.model) return 'reads another model'
  if ((parsed.stream === true) !== request.stream) return 'reads another stream'
  const options = fieldsOf(parsed.stream_options)
  if ((options?.include_usage === true) !== request.includeUsage) return 'reads another include_usage'
  if ((parsed.n ?? 1) !== request.choices) return 'reads another n'
  const caps = [parsed.max_tokens, parsed.max_completion_tokens].filter((cap) => typeof cap === 'number')
  if ((caps.length === 0 ? undefined : Math.max(...caps)) !== request.maxOutputTokens)
    return 'reads another cap'
  for (const name of Object.keys(parsed))
    if (STEERING.test(name) && name !== name.toLowerCase().replaceAll('ſ', 's'))
      return `lets the look-alike ${name} pass`
  for (const name of Object.keys(options ?? {}))
    if (NESTED.test(name) && name !== 'include_usage') return `lets the look-alike ${name} pass`
  for (const name of [...RESTRICTED_FIELDS]) if (name in parsed) return `lets ${name} pass`
  if ((parsed.previous_response_id ?? parsed.conversation ?? null) !== null)
    return 'lets state of an account pass'
  return undefined
}

function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.assign(Object.create(null), value)
    : undefined
}

describe('laws of readRequest', () => {
  it(`reads what JSON.parse reads or refuses with a known code, ${INPUTS} inputs (SLUICE_FUZZ_SEED=${seed})`, {
    timeout: 120_000,
  }, () => {
    const [endpoint] = ENDPOINTS
    if (endpoint === undefined) throw new Error('no endpoint')
    const random = createRandom(seed)
    const codes = new Map<string, number>()
    for (let i = 0; i < INPUTS; i += 1) {
      const whole = Buffer.from(objectText(random))
      const body = random.oneIn(3) ? mutate(random, whole) : whole
      let wrong: string | undefined
      let code = 'accepted'
      try {
        wrong = breach(body, readRequest(endpoint, body, NONE))
      } catch (error) {
        code = error instanceof GatewayError ? error.code : 'thrown'
        if (!CODES.has(code)) wrong = `throws ${String(error)}`
      }
      codes.set(code, (codes.get(code) ?? 0) + 1)
      if (wrong !== undefined) {
        throw new Error(`seed ${seed}, input ${i}: ${wrong}\n${JSON.stringify(body.toString('latin1'))}`)
      }
    }
    for (const code of ['accepted', ...CODES]) expect(codes.get(code) ?? 0, code).toBeGreaterThan(INPUTS / 50)
  })
})
