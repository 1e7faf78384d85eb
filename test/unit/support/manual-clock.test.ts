// Time by hand.

import { expect, test } from 'vitest'
import { createManualClock } from '../../support/manual-clock.ts'

test('runs what falls due in order, each at its own moment', () => {
  const { clock, timers, advance } = createManualClock({ wallMs: 1_000 })
  const ran: string[] = []
  timers.set(20, () => ran.push(`b${clock.now()}`))
  timers.set(10, () => {
    ran.push(`a${clock.now()}`)
    timers.set(5, () => ran.push(`nested${clock.now()}`))
  })
  timers.set(20, () => ran.push(`c${clock.now()}`))
  timers.clear(timers.set(1, () => ran.push('cleared')))
  advance(19)
  expect(ran).toEqual(['a10', 'nested15'])
  advance(1)
  expect(ran).toEqual(['a10', 'nested15', 'b20', 'c20'])
  expect([clock.now(), clock.wall()]).toEqual([20, 1_020])
})

test('lets promises settle between timers', async () => {
  const { clock, timers, advanceAsync, stepWall } = createManualClock({ nowMs: 5, wallMs: 100 })
  const ran: number[] = []
  const loop = async (): Promise<void> => {
    for (let i = 0; i < 3; i++) {
      await new Promise<void>((resolve) => timers.set(10, resolve))
      ran.push(clock.now())
    }
  }
  const done = loop()
  await advanceAsync(30)
  await done
  expect(ran).toEqual([15, 25, 35])
  stepWall(-50)
  expect([clock.now(), clock.wall()]).toEqual([35, 80])
})
