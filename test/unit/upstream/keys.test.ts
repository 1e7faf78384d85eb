import { describe, expect, it } from 'vitest'
import { createKeys, type Key } from '../../../src/upstream/keys.ts'
import { createManualClock } from '../../support/manual-clock.ts'
import { makeProvider } from './stage.ts'

const PROVIDER = makeProvider('p', { keys: ['env:ONE', 'env:TWO'] })

function create(secrets: Record<string, string> = { 'env:ONE': 'value-1', 'env:TWO': 'value-2' }) {
  const time = createManualClock({ nowMs: 1000 })
  const keys = createKeys({ clock: time.clock, reveal: (reference) => secrets[reference] })
  const next = (provider = PROVIDER): string | undefined => {
    const key = keys.next(provider)
    return key === undefined || key === 'parked' ? key : key.value
  }
  return { time, keys, next, secrets }
}

const ONE: Key = { reference: 'env:ONE', value: 'value-1' }
const TWO: Key = { reference: 'env:TWO', value: 'value-2' }

describe('the keys of a provider', () => {
  it('go in turn', () => {
    const { next } = create()
    expect([next(), next(), next(), next()]).toEqual(['value-1', 'value-2', 'value-1', 'value-2'])
  })

  it('are the same for a cache key, whoever comes in between, and all of them over many', () => {
    const { keys, next } = create()
    const keyFor = (cacheKey: string): string => (keys.next(PROVIDER, cacheKey) as Key).value
    const seen = new Set<string>()
    for (let i = 0; i < 50; i += 1) {
      const first = keyFor(`session-${i}`)
      next()
      expect(keyFor(`session-${i}`)).toBe(first)
      seen.add(first)
    }
    expect(seen.size).toBe(2)
    // One that is parked is left out for them as well.
    keys.park(PROVIDER, ONE, 60_000)
    for (let i = 0; i < 50; i += 1) expect(keyFor(`session-${i}`)).toBe('value-2')
  })

  it('are not needed where none is configured', () => {
    const { keys } = create()
    expect(keys.next(makeProvider('open'))).toBeUndefined()
    expect(keys.parkedMs(makeProvider('open'))).toBe(0)
  })

  it('leave out one that is parked, until its time is over', () => {
    const { keys, next, time } = create()
    keys.park(PROVIDER, ONE, 60_000)
    expect([next(), next()]).toEqual(['value-2', 'value-2'])
    expect(keys.hasAnother(PROVIDER)).toBe(true)
    time.advance(60_000)
    expect([next(), next()].sort()).toEqual(['value-1', 'value-2'])
  })

  it('are parked when all of them are, and tell how long', () => {
    const { keys, next, time } = create()
    keys.park(PROVIDER, ONE, 60_000)
    expect(keys.parkedMs(PROVIDER)).toBe(0)
    keys.park(PROVIDER, TWO, 20_000)
    expect(next()).toBe('parked')
    expect(keys.hasAnother(PROVIDER)).toBe(false)
    expect(keys.parkedMs(PROVIDER)).toBe(20_000)
    time.advance(20_000)
    expect(keys.parkedMs(PROVIDER)).toBe(0)
    expect(next()).toBe('value-2')
  })

  it('are usable at once when they have been replaced', () => {
    const { keys, next, secrets } = create({ 'env:ONE': 'value-1' })
    keys.park(PROVIDER, ONE, 60_000)
    expect(next()).toBe('parked')
    secrets['env:ONE'] = 'value-3'
    expect(next()).toBe('value-3')
  })

  it('are not parked for what their predecessor did while they came', () => {
    const { keys, next, secrets } = create({ 'env:ONE': 'value-1' })
    secrets['env:ONE'] = 'value-3'
    keys.park(PROVIDER, ONE, 60_000)
    expect(next()).toBe('value-3')
  })

  it('are left out when they could not be loaded', () => {
    const { keys, next } = create({ 'env:TWO': 'value-2' })
    expect([next(), next()]).toEqual(['value-2', 'value-2'])
    keys.park(PROVIDER, TWO, 1000)
    expect(keys.hasAnother(PROVIDER)).toBe(false)
    expect(next()).toBe('parked')
    expect(create({}).keys.parkedMs(PROVIDER)).toBe(0)
  })

  it('are taken out of an answer by what is made once, and anew when they have been replaced', () => {
    const { keys, secrets } = create({ 'env:ONE': 'the-key-1', 'env:TWO': 'the-key-2' })
    const redact = keys.redact(PROVIDER)
    expect(keys.redact(PROVIDER)).toBe(redact)
    expect(redact?.(Buffer.from('the-key-1 the-key-2 the-key-3')).toString()).toBe(
      '[redacted] [redacted] the-key-3',
    )
    secrets['env:TWO'] = 'the-key-3'
    expect(keys.redact(PROVIDER)?.(Buffer.from('the-key-1 the-key-2 the-key-3')).toString()).toBe(
      '[redacted] the-key-2 [redacted]',
    )
    expect(keys.redact(makeProvider('open'))).toBeUndefined()
  })

  it('cannot be taken away for ever by what a provider says', () => {
    const { keys, next, time } = create({ 'env:ONE': 'value-1' })
    keys.park(PROVIDER, ONE, Number.MAX_SAFE_INTEGER)
    time.advance(600_000)
    expect(next()).toBe('value-1')
  })

  it('are parked at the provider that refused them: the same key may do at another', () => {
    const { keys, next } = create()
    const other = makeProvider('q', { keys: ['env:TWO', 'env:ONE'] })
    expect([next(), next(other), next(), next(other)]).toEqual(['value-1', 'value-2', 'value-2', 'value-1'])
    keys.park(PROVIDER, ONE, 1000)
    expect([next(), next()]).toEqual(['value-2', 'value-2'])
    expect([next(other), next(other)]).toEqual(['value-2', 'value-1'])
  })

  it('may be left alone for one model of `provider/*` alone', () => {
    const { keys, time } = create()
    keys.limit(PROVIDER, ONE, { model: 'a', ms: 30_000 })
    const four = (model?: string) =>
      Array.from({ length: 4 }, () => (keys.next(PROVIDER, undefined, model) as Key).value)
    expect(new Set(four('a'))).toEqual(new Set(['value-2']))
    expect([new Set(four('b')).size, new Set(four()).size]).toEqual([2, 2])
    keys.limit(PROVIDER, TWO, { model: 'a', ms: 20_000 })
    expect([keys.next(PROVIDER, undefined, 'a'), keys.hasAnother(PROVIDER, 'a')]).toEqual(['parked', false])
    expect([keys.parkedMs(PROVIDER, 'a'), keys.parkedMs(PROVIDER, 'b'), keys.parkedMs(PROVIDER)]).toEqual([
      20_000, 0, 0,
    ])
    time.advance(20_000)
    expect(four('a')).toEqual(Array(4).fill('value-2'))
    // Where there are no models it is all of them.
    keys.limit(PROVIDER, TWO, { model: undefined, ms: 5_000 })
    expect([keys.parkedMs(PROVIDER, 'a'), keys.parkedMs(PROVIDER, 'b')]).toEqual([5_000, 0])
  })

  it('are left alone for 256 models at most: of more, the first is forgotten', () => {
    const { keys } = create({ 'env:ONE': 'value-1' })
    const provider = makeProvider('p', { keys: ['env:ONE'] })
    for (let i = 0; i <= 256; i += 1) keys.limit(provider, ONE, { model: `m${i}`, ms: 60_000 })
    expect([0, 1, 256].map((i) => keys.next(provider, undefined, `m${i}`))).toEqual([ONE, 'parked', 'parked'])
  })
})

describe('the hours of keys', () => {
  const NIGHT = makeProvider('n', { keys: ['env:ONE', 'env:TWO'], keyHours: { from: 22, to: 6 } })
  const atHour = (hour: number) => {
    const time = createManualClock({ wallMs: Date.UTC(2027, 0, 1, hour) })
    return { time, keys: createKeys({ clock: time.clock, reveal: () => 'value' }) }
  }

  it('have each use outside of them counted, key by key, and none within', () => {
    const { keys, time } = atHour(21)
    expect(keys.used(NIGHT, ONE)).toBe('env:ONE')
    expect(keys.used(NIGHT, ONE)).toBe('env:ONE')
    // A local server without a key, and a provider whose keys have no hours.
    expect(keys.used(NIGHT, undefined)).toBeUndefined()
    expect(keys.used(PROVIDER, ONE)).toBeUndefined()
    time.advance(3_600_000)
    expect(keys.used(NIGHT, TWO)).toBeUndefined()
    expect(keys.usesOutsideHours([PROVIDER, NIGHT])).toEqual([
      { provider: 'n', secret: 'env:ONE', uses: 2 },
      { provider: 'n', secret: 'env:TWO', uses: 0 },
    ])
  })

  it('are counted for those that have them still, and for others from nothing', () => {
    const { keys } = atHour(12)
    keys.used(NIGHT, ONE)
    expect(keys.usesOutsideHours([PROVIDER])).toEqual([])
    expect(keys.usesOutsideHours([NIGHT]).map(({ uses }) => uses)).toEqual([0, 0])
  })

  it('refuse nothing', () => {
    const { keys } = atHour(12)
    expect(keys.next(NIGHT)).toEqual({ reference: 'env:ONE', value: 'value' })
    expect([keys.parkedMs(NIGHT), keys.hasAnother(NIGHT)]).toEqual([0, true])
  })
})
