import { expect, it, vi } from 'vitest'
import { createLater } from '../../../src/bytes/later.ts'

it('what is loaded later is loaded once, and takes the calls that waited for it in their order', async () => {
  const calls: string[] = []
  let loads = 0
  const arrived = Promise.withResolvers<(what: string) => void>()
  const later = createLater(
    () => {
      loads += 1
      return arrived.promise
    },
    () => calls.push('failed'),
  )
  later.call('a')
  later.call('b')
  expect(calls).toEqual([])
  arrived.resolve((what) => calls.push(what))
  await vi.waitFor(() => expect(calls).toEqual(['a', 'b']))
  later.call('c')
  expect([calls, loads]).toEqual([['a', 'b', 'c'], 1])
})

it('what could not be loaded is tried again by the next call', async () => {
  const calls: string[] = []
  let loads = 0
  const later = createLater<[string]>(
    () => {
      loads += 1
      return loads === 1
        ? Promise.reject(new Error('too many open files'))
        : Promise.resolve((what) => calls.push(what))
    },
    (_, what) => calls.push(`failed ${what}`),
  )
  later.call('a')
  await vi.waitFor(() => expect(calls).toEqual(['failed a']))
  later.call('b')
  await vi.waitFor(() => expect(calls).toEqual(['failed a', 'b']))
})

it('a call for what cannot be loaded is told so', async () => {
  const told: unknown[] = []
  const later = createLater<[string]>(
    () => Promise.reject(new Error('no such file')),
    (error, what) => told.push(what, error),
  )
  later.call('a')
  await vi.waitFor(() => expect(told).toHaveLength(2))
  expect(told).toEqual(['a', new Error('no such file')])
})
