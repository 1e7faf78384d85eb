import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createBag, type Seat } from '../../../src/bytes/bag.ts'

describe('a bag', () => {
  it('holds what was taken in and not let go, whatever the order', () => {
    const step = fc.record({ isIn: fc.boolean(), which: fc.nat(20) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const bag = createBag<{ readonly n: number }>()
        const seats: Seat<{ readonly n: number }>[] = []
        const there = new Set<number>()
        for (const [n, { isIn, which }] of steps.entries()) {
          if (isIn) {
            seats.push(bag.add({ n }))
            there.add(n)
          } else {
            const seat = seats[which]
            if (seat === undefined) continue
            const gone = seat.item?.n
            bag.remove(seat)
            if (gone !== undefined) there.delete(gone)
          }
          expect(bag.size).toBe(there.size)
        }
        expect(new Set(bag.list().map(({ n }) => n))).toEqual(there)
      }),
    )
  })

  it('lets go of a thing, and of nothing else, however often its seat is given back', () => {
    const bag = createBag<string>()
    const [a, b] = [bag.add('a'), bag.add('b')]
    bag.remove(a)
    bag.remove(a)
    expect(bag.list()).toEqual(['b'])
    expect(a.item).toBeUndefined()
    bag.remove(b)
    expect(bag.size).toBe(0)
  })
})
