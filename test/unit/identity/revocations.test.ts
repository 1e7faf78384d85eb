import { describe, expect, it } from 'vitest'
import type { Snapshot } from '../../../src/config/snapshot.ts'
import { GatewayError } from '../../../src/errors.ts'
import { type Change, createRevocations, MOST_REVOKED, type Stay } from '../../../src/identity/revocations.ts'
import type { Arrival } from '../../../src/types.ts'
import { createManualClock } from '../../support/manual-clock.ts'
import { GOOD, good } from '../config/configurations.ts'

const NOON = Date.UTC(2026, 10, 21, 12)
const digest = (name: string): string => Buffer.from(name).toString('hex').padEnd(64, '0')

/** A configuration whose agents have one bearer each; a value is the day on which it expires. */
function holding(names: Readonly<Record<string, string | undefined>>): Snapshot {
  return good(
    GOOD,
    Object.entries(names).map(([name, expires]) => ({
      agent: name,
      scopes: ['chat:*'],
      bearers: [{ id: `${name}-1`, sha256: digest(name), ...(expires === undefined ? {} : { expires }) }],
    })),
  )
}

function create(names: Readonly<Record<string, string | undefined>>, { quiet = false } = {}) {
  const time = createManualClock({ wallMs: NOON })
  const lines: Record<string, unknown>[] = []
  const counted: string[] = []
  const told: Change[] = []
  const ended: string[] = []
  let now = holding(names)
  const revocations = createRevocations({
    clock: time.clock,
    log: { info: (fields, message) => void lines.push({ message, ...fields }) },
    count: (source) => void counted.push(source),
    quiet,
  })
  revocations.use(now)
  revocations.onChange((changes) => void told.push(...changes))
  return {
    ...{ time, lines, counted, told, ended, revocations },
    reload(next: Readonly<Record<string, string | undefined>>) {
      now = holding(next)
      revocations.use(now)
    },
    refuses(name: string): boolean {
      const bearer = now.bearers.get(digest(name))
      return bearer === undefined || revocations.refuses(bearer)
    },
    /** A request under way; its end goes to `ended`. */
    begin(name: string): Stay {
      const bearer = now.bearers.get(digest(name))
      if (bearer === undefined) throw new Error('not known')
      const arrival = toArrival((cause) => {
        expect(cause).toBeInstanceOf(GatewayError)
        expect(cause).toMatchObject({ code: 'invalid_api_key' })
        ended.push(name)
      })
      return revocations.enter(arrival, bearer)
    },
    hear: (name: string, revoked: boolean) =>
      revocations.learn([{ sha256: digest(name), revoked, atMs: NOON }]),
  }
}

function toArrival(end: Arrival['end']): Arrival {
  return {
    id: 'req_1',
    endpoint: { method: 'POST', path: '/', operation: 'chat', format: 'openai', streams: true },
    bearer: undefined,
    startedMs: 0,
    timeoutMs: undefined,
    signal: new AbortController().signal,
    end,
    address: '',
    traceparent: undefined,
    tracestate: undefined,
    forwarded: [],
    body: { read: () => Promise.reject(new Error('not here')), release: () => {}, stop: () => {} },
  }
}

const BOTH = { ann: undefined, bob: undefined }

describe('a bearer that leaves its file', () => {
  it('takes its own requests with it, all of them, once, and nobody else', () => {
    const stage = create(BOTH)
    for (const name of ['ann', 'bob', 'ann']) stage.begin(name)
    stage.reload({ bob: undefined })
    expect(stage.ended).toEqual(['ann', 'ann'])
    stage.reload({ bob: undefined })
    stage.revocations.check()
    expect(stage.ended).toEqual(['ann', 'ann'])
  })

  it('leaves alone what is over', () => {
    const stage = create(BOTH)
    stage.revocations.leave(stage.begin('ann'))
    stage.reload({ bob: undefined })
    expect(stage.ended).toEqual([])
  })

  it('is told to the others, said in one line and counted once; its digest is in no line', () => {
    const stage = create(BOTH)
    stage.begin('ann')
    stage.reload({ bob: undefined })
    expect(stage.told).toEqual([{ sha256: digest('ann'), revoked: true, atMs: NOON }])
    expect(stage.lines).toEqual([
      { message: 'bearer revoked', agent: 'ann', bearer: 'ann-1', source: 'file', ended: 1 },
    ])
    expect(stage.counted).toEqual(['file'])
    expect(JSON.stringify(stage.lines)).not.toContain(digest('ann'))
  })

  it('and comes back is given back, and that is told', () => {
    const stage = create(BOTH)
    stage.reload({ bob: undefined })
    stage.reload(BOTH)
    expect(stage.refuses('ann')).toBe(false)
    expect(stage.told.map(({ revoked }) => revoked)).toEqual([true, false])
    expect(stage.lines.at(-1)).toMatchObject({ message: 'bearer given back', agent: 'ann' })
    stage.begin('ann')
    stage.revocations.check()
    expect(stage.ended).toEqual([])
  })

  it('is no news when another replica has said so', () => {
    const stage = create(BOTH)
    stage.hear('ann', true)
    stage.reload({ bob: undefined })
    expect(stage.told).toEqual([])
    expect(stage.counted).toEqual(['fleet'])
  })
})

describe('a reload', () => {
  it('that keeps the bearer ends nothing, whatever else of it changes', () => {
    const stage = create(BOTH)
    stage.begin('ann')
    stage.reload({ ann: '2027-01-01', bob: undefined, cyd: undefined })
    stage.reload({ ann: undefined, cyd: undefined })
    stage.revocations.check()
    expect(stage.ended).toEqual([])
    expect(stage.told).toMatchObject([{ sha256: digest('bob'), revoked: true }])
  })

  it('that moves the expiry into the past ends what is under way', () => {
    const stage = create(BOTH)
    stage.begin('ann')
    stage.reload({ ann: '2026-11-20', bob: undefined })
    stage.revocations.check()
    expect(stage.ended).toEqual(['ann'])
  })

  it('whose first configuration lists a revoked bearer does not give it back', () => {
    const stage = create({})
    stage.hear('ann', true)
    const late = createRevocations({ clock: stage.time.clock, log: { info: () => {} }, count: () => {} })
    late.learn([{ sha256: digest('ann'), revoked: true, atMs: NOON }])
    const snapshot = holding(BOTH)
    late.use(snapshot)
    const bearer = snapshot.bearers.get(digest('ann'))
    expect(bearer !== undefined && late.refuses(bearer)).toBe(true)
  })
})

describe('a bearer that another replica has revoked', () => {
  it('is refused here although the file still lists it, through every reload, and its requests end', () => {
    const stage = create(BOTH)
    stage.begin('ann')
    stage.begin('bob')
    stage.hear('ann', true)
    expect(stage.ended).toEqual(['ann'])
    for (const next of [BOTH, { ...BOTH, cyd: undefined }]) {
      stage.reload(next)
      expect(stage.refuses('ann')).toBe(true)
      expect(stage.refuses('bob')).toBe(false)
    }
    expect(stage.told).toEqual([])
    stage.hear('ann', true)
    expect(stage.lines.filter(({ message }) => message === 'bearer revoked')).toEqual([
      { message: 'bearer revoked', agent: 'ann', bearer: 'ann-1', source: 'fleet', ended: 1 },
    ])
  })

  it('is let in again once it was given back there', () => {
    const stage = create(BOTH)
    stage.hear('ann', true)
    stage.hear('ann', false)
    expect(stage.refuses('ann')).toBe(false)
    stage.hear('ann', false)
    expect(stage.lines.map(({ message }) => message)).toEqual(['bearer revoked', 'bearer given back'])
  })

  it('and that nobody knows here is remembered without a word, and given back by a file that newly lists it', () => {
    const stage = create(BOTH)
    stage.hear('cyd', true)
    expect(stage.lines).toEqual([])
    stage.reload({ ...BOTH, cyd: undefined })
    expect(stage.refuses('cyd')).toBe(false)
    expect(stage.told).toMatchObject([{ sha256: digest('cyd'), revoked: false }])
  })
})

describe('a bearer that expires', () => {
  it('ends what is under way at its hour and not before, once', () => {
    const stage = create({ ann: '2026-11-22', bob: '2026-11-23' })
    for (const name of ['ann', 'bob']) stage.begin(name)
    stage.time.stepWall(12 * 3600_000 - 1)
    stage.revocations.check()
    expect(stage.ended).toEqual([])
    expect(stage.refuses('ann')).toBe(false)
    stage.time.stepWall(1)
    expect(stage.refuses('ann')).toBe(true)
    stage.revocations.check()
    stage.revocations.check()
    expect(stage.ended).toEqual(['ann'])
    expect(stage.lines).toEqual([{ message: 'bearer expired', agent: 'ann', bearer: 'ann-1', ended: 1 }])
  })
})

describe('one of several processes, of which another says what becomes of bearers', () => {
  it('says only where requests of its own end', () => {
    const stage = create({ ...BOTH, cyd: undefined }, { quiet: true })
    stage.begin('ann')
    stage.begin('ann')
    stage.begin('cyd')
    stage.reload({ cyd: undefined })
    stage.reload({ ...BOTH, cyd: undefined })
    stage.hear('bob', true)
    stage.hear('bob', false)
    stage.hear('cyd', true)
    expect(stage.lines).toEqual([
      { message: 'requests of a revoked bearer ended', agent: 'ann', bearer: 'ann-1', ended: 2 },
      { message: 'requests of a revoked bearer ended', agent: 'cyd', bearer: 'cyd-1', ended: 1 },
    ])
    expect(stage.ended).toEqual(['ann', 'ann', 'cyd'])
  })
})

describe('what is remembered', () => {
  it('is bounded; the oldest is forgotten first', () => {
    const stage = create({})
    const change = (n: number): Change => ({ sha256: digest(String(n)), revoked: true, atMs: n })
    for (let from = 0; from < MOST_REVOKED + 1000; from += 1000)
      stage.revocations.learn(Array.from({ length: 1000 }, (_, i) => change(from + i)))
    expect(stage.revocations.known.size).toBe(MOST_REVOKED)
    expect(stage.revocations.known.has(digest('999'))).toBe(false)
    expect(stage.revocations.known.has(digest('1000'))).toBe(true)
  })
})
