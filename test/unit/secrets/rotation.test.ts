import { describe, expect, it } from 'vitest'
import type { SecretState } from '../../../src/secrets/keyring.ts'
import { createRotationWatch, overdueText, rotationsOf } from '../../../src/secrets/rotation.ts'
import { createManualClock } from '../../support/manual-clock.ts'
import { makeProvider } from '../upstream/stage.ts'

const DAY_MS = 86_400_000
const snapshotOf = (...providers: ReturnType<typeof makeProvider>[]) => ({
  providers: new Map(providers.map((one) => [one.name, one])),
})
const SNAPSHOT = snapshotOf(
  makeProvider('a', { keys: ['file:/k', 'file:/l'], rotateMs: 90 * DAY_MS }),
  makeProvider('b', { keys: ['file:/k'], rotateMs: 30 * DAY_MS }),
  makeProvider('c', { keys: ['file:/k', 'file:/m'] }),
)
const state = (reference: string, sinceMs: number | undefined): SecretState => ({
  reference,
  source: 'file',
  fingerprint: undefined,
  sinceMs,
  problem: undefined,
})

it('a secret that several name has the shortest of their rotations; one without any has none', () => {
  expect(rotationsOf(SNAPSHOT)).toEqual([
    { secret: 'file:/k', rotateMs: 30 * DAY_MS },
    { secret: 'file:/l', rotateMs: 90 * DAY_MS },
  ])
})

it.each([
  [90 * DAY_MS, 90 * DAY_MS, undefined],
  [90 * DAY_MS, 90 * DAY_MS + 1, '90 days old and should have been replaced at 90 days'],
  [60_000, 61_000, '1 minute old and should have been replaced at 1 minute'],
  [3_600_000, 47 * 3_600_000, '47 hours old and should have been replaced at 60 minutes'],
])('with a rotation of %d ms a secret of %d ms is told of as: %s', (rotateMs, ageMs, words) => {
  const text = overdueText({ secret: 'file:/k', rotateMs }, ageMs)
  if (words === undefined) expect(text).toBeUndefined()
  else expect(text).toBe(`file:/k: is ${words} (apiKey.rotate)`)
})

describe('the watch', () => {
  function create() {
    const time = createManualClock({ wallMs: 1_000 * DAY_MS })
    const said: string[] = []
    const world = { states: [] as SecretState[], snapshot: SNAPSHOT }
    const watch = createRotationWatch({
      keyring: { states: () => world.states },
      snapshot: () => world.snapshot,
      clock: time.clock,
      warn: (message) => said.push(message),
    })
    /** What is said by a look now. */
    const look = () => {
      watch.check()
      return said.splice(0)
    }
    return { time, world, look }
  }
  const old = expect.stringMatching(/^file:\/k: is 3\d days old/)

  it('tells of what is too old once a day, from the moment it is', () => {
    const { time, world, look } = create()
    world.states = [state('file:/k', 970 * DAY_MS), state('file:/l', 970 * DAY_MS), state('file:/m', 0)]
    expect(look()).toEqual([])
    time.advance(60_000)
    expect(look()).toEqual([old])
    time.advance(60_000)
    expect(look()).toEqual([])
    time.advance(DAY_MS)
    expect(look()).toEqual([old])
  })

  it('tells at once of one that was replaced and is too old again, and of one whose rotation is new', () => {
    const { time, world, look } = create()
    world.states = [state('file:/k', 960 * DAY_MS)]
    expect(look()).toHaveLength(1)
    world.states = [state('file:/k', 1_000 * DAY_MS)]
    expect(look()).toEqual([])
    world.states = [state('file:/k', 960 * DAY_MS)]
    time.advance(1_000)
    expect(look()).toHaveLength(1)
    world.states = [state('file:/m', 960 * DAY_MS), state('file:/k', undefined)]
    expect(look()).toEqual([])
    world.snapshot = snapshotOf(makeProvider('c', { keys: ['file:/m'], rotateMs: DAY_MS }))
    expect(look()).toEqual([expect.stringContaining('file:/m: is 40 days old')])
  })
})
