import { describe, expect, it } from 'vitest'
import { createBatch } from '../../../src/bytes/batch.ts'

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('a batch', () => {
  it('is run behind the turn in which it came up, in its order', async () => {
    const run: string[] = []
    const batch = createBatch((item: string) => run.push(item))
    for (const item of ['a', 'b', 'a']) batch.add(item)
    await Promise.resolve()
    expect(run).toEqual([])
    await turn()
    expect(run).toEqual(['a', 'b', 'a'])
    await turn()
    expect(run).toHaveLength(3)
  })

  it('leaves what is added while it runs to the next turn', async () => {
    const run: number[] = []
    const batch = createBatch((item: number) => {
      run.push(item)
      if (item < 3) batch.add(item + 1)
    })
    batch.add(1)
    for (const seen of [[1], [1, 2], [1, 2, 3], [1, 2, 3]]) {
      await turn()
      expect(run).toEqual(seen)
    }
  })

  it('runs one at once after some turns in which there was no other, and waits again after one with two', async () => {
    const run: string[] = []
    const batch = createBatch((item: string) => run.push(item), { aloneAfter: 2 })
    for (const isAtOnce of [false, false, true, true]) {
      batch.add('alone')
      expect(run.length).toBe(isAtOnce ? 1 : 0)
      await turn()
      expect(run.splice(0)).toEqual(['alone'])
    }
    for (const item of ['a', 'b', 'c']) batch.add(item)
    expect(run).toEqual(['a'])
    await turn()
    expect(run.splice(0)).toEqual(['a', 'b', 'c'])
    batch.add('d')
    expect(run).toEqual([])
    await turn()
    expect(run).toEqual(['d'])
  })

  it('keeps nothing from the others when one fails, and hides no failure', async () => {
    const run: number[] = []
    const batch = createBatch((item: number) => {
      if (item === 2) throw new Error('a defect')
      run.push(item)
    })
    const listeners = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    const thrown = new Promise((resolve) => process.once('uncaughtException', resolve))
    try {
      for (const item of [1, 2, 3]) batch.add(item)
      expect(await thrown).toEqual(new Error('a defect'))
    } finally {
      for (const listener of listeners) process.on('uncaughtException', listener)
    }
    expect(run).toEqual([1, 3])
    batch.add(4)
    await turn()
    expect(run).toEqual([1, 3, 4])
  })
})
