import fc from 'fast-check'
import pino from 'pino'
import { describe, expect, it } from 'vitest'
import { createRequestLines, type Fields } from '../../../src/usage/request-lines.ts'

const WALL_MS = Date.UTC(2026, 10, 26, 4, 5, 6, 7)

function createStage({ scrub = (text: string) => text, worker = undefined as number | undefined } = {}) {
  let wallMs = WALL_MS
  const written: string[] = []
  const scrubbed: string[] = []
  const byPino: string[] = []
  const log = pino(
    {
      base: worker === undefined ? undefined : { worker },
      timestamp: () => `,"time":"${new Date(wallMs).toISOString()}"`,
    },
    { write: (line: string) => void byPino.push(line) },
  )
  const lines = createRequestLines({
    log,
    write: (line) => void written.push(line),
    scrub: (text) => {
      scrubbed.push(text)
      return scrub(text)
    },
    wall: () => wallMs,
    worker,
  })
  return {
    log,
    lines: {
      info: (fields: Fields, message: string) => lines.write('info', lines.fields(fields), message),
      forget: lines.forget,
    },
    written,
    scrubbed,
    byPino,
    to: (ms: number) => {
      wallMs = ms
    },
  }
}

const text = fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.constantFrom('a"b', 'a\\b', '\u0000'))
const value = fc.oneof(
  text,
  fc.double(),
  fc.integer(),
  fc.boolean(),
  fc.constant(undefined),
  fc.array(text, { maxLength: 4 }),
)
const fields = fc.record({
  id: text,
  agent: value,
  attempts: value,
  ms: value,
  stream: value,
  address: value,
})

describe('the line of a request', () => {
  it('is the one that pino writes of the same fields', () => {
    fc.assert(
      fc.property(fields, fc.option(fc.nat(), { nil: undefined }), fc.nat(1e13), (one, worker, wallMs) => {
        const stage = createStage({ worker })
        stage.to(wallMs)
        for (let i = 0; i < 2; i += 1) {
          stage.lines.info(one, 'request')
          stage.log.info(one, 'request')
        }
        expect(stage.written).toEqual(stage.byPino)
      }),
    )
  })

  it('holds no secret of any text in it, whether it is there for the first time or not', () => {
    const { lines, written } = createStage({ scrub: (one) => one.replaceAll('hidden', '[redacted]') })
    const line = { id: 'req_1', trace: 'hidden', model: 'a hidden one', attempts: ['t:hidden=200'] }
    lines.info(line, 'request')
    lines.info(line, 'request')
    expect(written.join('')).not.toContain('hidden')
    expect(written[1]).toContain('"attempts":["t:[redacted]=200"]')
  })

  it('is scrubbed anew when something else is secret', () => {
    let secret = 'x-not-there'
    const { lines, written } = createStage({ scrub: (one) => one.replaceAll(secret, '[redacted]') })
    lines.info({ agent: 'planner' }, 'request')
    secret = 'planner'
    lines.forget()
    lines.info({ agent: 'planner' }, 'request')
    expect(written[0]).toContain('planner')
    expect(written[1]).not.toContain('planner')
  })

  it('has each name scrubbed once, and what comes once with each line', () => {
    const { lines, scrubbed } = createStage()
    for (let i = 0; i < 3; i += 1)
      lines.info({ id: `req_a${i}`, trace: `${i}`, agent: 'a', model: 'm'.repeat(200) }, 'request')
    const timesOf = (part: string): number => scrubbed.filter((one) => one.includes(part)).length
    expect(timesOf('"a"')).toBe(1)
    expect(timesOf('mmm')).toBe(3)
    expect(scrubbed.filter((one) => /^"\d"$/.test(one))).toEqual(['"0"', '"1"', '"2"'])
  })

  it('has an id scrubbed that is none of ours', () => {
    const { lines, scrubbed } = createStage()
    lines.info({ id: 'req_a b' }, 'request')
    expect(scrubbed).toEqual(['"req_a b"'])
  })

  it('is not written where the level is above it', () => {
    const { lines, log, written } = createStage()
    log.level = 'warn'
    lines.info({ id: 'req_1' }, 'request')
    expect(written).toEqual([])
    log.level = 'info'
    lines.info({ id: 'req_1' }, 'request')
    expect(written).toHaveLength(1)
  })
})
